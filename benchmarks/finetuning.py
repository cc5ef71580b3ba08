"""Fine-tuning side by side with peft, trl and bitsandbytes on a CPU.

    python -m benchmarks.finetuning DATA.json [--models 10M 60M] [--only sft lora dora qlora product] [--rounds 5]
                                    [--rows 16] [--memory]

DATA is a JSON list of {"instruction", "input", "output"} (Alpaca's). Models are random and of Qwen3's shape, the same
weights for all; tokens are those of a tokenizer trained on the data. Everything is float32 on two threads, rounds are
interleaved, ratios are taken within a round. A step is forward, backward, clipping and AdamW.

sft: steps over the same rows. trl pads batches (its default), or packs them; the faster is "its best" on a CPU; its
packed rows are whole, and its time is told for as many tokens. Ours puts examples one behind another. lora, dora,
qlora: steps of one padded batch, the same for both, every linear layer but the head adapted; beside them what no
adapter can avoid, the frozen model's own passes forward and back. product: x W^T with W in NF4 with double
quantisation, by rows of x.
Memory (sft, lora) is what a process of its own grows by over four steps, loading included: ours, trl's trainer, and
for lora trl's trainer with peft's adapter, padding or packing.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seedbed  # noqa: F401  (before torch)
from seedbed.core.ragged import Ragged
from seedbed.datasets.instructions import EncodedInstructions, encode_instructions
from seedbed.finetuning import LoRAConfig, add_adapter, quantize_nf4
from seedbed.finetuning.packing import AnswerTokens, ExampleBatches
from seedbed.models import Decoder, ModelConfig, load_model, save_model
from seedbed.tokenizers import train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS
from seedbed.training import NextToken
from seedbed.training.optimizers import build_optimizers

from .measuring import circumstances, grown_by, interleaved, ratios, spread, write_results

MODELS = {
    "10M": {"vocab_size": 8192, "hidden_size": 320, "layers": 6, "heads": 6, "kv_heads": 2, "head_dim": 64,
            "intermediate_size": 960},
    "60M": {"vocab_size": 8192, "hidden_size": 640, "layers": 12, "heads": 10, "kv_heads": 2, "head_dim": 64,
            "intermediate_size": 1920},
}  # fmt: skip
CONTEXT, RANK = 512, 8
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["10M"], choices=list(MODELS))
    parser.add_argument("--only", nargs="+", default=["sft", "lora", "dora", "qlora", "product"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16, help="of a step of sft; of one with adapters half of them")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    results: dict[str, Any] = {"circumstances": circumstances(["torch", "transformers", "peft", "trl", "bitsandbytes"])}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            place = Path(folder) / name
            prepare(place, name, arguments.data, arguments.rows)
            for kind in arguments.only:
                works = WORKS[kind](place)
                for work in works.values():
                    work()
                seconds = interleaved(works, arguments.rounds)
                for one, work in works.items():
                    if isinstance(work, Shared):
                        seconds[one] = [taken / work.share for taken in seconds[one]]
                row: dict[str, Any] = {"seconds": seconds}
                if arguments.memory and kind in ("sft", "lora"):
                    row["megabytes"] = {one: in_fresh_process(kind, one, place) for one in ("seedbed", *TRL)}
                results[f"{name} {kind}"] = row
                print(shown(name, kind, row), flush=True)
    if arguments.out:
        write_results(arguments.out, results)


TRL: dict[str, dict[str, Any]] = {"trl padded": {}, "trl packed": {"packing": True, "max_length": CONTEXT}}


def prepare(place: Path, name: str, data: Path, count: int) -> None:
    """A saved model and encoded rows, `count` of them a step."""
    rows = json.loads(data.read_text())
    messages = [
        {"messages": [{"role": "user", "content": f"{row['instruction']}\n\n{row['input']}".strip()},
                      {"role": "assistant", "content": row["output"]}]}
        for row in rows if row["output"].strip()
    ]  # fmt: skip
    texts = [one["content"] for row in messages for one in row["messages"]]
    tokenizer = train_bpe(texts, vocab_size=8192, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHATML)
    config = ModelConfig(
        **MODELS[name], context_length=CONTEXT, qk_norm=True, tie_embeddings=True, eos_token_id=3, pad_token_id=1
    )
    save_model(Decoder(config), place, tokenizer)
    encoded = encode_instructions(messages, tokenizer, CONTEXT)
    np.savez(
        place / "rows.npz", ids=encoded.ids.values, answers=encoded.answers.values, offsets=encoded.ids.offsets,
        count=count,
    )  # fmt: skip


def rows_of(place: Path) -> EncodedInstructions:
    stored = np.load(place / "rows.npz")
    return EncodedInstructions(
        Ragged(stored["ids"], stored["offsets"]), Ragged(stored["answers"], stored["offsets"]), 0, 0
    )


def count_of(place: Path) -> int:
    """Rows of a step."""
    return int(np.load(place / "rows.npz")["count"])


def our_step(model: Any, objective: Any, batches: Any) -> Step:
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizers = build_optimizers(model, "adamw", weight_decay=0.0, betas=(0.9, 0.999), momentum=0.95)
    model.train()

    def step() -> None:
        loss, count, _ = objective.loss(model, next(batches))
        loss.backward()
        torch._foreach_div_([one.grad for one in trained if one.grad is not None], float(count))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def sft_works(place: Path) -> dict[str, Step]:
    """Three steps each, so that lengths mix; every contender sees the same rows a step."""
    encoded = rows_of(place)
    model = load_model(place)
    ours = our_step(model, AnswerTokens(), ExampleBatches(encoded.ids, encoded.answers, count_of(place)))
    works: dict[str, Step] = {"seedbed": functools.partial(times, 3, ours)}
    for name, settings in TRL.items():
        step, share = trl_step(place, encoded, settings)
        works[name] = Shared(functools.partial(times, 3, step), share)
    return works


@dataclass
class Shared:
    """Work on `share` times the tokens that the others have: packed rows are whole."""

    work: Step
    share: float

    def __call__(self) -> object:
        return self.work()


def times(count: int, step: Step) -> None:
    for _ in range(count):
        step()


def trl_step(
    place: Path, encoded: EncodedInstructions, settings: dict[str, Any], peft_config: Any = None
) -> tuple[Step, float]:
    """A step of trl's trainer over as many rows, or packed over about as many tokens as these have on average; and how
    many times as many these are."""
    import datasets
    import transformers
    import trl

    rows = [{"input_ids": ids.tolist(), "completion_mask": mask.astype(int).tolist()}
            for ids, mask in zip(encoded.ids, encoded.answers, strict=True)]  # fmt: skip
    mean, count = float(encoded.ids.lengths.mean()), count_of(place)
    batch = count if not settings else max(1, round(count * mean / CONTEXT))
    config = trl.SFTConfig(
        output_dir=str(place / "trl"), per_device_train_batch_size=batch, learning_rate=1e-4, report_to=[], bf16=False,
        use_cpu=True, max_steps=10**6, logging_strategy="no", save_strategy="no", gradient_checkpointing=False,
        completion_only_loss=True, pad_token="<|pad|>", eos_token="<|im_end|>", disable_tqdm=True,
        remove_unused_columns=False,
        **({"max_length": CONTEXT} | settings),
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    trainer: Any = trl.SFTTrainer(
        model,
        config,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    trainer.create_optimizer_and_scheduler(num_training_steps=10**6)
    trainer.current_gradient_accumulation_steps = 1
    batches = iter(trainer.get_train_dataloader())
    trainer.model.train()

    def step() -> None:
        inputs = next(batches)
        trainer.training_step(trainer.model, inputs, None)
        torch.nn.utils.clip_grad_norm_([one for one in trainer.model.parameters() if one.grad is not None], 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step, batch * CONTEXT / (count * mean) if settings else 1.0


def adapted_rows(place: Path) -> int:
    """Rows of a step with adapters."""
    return max(1, count_of(place) // 2)


def padded(place: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The first rows: ids and weights of targets, (B, T + 1), right-padded."""
    encoded = rows_of(place)
    rows = [(ids, mask) for ids, mask in zip(encoded.ids, encoded.answers, strict=True)][: adapted_rows(place)]
    width = max(len(ids) for ids, _ in rows)
    ids, weights = np.full((len(rows), width), 1, np.int64), np.zeros((len(rows), width), np.float32)
    for place_, (one, mask) in enumerate(rows):
        ids[place_, : len(one)], weights[place_, : len(one)] = one, mask
    return torch.from_numpy(ids), torch.from_numpy(weights)


