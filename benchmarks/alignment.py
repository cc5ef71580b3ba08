"""Learning from preferences and from rewards beside TRL: one checkpoint, equal data, batch and precision.

    python -m benchmarks.alignment [--models 10M] [--only dpo grpo ppo] [--rounds 3] [--answers 128] [--pairs 16]
                                   [--memory] [--parts] [--out FILE]

The checkpoint has random weights of Qwen3's shape; questions and pairs are real ones (999 instructions, 300 preference
pairs), cut to the context. A step of DPO has 16 pairs, the reference's log-probabilities cached on both sides. An
iteration of GRPO samples 128 answers of 64 tokens, 8 to a question, scores them by their length and makes one update.
TRL 1.16 has no PPO any more: an iteration of ours, with its value model, stands beside the loop that people write with
transformers' `generate` ("plain"), and beside TRL's RLOO, which has no value model and no reference. Float32, AdamW,
two threads; rounds are interleaved and ratios are taken within a round. Random weights hardly ever end an answer, so
all sample as many tokens. Memory is what a process of its own grows by. `--parts` times nothing of the peers' but says
in processor time of one thread where an iteration of ours goes, beside the matrix products that it cannot do without.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import seedbed  # noqa: F401  (how threads wait is settled before torch comes)

# isort: split
import torch

from benchmarks.generation import MODELS, THREADS
from benchmarks.measuring import CLOCKS, circumstances, grown_by, interleaved, ratios, seconds, spread, write_results
from benchmarks.plain_ppo import plain_ppo
from benchmarks.texts import SHARED
from seedbed.alignment.dpo import DPOConfig, DPOObjective, reference_logprobs
from seedbed.alignment.grpo import GroupBatches, GRPOConfig, GRPOObjective
from seedbed.alignment.online import OnlineBatches, OnlineConfig
from seedbed.alignment.ppo import ActorCritic, PPOConfig, PPOObjective, RolloutBatches
from seedbed.alignment.reward_model import RewardModel
from seedbed.alignment.rollouts import Answer, Reference
from seedbed.core.console import table
from seedbed.core.errors import DataError
from seedbed.core.randomness import torch_generator
from seedbed.datasets.preferences import encode_preferences, read_preferences
from seedbed.datasets.prompts import read_prompts
from seedbed.datasets.shared_prompts import SharedPromptBatches
from seedbed.finetuning.instruct import load_decoder
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import Tokenizer, train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS, END_OF_TURN, PAD

CONTEXT, GROUP, NEW = 512, 8, 64
SIZES = {"10M": MODELS["10M"], "60M": {**MODELS["30M"], "hidden_size": 640, "layers": 11, "intermediate_size": 1792}}
Step = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Work:
    """Where the checkpoint lies, how much a step has of pairs and of answers, what is asked, and what runs it."""

    folder: Path
    pairs: int
    answers: int
    questions: Sequence[str] = dataclasses.field(default_factory=lambda: _questions())
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def checkpoint(name: str, folder: Path) -> None:
    texts = [str(row["prompt"]) + " " + str(row["answer"]) for row in _prompts()]
    tokenizer = train_bpe(texts, vocab_size=SIZES[name]["vocab_size"], special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token=END_OF_TURN, pad_token=PAD, chat_template=CHATML)
    config = ModelConfig(
        **{**SIZES[name], "vocab_size": tokenizer.vocab_size}, context_length=CONTEXT,
        eos_token_id=tokenizer.token_to_id(END_OF_TURN), pad_token_id=tokenizer.token_to_id(PAD),
    )  # fmt: skip
    save_model(Decoder(config), folder, tokenizer)


def _prompts() -> list[dict[str, Any]]:
    return read_prompts(SHARED / "instructions/alpaca_en_demo.json").rows


def _questions() -> list[str]:
    return [row["prompt"] for row in _prompts() if isinstance(row["prompt"], str) and len(row["prompt"]) < 400]


def _pairs() -> list[dict[str, Any]]:
    return read_preferences(SHARED / "preferences/dpo_en_demo.json").rows


def by_length(answers: Sequence[Answer]) -> np.ndarray:
    return np.array([len(one.text) for one in answers], np.float32)


def our_dpo(work: Work) -> Step:
    folder = work.folder
    policy, tokenizer = load_decoder(folder), Tokenizer.load(folder)
    end_id, pad_id = policy.config.eos_token_id, policy.config.pad_token_id
    assert end_id is not None
    assert pad_id is not None
    pairs = encode_preferences(_pairs(), tokenizer, CONTEXT, end_id)
    batches = SharedPromptBatches(pairs, work.pairs, pad_id, 0, reference_logprobs(policy, pairs, pad_id))
    optimizer, objective = torch.optim.AdamW(policy.parameters(), lr=1e-5), DPOObjective(DPOConfig())
    stream = iter(batches)
    return partial(_update, policy, optimizer, objective, stream)


def _update(model: torch.nn.Module, optimizer: torch.optim.Optimizer, objective: Any, stream: Any) -> None:
    total, count, _ = objective.loss(model.train(), next(stream))
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def our_online(work: Work, method: str) -> Step:
    model, objective, batches = our_parts(work, method)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-5)
    return partial(_update, model, optimizer, objective, batches)


def our_parts(work: Work, method: str) -> tuple[torch.nn.Module, GRPOObjective | PPOObjective, OnlineBatches]:
    folder, questions = work.folder, list(work.questions)
    policy, tokenizer = load_decoder(folder).to(work.device, work.dtype), Tokenizer.load(folder)
    shape: dict[str, Any] = {
        "rollouts": work.answers, "epochs": 1, "minibatches": 1, "max_new_tokens": NEW, "accumulation": 1,
    }  # fmt: skip
    config: OnlineConfig
    batches: OnlineBatches
    model: torch.nn.Module
    objective: GRPOObjective | PPOObjective
    reference = Reference(policy)
    if method == "grpo":
        # As TRL with beta 0, which has no reference then.
        config = GRPOConfig(**shape, group=GROUP, compare_every=1 << 30)
        model, objective = policy, GRPOObjective(config)
        batches = GroupBatches(config, policy, reference, by_length, tokenizer, questions)
    else:
        config = PPOConfig(**shape, compare_every=1 << 30)
        model = ActorCritic(policy, RewardModel.from_decoder(load_decoder(folder), torch_generator(0, "head")))
        objective = PPOObjective(config)
        batches = RolloutBatches(config, model, reference, by_length, tokenizer, questions)
    return model, objective, batches


def _settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"), "use_cpu": True, "report_to": [], "bf16": False, "learning_rate": 1e-5,
        "save_strategy": "no", "logging_strategy": "no", "gradient_checkpointing": False, "disable_tqdm": True,
    } | more  # fmt: skip


def trl_dpo(work: Work) -> Step:
    folder = work.folder
    from datasets import Dataset
    from trl import DPOConfig as TheirConfig
    from trl import DPOTrainer

    pairs = [_as_messages(row) for row in _kept(folder)]
    config = TheirConfig(
        **_settings(folder, per_device_train_batch_size=work.pairs, precompute_ref_log_probs=True, max_length=CONTEXT)
    )
    model, tokenizer = _theirs(folder)
    trainer = DPOTrainer(model, args=config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)
    return _their_step(trainer)


def _kept(folder: Path) -> list[dict[str, Any]]:
    """The pairs that fit the context: neither side is given the others."""
    tokenizer = Tokenizer.load(folder)
    kept = []
    for row in _pairs():
        try:
            encode_preferences([row], tokenizer, CONTEXT, 1)
        except DataError:
            continue
        kept.append(row)
    return kept


def _as_messages(row: dict[str, Any]) -> dict[str, Any]:
    prompt = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    sides = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    return {"prompt": prompt, **sides}


def trl_online(work: Work, method: str) -> Step:
    import trl
    from datasets import Dataset

    folder = work.folder
    settings = _settings(
        folder, per_device_train_batch_size=work.answers, num_generations=GROUP, max_completion_length=NEW, beta=0.0,
        temperature=1.0, steps_per_generation=1, use_cpu=work.device == "cpu", bf16=work.dtype == torch.bfloat16,
    )  # fmt: skip
    prompts = Dataset.from_list([{"prompt": [{"role": "user", "content": one}]} for one in work.questions])
    model, tokenizer = _theirs(folder, work.dtype)
    config: Any = trl.GRPOConfig if method == "grpo" else trl.RLOOConfig
    trainer: Any = trl.GRPOTrainer if method == "grpo" else trl.RLOOTrainer
    made = trainer(
        model, reward_funcs=_their_length, args=config(**settings), train_dataset=prompts, processing_class=tokenizer
    )
    return _their_step(made)


def _their_length(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(one[0]["content"])) for one in completions]


def _theirs(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return model, AutoTokenizer.from_pretrained(folder)


def _their_step(trainer: Any) -> Step:
    """One of their steps as their loop makes it, without its logging."""
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batches = itertools.cycle(trainer.get_train_dataloader())

    def step() -> None:
        trainer.training_step(trainer.model, next(batches), None)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.model.zero_grad(set_to_none=True)
        trainer.state.global_step += 1

    return step


Maker = Callable[[Work], Step]
MAKERS: dict[str, dict[str, Maker]] = {
    "dpo": {"ours": our_dpo, "trl": trl_dpo},
    "grpo": {"ours": partial(our_online, method="grpo"), "trl": partial(trl_online, method="grpo")},
    "ppo": {
        "ours": partial(our_online, method="ppo"),
        "plain": lambda work: plain_ppo(work.folder, _questions(), work.answers, NEW),
        "trl rloo": partial(trl_online, method="rloo"),
    },
}


def _peak(work: Work, side: str, kind: str) -> float:
    """Megabytes that a process of its own grows by over two steps."""
    sizes = ["--pairs", str(work.pairs), "--answers", str(work.answers)]
    command = [sys.executable, "-m", "benchmarks.alignment", *sizes, "--job", side, kind, str(work.folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.strip().splitlines()[-1])


def _job(side: str, kind: str, work: Work) -> None:
    torch.set_num_threads(THREADS)

    def steps() -> None:
        step = MAKERS[kind][side](work)
        step()
        step()

    print(grown_by(steps))


def measure(name: str, work: Work, kinds: Sequence[str], rounds: int, memory: bool) -> list[dict[str, Any]]:
    rows = []
    for kind in kinds:
        steps = {side: make(work) for side, make in MAKERS[kind].items()}
        for step in steps.values():
            step()  # what is made at first is not the step's
        times = interleaved(steps, rounds)
        found = {side: ratios(times["ours"], one) for side, one in times.items() if side != "ours"}
        row: dict[str, Any] = {
            "model": name, "kind": kind, "pairs": work.pairs, "answers": work.answers, "seconds": times, "ratio": found,
        }  # fmt: skip
        if memory:
            row["megabytes"] = {side: _peak(work, side, kind) for side in steps}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def parts(name: str, work: Work, kind: str) -> dict[str, Any]:
    """Processor seconds of one thread of the parts of an iteration, and of the products that its update and its looks
    at reference and value model cannot do without."""
    torch.set_num_threads(1)
    model, objective, batches = our_parts(work, kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    clock, found = CLOCKS["processor"], {}
    for _ in range(2):  # the first makes what later ones have
        started = clock()
        batch = next(batches)
        found["answers"] = clock() - started  # sampled and, by PPO, looked at by reference and value model
        total: list[torch.Tensor] = []
        found["update, forward"] = seconds(partial(_forward, model, objective, batch, total), clock)
        found["update, backward"] = seconds(total[0].backward, clock)
        found["clipping and AdamW"] = seconds(partial(_finish, model, optimizer), clock)
    tokens = int(batch.mask_BT.sum())
    found["products of the update alone"] = seconds(partial(_products, model, tokens), clock)
    if isinstance(model, ActorCritic):  # the reference is of the policy's size
        found["products of two looks alone"] = seconds(partial(_products, model, tokens, forward_alone=True), clock)
    return {"model": name, "kind": f"parts of {kind}", "answer_tokens": tokens, "seconds": found}


def _forward(model: torch.nn.Module, objective: Any, batch: Any, into: list[torch.Tensor]) -> None:
    into.append(objective.loss(model.train(), batch)[0])


def _finish(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _products(model: torch.nn.Module, tokens: int, *, forward_alone: bool = False) -> None:
    """What no update of so many tokens can do without: each weight's product forward, and both backward."""
    looked_up = {model.body.embedding.weight} if isinstance(model, ActorCritic) else set()  # a value model has no head
    for weight in [one for one in model.parameters() if one.dim() == 2 and one not in looked_up]:
        outputs, inputs = weight.shape
        x_NI, gradient_NO = torch.ones(tokens, inputs), torch.ones(tokens, outputs)
        x_NI @ weight.T
        if not forward_alone:
            gradient_NO @ weight, gradient_NO.T @ x_NI


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["10M"], choices=list(SIZES))
    parser.add_argument("--only", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answers", type=int, default=128, help="of an iteration, 8 to a question")
    parser.add_argument("--pairs", type=int, default=16, help="of a step of DPO")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--parts", action="store_true", help="where an iteration of ours goes, and nothing else")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        _job(options.job[0], options.job[1], Work(Path(options.job[2]), options.pairs, options.answers))
        return
    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint(name, Path(scratch))
            work = Work(Path(scratch), options.pairs, options.answers)
            if options.parts:
                for kind in (one for one in options.only if one != "dpo"):
                    rows.append(parts(name, work, kind))
                    taken = [(key, f"{one:.2f}") for key, one in rows[-1]["seconds"].items()]
                    table((f"part of {kind}", "processor seconds"), taken)
            else:
                rows += measure(name, work, options.only, options.rounds, options.memory)
    if not options.parts:
        show_table(rows)
    if options.out:
        write_results(options.out, {**circumstances(["torch", "transformers", "trl"]), "rows": rows})


def show_table(rows: Sequence[dict[str, Any]]) -> None:
    shown = []
    for row in rows:
        for side, times in row["seconds"].items():
            ratio = spread(row["ratio"][side], 2) if side in row["ratio"] else ""
            memory = f"{row['megabytes'][side]:,.0f}" if "megabytes" in row else ""
            shown.append((row["model"], row["kind"], side, spread(times, 2), ratio, memory))
    table(("model", "step", "by", "seconds", "ours is times as fast", "MB"), shown)


if __name__ == "__main__":
    main()
