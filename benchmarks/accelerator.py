"""One GPU: training, decoding, adapters and learning from rewards beside transformers, peft, bitsandbytes and TRL.

    python -m benchmarks.accelerator PART [--models 350M] [--rounds 5] [--quick] [--out FILE]

PART is training, decoding, adapters or grpo. Models have random weights of Qwen3's shape, the same for all who take
part, and tokens are random; losses or logits must agree before anything is timed. Work is synchronised, rounds are
interleaved, ratios are taken within a round, memory is the most that PyTorch had allocated at once on the device.
MFU is FLOPs by PaLM's convention (nothing off for causal attention) over the device's dense bfloat16 rate as its maker
states it (989 TFLOP/s of a Hopper); the rate of a large product measured here stands beside it.

training: AdamW on float32 weights by bfloat16 autocast, rows of 1,024 tokens. decoding: bfloat16, prompts of 512
tokens, 128 new ones, greedily. adapters: LoRA and QLoRA (NF4) on every linear layer, bfloat16. grpo: an iteration of
128 answers of 64 tokens, 8 to a question, one update of all weights, as benchmarks.alignment.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import seedbed  # noqa: F401  (how threads wait is settled before torch comes)

# isort: split
import torch
from torch import Tensor

from benchmarks.measuring import circumstances, interleaved, ratios, spread, write_results
from seedbed.datasets.loader import Batch
from seedbed.finetuning import LoRAConfig, add_adapter, quantize_nf4
from seedbed.generation import Engine, Sampling
from seedbed.models import Decoder, ModelConfig, load_model, save_model
from seedbed.training import NextToken
from seedbed.training.execution import execute_blocks

_RATE = 989e12  # dense bfloat16 FLOP/s of an H100 SXM and an H200, as NVIDIA states it
_LENGTH, _PROMPT, _NEW, _RANK = 1024, 512, 128, 16
SHAPES: dict[str, dict[str, Any]] = {
    "125M": {"vocab_size": 32768, "hidden_size": 768, "layers": 12, "heads": 12, "intermediate_size": 3072},
    "350M": {"vocab_size": 32768, "hidden_size": 1024, "layers": 24, "heads": 16, "intermediate_size": 2816},
    "600M": {"vocab_size": 151936, "hidden_size": 1024, "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128,
             "intermediate_size": 3072},
    "1B": {"vocab_size": 128256, "hidden_size": 2048, "layers": 16, "heads": 32, "kv_heads": 8,
           "intermediate_size": 8192},
}  # fmt: skip
Step = Callable[[], Any]


def made(name: str, folder: Path, **more: Any) -> ModelConfig:
    """A saved model of this size."""
    config = ModelConfig(context_length=_LENGTH, rope_theta=1e6, **SHAPES[name], **more)
    with torch.device("cuda"):
        model = Decoder(config, torch.Generator("cuda").manual_seed(0))
    save_model(model.cpu(), folder)
    return config


def synchronised(work: Step) -> Step:
    def run() -> Any:
        found = work()
        torch.cuda.synchronize()
        return found

    return run


def first_calls(works: dict[str, Step]) -> tuple[dict[str, float], dict[str, float]]:
    """The losses of all, which must be equal up to bfloat16, and the seconds that they took: compiled ones compile."""
    losses, seconds = {}, {}
    for name, work in works.items():
        started = time.perf_counter()
        losses[name] = float(synchronised(work)())
        seconds[name] = time.perf_counter() - started
    print("losses", losses, {name: round(one, 1) for name, one in seconds.items()}, flush=True)
    assert max(losses.values()) - min(losses.values()) < 0.02 * max(losses.values())
    return losses, seconds


def timed(works: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Seconds by contender and round, and of each the gigabytes at most and how long the first call took."""
    found: dict[str, Any] = {"first_seconds": {}, "gigabytes": {}}
    for name, work in works.items():
        started = time.perf_counter()
        synchronised(work)()
        found["first_seconds"][name] = time.perf_counter() - started
        synchronised(work)()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        synchronised(work)()
        found["gigabytes"][name] = (torch.cuda.max_memory_allocated() - before) / 1e9
    found["seconds"] = interleaved({name: synchronised(work) for name, work in works.items()}, rounds)
    return found


def product_rate() -> float:
    """FLOP/s of a large bfloat16 product."""
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    work = synchronised(partial(torch.mm, x, y))
    work()
    return 2 * 8192**3 / min(value for values in interleaved({"": work}, 10).values() for value in values)


def report(title: str, found: dict[str, Any], amount: float, unit: str, more: Callable[[float], str]) -> None:
    ours = next(iter(found["seconds"].values()))
    print(title)
    for name, seconds in found["seconds"].items():
        against = f"{spread(ratios(ours, seconds), 2)} x" if seconds is not ours else ""
        print(
            f"  {name:<26} {amount / min(seconds):12,.0f} {unit} {more(min(seconds))} "
            f"{found['gigabytes'].get(name, 0):6.1f} GB, first {found['first_seconds'].get(name, 0):5.1f} s  {against}",
            flush=True,
        )