def their_step(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> Step:
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    labels = ids.masked_fill(weights == 0, -100)
    attention = (ids != 1).long()
    model.train()

    def step() -> None:
        model(input_ids=ids, attention_mask=attention, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


class _Same:
    """One batch for ever."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __next__(self) -> Any:
        return self.batch


def adapter_works(place: Path, *, dora: bool = False, quantized: bool = False) -> dict[str, Step]:
    from seedbed.datasets.loader import Batch

    ids, weights = padded(place)
    works: dict[str, Step] = {}
    model: Any = load_model(place)
    if quantized:
        quantize_nf4(model)
    add_adapter(model, LoRAConfig(rank=RANK, magnitudes=dora))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), weights[:, 1:].contiguous())
    works["seedbed, padded"] = our_step(model, NextToken(), _Same(batch))
    encoded = rows_of(place)
    count = adapted_rows(place)
    some = [Ragged.from_rows(list(one)[:count]) for one in (encoded.ids, encoded.answers)]
    packed = ExampleBatches(some[0], some[1], count)
    works["seedbed"] = our_step(model, AnswerTokens(), packed)
    works["bitsandbytes" if quantized else "peft"] = their_step(peft_model(place, dora, quantized), ids, weights)
    if not quantized:
        bare: Any = load_model(place).requires_grad_(False)
        bare.blocks[0].attention_norm.requires_grad_(True)
        works["no adapter, padded"] = our_step(bare, NextToken(), _Same(batch))
        works["no adapter"] = our_step(bare, AnswerTokens(), ExampleBatches(some[0], some[1], count))
    return works


def peft_model(place: Path, dora: bool, quantized: bool) -> Any:
    import peft
    import transformers

    settings: dict[str, Any] = {"dtype": torch.float32}
    if quantized:
        settings["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )  # fmt: skip
        settings["device_map"] = "cpu"
    model = transformers.AutoModelForCausalLM.from_pretrained(place, **settings)
    config = peft.LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear", use_dora=dora, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)


def product_works(place: Path) -> dict[str, Step]:
    import bitsandbytes
    import bitsandbytes.functional as theirs

    width = load_model(place).config.hidden_size
    weight = torch.randn(3 * width, width) * 0.02
    ours = quantize_nf4(weight)
    codes, state = theirs.quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
    from seedbed.finetuning import NF4Linear

    layer = NF4Linear(width, 3 * width, ours, None)
    works: dict[str, Step] = {}
    for rows in (1, 8, 32, 256, 2048):
        x, repeats = torch.randn(rows, width), max(1, 2000 // rows)
        works[f"seedbed, {rows} rows"] = functools.partial(repeat, repeats, functools.partial(layer, x))
        product = functools.partial(bitsandbytes.matmul_4bit, x, codes, state)
        works[f"bitsandbytes, {rows} rows"] = functools.partial(repeat, repeats, product)
    return works


@torch.no_grad()
def repeat(count: int, work: Step) -> None:
    for _ in range(count):
        work()


WORKS: dict[str, Callable[[Path], dict[str, Step]]] = {
    "sft": sft_works,
    "lora": adapter_works,
    "dora": functools.partial(adapter_works, dora=True),
    "qlora": functools.partial(adapter_works, quantized=True),
    "product": product_works,
}


def in_fresh_process(kind: str, name: str, place: Path) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh:
        return fresh.submit(grown_while, kind, name, place).result()


def grown_while(kind: str, name: str, place: Path) -> float:
    """Megabytes of four steps of full fine-tuning ("sft") or of LoRA, loading included."""
    torch.set_num_threads(2)

    def ours() -> None:
        encoded, model = rows_of(place), load_model(place)
        if kind == "lora":
            add_adapter(model, LoRAConfig(rank=RANK))
        times(4, our_step(model, AnswerTokens(), ExampleBatches(encoded.ids, encoded.answers, count_of(place))))

    def theirs() -> None:
        import peft

        config = peft.LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        times(4, trl_step(place, rows_of(place), TRL[name], config if kind == "lora" else None)[0])

    return grown_by(ours if name.startswith("seedbed") else theirs)


def shown(model: str, kind: str, row: dict[str, Any]) -> str:
    lines = [f"{model} {kind}:"]
    seconds = row["seconds"]
    ours = {name: one for name, one in seconds.items() if name.startswith("seedbed")}
    for name, times_ in seconds.items():
        mine = ours.get(f"seedbed,{name.partition(',')[2]}", ours.get("seedbed", times_))
        against = "" if name in ours else f", {spread(ratios(mine, times_), 2)} x ours"
        lines.append(f"  {name:<26} {min(times_):8.4f} s{against}")
    held = row.get("megabytes", {})
    for name, megabytes in held.items():
        peer = f"{'peft + ' if kind == 'lora' and name != 'seedbed' else ''}{name}"
        lines.append(f"  {peer:<26} {megabytes:8,.0f} MB, {held['seedbed'] / megabytes:.2f} of it ours")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
