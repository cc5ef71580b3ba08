"""Learning from preferences and from rewards beside TRL: one checkpoint, equal data, batch and precision.

    python -m benchmarks.alignment [--models 10M] [--only dpo grpo ppo] [--rounds 3] [--memory] [--out FILE]

The checkpoint has random weights of Qwen3's shape; questions and pairs are real ones (999 instructions, 300 preference
pairs), cut to the context. A step of DPO has 16 pairs, the reference's log-probabilities cached on both sides. An
iteration of GRPO samples 128 answers of 64 tokens, 8 to a question, scores them by their length and makes one update.
TRL 1.16 has no PPO any more: ours, with its value model, stands beside TRL's RLOO, which has none. Float32, AdamW, two
threads; rounds are interleaved and ratios are taken within a round. Random weights hardly ever end an answer, so both
sides sample as many tokens. Memory is what a process of its own grows by.
"""

from __future__ import annotations

import argparse
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
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, spread, write_results
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

CONTEXT, ANSWERS, GROUP, NEW, PAIRS = 512, 128, 8, 64, 16
SIZES = {"10M": MODELS["10M"], "60M": {**MODELS["30M"], "hidden_size": 640, "layers": 11, "intermediate_size": 1792}}
Step = Callable[[], object]


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


def our_dpo(folder: Path) -> Step:
    policy, tokenizer = load_decoder(folder), Tokenizer.load(folder)
    end_id, pad_id = policy.config.eos_token_id, policy.config.pad_token_id
    assert end_id is not None
    assert pad_id is not None
    pairs = encode_preferences(_pairs(), tokenizer, CONTEXT, end_id)
    batches = SharedPromptBatches(pairs, PAIRS, pad_id, 0, reference_logprobs(policy, pairs, pad_id))
    optimizer, objective = torch.optim.AdamW(policy.parameters(), lr=1e-5), DPOObjective(DPOConfig())
    stream = iter(batches)
    return partial(_update, policy, optimizer, objective, stream)


def _update(model: torch.nn.Module, optimizer: torch.optim.Optimizer, objective: Any, stream: Any) -> None:
    total, count, _ = objective.loss(model.train(), next(stream))
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def our_online(folder: Path, method: str) -> Step:
    policy, tokenizer = load_decoder(folder), Tokenizer.load(folder)
    shape: dict[str, Any] = {
        "rollouts": ANSWERS, "epochs": 1, "minibatches": 1, "max_new_tokens": NEW, "accumulation": 1,
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
        batches = GroupBatches(config, policy, reference, by_length, tokenizer, _questions())
    else:
        config = PPOConfig(**shape)
        model = ActorCritic(policy, RewardModel.from_decoder(load_decoder(folder), torch_generator(0, "head")))
        objective = PPOObjective(config)
        batches = RolloutBatches(config, model, reference, by_length, tokenizer, _questions())
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-5)
    return partial(_update, model, optimizer, objective, batches)


def _settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"), "use_cpu": True, "report_to": [], "bf16": False, "learning_rate": 1e-5,
        "save_strategy": "no", "logging_strategy": "no", "gradient_checkpointing": False, "disable_tqdm": True, **more,
    }  # fmt: skip


def trl_dpo(folder: Path) -> Step:
    from datasets import Dataset
    from trl import DPOConfig as TheirConfig
    from trl import DPOTrainer

    pairs = [_as_messages(row) for row in _kept(folder)]
    config = TheirConfig(
        **_settings(folder, per_device_train_batch_size=PAIRS, precompute_ref_log_probs=True, max_length=CONTEXT)
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


def trl_online(folder: Path, method: str) -> Step:
    import trl
    from datasets import Dataset

    settings = _settings(
        folder, per_device_train_batch_size=ANSWERS, num_generations=GROUP, max_completion_length=NEW, beta=0.0,
        temperature=1.0, steps_per_generation=1,
    )  # fmt: skip
    prompts = Dataset.from_list([{"prompt": [{"role": "user", "content": one}]} for one in _questions()])
    model, tokenizer = _theirs(folder)
    config: Any = trl.GRPOConfig if method == "grpo" else trl.RLOOConfig
    trainer: Any = trl.GRPOTrainer if method == "grpo" else trl.RLOOTrainer
    made = trainer(
        model, reward_funcs=_their_length, args=config(**settings), train_dataset=prompts, processing_class=tokenizer
    )
    return _their_step(made)


def _their_length(completions: list[Any], **_: Any) -> list[float]:
    return [float(len(one[0]["content"])) for one in completions]


def _theirs(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
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


OURS: dict[str, Callable[[Path], Step]] = {
    "dpo": our_dpo, "grpo": partial(our_online, method="grpo"), "ppo": partial(our_online, method="ppo"),
}  # fmt: skip
THEIRS: dict[str, Callable[[Path], Step]] = {
    "dpo": trl_dpo, "grpo": partial(trl_online, method="grpo"), "ppo": partial(trl_online, method="rloo"),
}  # fmt: skip


def _peak(folder: Path, side: str, kind: str) -> float:
    """Megabytes that a process of its own grows by over two steps."""
    command = [sys.executable, "-m", "benchmarks.alignment", "--job", side, kind, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.strip().splitlines()[-1])


def _job(side: str, kind: str, folder: Path) -> None:
    torch.set_num_threads(THREADS)

    def work() -> None:
        step = (OURS if side == "ours" else THEIRS)[kind](folder)
        step()
        step()

    print(grown_by(work))


def measure(name: str, kinds: Sequence[str], rounds: int, memory: bool) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint(name, folder)
        for kind in kinds:
            works = {"ours": OURS[kind](folder), "trl": THEIRS[kind](folder)}
            for work in works.values():
                work()  # what is made at first is not the step's
            times = interleaved(works, rounds)
            ratio = ratios(times["ours"], times["trl"])
            row: dict[str, Any] = {"model": name, "kind": kind, "seconds": times, "ratio": ratio}
            if memory:
                row["megabytes"] = {side: _peak(folder, side, kind) for side in works}
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["10M"], choices=list(SIZES))
    parser.add_argument("--only", nargs="+", default=list(OURS), choices=list(OURS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        _job(options.job[0], options.job[1], Path(options.job[2]))
        return
    torch.set_num_threads(THREADS)
    rows = [row for name in options.models for row in measure(name, options.only, options.rounds, options.memory)]
    shown = [
        (row["model"], row["kind"], *(spread(row["seconds"][side], 2) for side in ("ours", "trl")),
         spread(row["ratio"], 2), *(f"{one:,.0f}" for one in row.get("megabytes", {}).values()))
        for row in rows
    ]  # fmt: skip
    columns = ("model", "step", "ours, s", "TRL, s", "times as fast", "ours, MB", "TRL, MB")
    table(columns[: len(shown[0])], shown)
    if options.out:
        write_results(options.out, {**circumstances(["torch", "transformers", "trl"]), "rows": rows})


if __name__ == "__main__":
    main()