# Training


def training(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.training_peers import trainer_step, transformers

    results: dict[str, Any] = {"product_rate": product_rate(), "rate": _RATE}
    print(f"product of 8192: {results['product_rate'] / 1e12:,.0f} TFLOP/s")
    for name in options.models or ("350M", "125M"):
        rows = {"350M": 32, "125M": 64}[name]
        with tempfile.TemporaryDirectory() as temporary:
            config = made(name, Path(temporary))
            ids = torch.randint(config.vocab_size, (rows, _LENGTH + 1), device="cuda")
            works: dict[str, Step] = {}
            for kind in ("compiled", "eager"):
                model = load_model(temporary).cuda()
                step = trainer_step(model, NextToken(), "bfloat16", kind == "compiled")
                batch = Batch(
                    ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(rows, _LENGTH, device="cuda")
                )
                works[f"seedbed {kind}"] = partial(step, batch)
            for kind in ("compiled", "eager"):
                theirs = transformers(Path(temporary), "bfloat16", kind == "compiled", "cuda")
                works[f"transformers {kind}"] = partial(theirs, ids)
            works = {key: work for key, work in works.items() if not (options.quick and "eager" in key)}
            losses, starts = first_calls(works)
            found = timed(works, options.rounds)
            found["first_seconds"] = starts
        tokens, flops = rows * _LENGTH, config.flops_per_token() * rows * _LENGTH
        results[name] = found | {"tokens": tokens, "losses": losses, "parameters": config.parameter_count()}
        report(
            f"training {name}, {config.parameter_count():,} parameters, {tokens:,} tokens", found, tokens, "tok/s",
            lambda seconds, flops=flops: f"MFU {flops / seconds / _RATE:5.1%}",  # type: ignore[misc]
        )  # fmt: skip
        torch.cuda.empty_cache()
    return results


# Decoding


def decoding(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in options.models or ("125M", "1B"):
        with tempfile.TemporaryDirectory() as temporary:
            config = made(name, Path(temporary))
            model = load_model(temporary, dtype=torch.bfloat16).cuda()
            assert isinstance(model, Decoder)
            for rows in (1, 32) if options.quick else (1, 8, 32):
                prompts = np.random.default_rng(rows).integers(0, config.vocab_size, (rows, _PROMPT))
                engine = Engine(model, batch_size=rows, eos_token_ids=())
                generators: dict[str, Callable[[int], Any]] = {"seedbed": partial(_ours, engine, prompts)}
                generators["transformers"] = _theirs(temporary, prompts, False)
                if not options.quick or rows == 1:
                    generators["transformers compiled"] = _theirs(temporary, prompts, True)
                if rows == 1:
                    _agree(temporary, model, prompts)
                works: dict[str, Step] = {
                    f"{key} {new}": partial(one, new) for key, one in generators.items() for new in (1, _NEW + 1)
                }
                found = timed(works, options.rounds)
                step = {
                    key: [
                        (whole - first) / _NEW
                        for whole, first in zip(
                            found["seconds"][f"{key} {_NEW + 1}"], found["seconds"][f"{key} 1"], strict=True
                        )
                    ]
                    for key in generators
                }
                first = {key: found["seconds"][f"{key} 1"] for key in generators}
                results[f"{name} {rows}"] = found | {"step_seconds": step}
                gigabytes = {key: found["gigabytes"][f"{key} {_NEW + 1}"] for key in generators}
                starts = {key: found["first_seconds"][f"{key} {_NEW + 1}"] for key in generators}
                about = {"gigabytes": gigabytes, "first_seconds": starts}
                nbytes = sum(one.nbytes for one in model.parameters())
                report(
                    f"decoding {name}, {rows} rows", {"seconds": step} | about, rows, "tok/s",
                    lambda seconds, nbytes=nbytes: f"{nbytes / seconds / 1e12:5.2f} TB/s of weights",  # type: ignore[misc]
                )  # fmt: skip
                report(f"prompt {name}, {rows} rows", {"seconds": first} | about, rows * _PROMPT, "tok/s", lambda _: "")
                torch.compiler.reset()
                torch.cuda.empty_cache()
    return results


def _ours(engine: Engine, prompts: np.ndarray, new: int) -> np.ndarray:
    found = engine.generate(list(prompts), Sampling(temperature=0, max_new_tokens=new), decode=False)
    return np.stack([one.ids for one in found])


def _theirs(folder: str, prompts: np.ndarray, compiled: bool) -> Callable[[int], Any]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    model = model.cuda().eval()
    ids = torch.from_numpy(prompts).cuda()
    extra: dict[str, Any] = {"cache_implementation": "static"} if compiled else {}  # compiles its decoding by itself

    @torch.inference_mode()
    def generate(new: int) -> Any:
        return model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
            pad_token_id=0, eos_token_id=None, **extra,
        )  # fmt: skip

    return generate


def _agree(folder: str, model: Decoder, prompts: np.ndarray) -> None:
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = theirs.cuda().eval()
    ids = torch.from_numpy(prompts).cuda()
    with torch.inference_mode():
        expected, found = theirs(ids).logits[0, -1], model(ids)[0, -1].float()
    apart = float((found - expected).norm() / expected.norm())
    print(f"bfloat16 logits are {apart:.4f} from transformers' in float32")
    assert apart < 0.03


# Adapters


def adapters(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    rows, length = 8, 512
    with tempfile.TemporaryDirectory() as temporary:
        config = made("600M", Path(temporary))
        ids = torch.randint(config.vocab_size, (rows, length + 1), device="cuda")
        for kind in ("lora", "dora", "qlora"):
            works = {
                "seedbed": _our_adapter(temporary, kind, ids, False), "peft": _their_adapter(temporary, kind, ids),
                "seedbed compiled": _our_adapter(temporary, kind, ids, True),
            }  # fmt: skip
            losses, starts = first_calls(works)
            found = timed(works, options.rounds)
            found["first_seconds"] = starts
            results[kind] = found | {"losses": losses, "tokens": rows * length}
            report(f"{kind} 600M, {rows} x {length}", found, rows * length, "tok/s", lambda _: "")
            torch.cuda.empty_cache()
    return results


def _our_adapter(folder: str, kind: str, ids: Tensor, compiled: bool) -> Step:
    model: Any = load_model(folder, dtype=torch.bfloat16).cuda()
    if kind == "qlora":
        quantize_nf4(model)
    add_adapter(model, LoRAConfig(rank=_RANK, magnitudes=kind == "dora"))
    execute_blocks(model, compiled=compiled)
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(ids[:, 1:].shape, device=ids.device))
    objective = NextToken()

    def loss() -> Tensor:
        total, count, _ = objective.loss(model, batch)
        return total / count

    return _step(model, loss)


def _their_adapter(folder: str, kind: str, ids: Tensor) -> Step:
    import peft
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings: dict[str, Any] = {"dtype": torch.bfloat16, "attn_implementation": "sdpa", "device_map": {"": 0}}
    if kind == "qlora":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(folder, **settings)
    config = peft.LoraConfig(
        r=_RANK, lora_alpha=16, target_modules="all-linear", use_dora=kind == "dora", task_type="CAUSAL_LM"
    )
    adapted: Any = peft.get_peft_model(model, config)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss() -> Tensor:
        found: Tensor = adapted(input_ids=inputs, labels=inputs, shift_labels=targets).loss
        return found

    return _step(adapted, loss)


def _step(model: Any, loss: Callable[[], Tensor]) -> Step:
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    model.train()

    def step() -> Tensor:
        found = loss()
        found.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return found.detach()

    return step


# Learning from rewards


def grpo(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.alignment import Work, our_online, trl_online

    results: dict[str, Any] = {}
    for name in options.models or ("125M", "600M"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            work = Work(folder, 0, 128, _with_tokenizer(name, folder), "cuda", torch.bfloat16)
            works = {"seedbed": our_online(work, "grpo"), "trl": trl_online(work, "grpo")}
            found = timed(works, options.rounds)
        results[name] = found
        report(f"GRPO {name}: 128 answers of 64 tokens", found, 128 * 64, "tok/s", lambda s: f"{s:6.2f} s")
        torch.cuda.empty_cache()
    return results


def _with_tokenizer(name: str, folder: Path) -> list[str]:
    """A model that has a tokenizer; returns questions."""
    from seedbed.tokenizers import train_bpe
    from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS, END_OF_TURN, PAD

    letters = np.random.default_rng(0).integers(97, 123, (400, 12, 5))
    questions = [" ".join("".join(map(chr, word)) for word in row) for row in letters]
    tokenizer = train_bpe(questions, vocab_size=8192, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token=END_OF_TURN, pad_token=PAD, chat_template=CHATML)
    config = ModelConfig(
        **{**SHAPES[name], "vocab_size": tokenizer.vocab_size}, context_length=512,
        eos_token_id=tokenizer.token_to_id(END_OF_TURN), pad_token_id=tokenizer.token_to_id(PAD),
    )  # fmt: skip
    save_model(Decoder(config), folder, tokenizer)
    return questions


PARTS = {"training": training, "decoding": decoding, "adapters": adapters, "grpo": grpo}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    found = PARTS[options.part](options)
    if options.out:
        about = circumstances(("torch", "transformers")) | {"device": torch.cuda.get_device_name()}
        write_results(options.out, {"circumstances": about, options.part: found})


if __name__ == "__main__":
    main()
