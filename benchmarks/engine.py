"""The engine at work: requests of unlike length, samples of one prompt, caches of every kind, and guesses ahead.

    python -m benchmarks.engine [--threads 2] [--rounds 3] [--models DIR] [--json benchmarks/results]

Answers are equal first: greedy ones of our engine and of transformers on the same weights. Then tokens per second, of
the tokens that were asked for. The models of the guesses are trained for a minute and kept in --models.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import texts as corpora
from benchmarks.measuring import circumstances, interleaved, ratios, spread, write_results
from seedbed.core.config import build
from seedbed.core.console import show, table
from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.generation import DraftModel, Engine, Lookup, Sampling
from seedbed.models import CacheConfig, Decoder, KeyValueCache, ModelConfig, load_model, save_model
from seedbed.tokenizers import train_bpe

_SHAPE = {"vocab_size": 8192, "hidden_size": 256, "layers": 8, "heads": 8, "kv_heads": 4, "context_length": 1024}
_ROWS = 16


def model() -> Decoder:
    made = Decoder(build(ModelConfig, _SHAPE), torch_generator(0, "engine")).eval()
    with torch.no_grad():
        made.embedding.weight.mul_(20)  # sharp, so that greedy answers do not hang on rounding
    return made


def requests(count: int) -> tuple[list[np.ndarray], list[Sampling]]:
    """Prompts of 8 to 256 tokens and answers of 8 to 192, most of them short."""
    rng = numpy_generator(0, "requests")
    sizes = np.exp(rng.uniform(np.log(8), np.log([256, 192]), size=(count, 2))).astype(int)
    prompts = [rng.integers(0, _SHAPE["vocab_size"], size=size) for size in sizes[:, 0]]
    return prompts, [Sampling(temperature=0, max_new_tokens=int(size)) for size in sizes[:, 1]]


def transformers_answers(peer: Any, prompts: list[np.ndarray], wishes: list[Sampling]) -> list[list[int]]:
    """In batches, padded on the left, until the longest answer of each is there."""
    answers = []
    for start in range(0, len(prompts), _ROWS):
        part, counts = prompts[start : start + _ROWS], [one.max_new_tokens for one in wishes[start : start + _ROWS]]
        width = max(map(len, part))
        ids, mask = (torch.zeros(len(part), width, dtype=torch.int64) for _ in range(2))
        for row, prompt in enumerate(part):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.from_numpy(prompt), 1
        out = peer.generate(
            ids, attention_mask=mask, max_new_tokens=max(counts), do_sample=False, eos_token_id=None, pad_token_id=0
        )
        answers += [row[width : width + count].tolist() for row, count in zip(out, counts, strict=True)]
    return answers


def batching(rounds: int) -> list[dict[str, Any]]:
    from transformers import AutoModelForCausalLM

    ours, (prompts, wishes) = model(), requests(48)
    with tempfile.TemporaryDirectory() as folder:
        save_model(ours, folder)
        peer = AutoModelForCausalLM.from_pretrained(folder).eval()
    engine = Engine(ours, eos_token_ids=(), batch_size=_ROWS)
    expected = [one.ids.tolist() for one in engine.generate(prompts, wishes, decode=False)]
    same = sum(a == b for a, b in zip(transformers_answers(peer, prompts, wishes), expected, strict=True))
    show(f"equal answers: {same} of {len(expected)}")

    def waves() -> None:
        for start in range(0, len(prompts), _ROWS):
            engine.generate(prompts[start : start + _ROWS], wishes[start : start + _ROWS], decode=False)

    times = interleaved(
        {
            "continuous": lambda: engine.generate(prompts, wishes, decode=False),
            "in waves": waves,
            "transformers": lambda: transformers_answers(peer, prompts, wishes),
        },
        rounds,
    )
    tokens = sum(one.max_new_tokens for one in wishes)
    return [
        {
            "what": f"48 requests, {_ROWS} rows, {name}",
            "tokens/s": spread([tokens / one for one in seconds], 0),
            "times transformers": spread(ratios(seconds, times["transformers"])),
        }
        for name, seconds in times.items()
    ]


def samples(rounds: int) -> list[dict[str, Any]]:
    engine, rng = Engine(model(), eos_token_ids=()), numpy_generator(0, "samples")
    prompts = [rng.integers(0, _SHAPE["vocab_size"], size=256) for _ in range(4)]
    apart = [np.concatenate((prompt[:-1], [sample])) for prompt in prompts for sample in range(8)]
    sampling = Sampling(top_k=50, max_new_tokens=16)
    times = interleaved(
        {
            "a prompt's 8 samples": lambda: engine.generate(prompts, sampling, samples=8, decode=False),
            "32 unlike prompts": lambda: engine.generate(apart, sampling, decode=False),
        },
        rounds,
    )
    return [{"what": f"{name}, 256 + 16 tokens", "seconds": spread(one, 2)} for name, one in times.items()]


def caches(rounds: int) -> list[dict[str, Any]]:
    ours, rows, length = model(), 8, 1000
    kinds = {
        "full": CacheConfig(),
        "full, int8": CacheConfig(dtype="int8"),
        "window of 252": CacheConfig(kind="window", window=252),
        "4 sinks and 252": CacheConfig(kind="sinks", window=252),
    }
    prompts = [numpy_generator(row, "caches").integers(0, 8192, size=length - 40) for row in range(rows)]
    sampling = Sampling(temperature=0, max_new_tokens=32)
    engines = {name: Engine(ours, cache=kind, eos_token_ids=()) for name, kind in kinds.items()}
    found = []
    first = interleaved(
        {name: lambda engine=engine: engine.generate(prompts, sampling.replace(max_new_tokens=1))  # type: ignore[misc]
         for name, engine in engines.items()}, rounds,
    )  # fmt: skip
    whole = interleaved(
        {name: lambda engine=engine: engine.generate(prompts, sampling) for name, engine in engines.items()},  # type: ignore[misc]
        rounds,
    )
    for name, kind in kinds.items():
        size = KeyValueCache(ours.config, rows, length, layout=kind).bytes
        assert size == kind.bytes(ours.config, rows, length)
        rate = [rows * 31 / (all_ - one) for one, all_ in zip(first[name], whole[name], strict=True)]
        found.append({"what": name, "MiB of 8 rows": round(size / 2**20, 1), "decode tokens/s": spread(rate, 0)})
    return found


def _plays() -> str:
    return (corpora.SHARED / "text" / "tinyshakespeare.txt").read_text()


def trained(folder: Path, layers: int, width: int, steps: int) -> tuple[Decoder, Any]:
    """A model of plays, and its tokenizer; made once."""
    text = _plays()
    tokenizer = train_bpe([text], vocab_size=1024, special_tokens=("<|endoftext|>",))
    path = folder / f"plays-{layers}x{width}"
    if not (path / "config.json").exists():
        ids = torch.from_numpy(tokenizer.encode(text[:-100_000]).astype(np.int64))
        shape = {"vocab_size": 1024, "hidden_size": width, "layers": layers, "heads": 4, "context_length": 512}
        made = Decoder(build(ModelConfig, shape), torch_generator(1, "plays"))
        optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3, weight_decay=0.1)
        rng = numpy_generator(2, "plays")
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min(1, step / 30) * (1 - step / steps)
            places = rng.integers(0, len(ids) - 129, size=16)
            batch = torch.stack([ids[place : place + 129] for place in places])
            loss = torch.nn.functional.cross_entropy(made(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        show(f"{path.name}: loss {float(loss):.2f}")
        save_model(made, path, tokenizer)
    found = load_model(path)
    assert isinstance(found, Decoder)
    return found.eval(), tokenizer


def guesses(folder: Path, rounds: int) -> list[dict[str, Any]]:
    large, tokenizer = trained(folder, 6, 256, 250)
    small, _ = trained(folder, 1, 128, 300)
    text = _plays()[-100_000:]
    prompts = [text[place : place + 600] for place in range(0, 40_000, 10_000)]
    drafts = {"none": None, "lookup": Lookup(), "1 layer of 128": DraftModel(small)}
    found = []
    for name, sampling in (
        ("greedy", Sampling(temperature=0, max_new_tokens=128)),
        ("temperature 0.7", Sampling(temperature=0.7, max_new_tokens=128, seed=1)),
    ):
        engines = {kind: Engine(large, tokenizer, draft=draft, eos_token_ids=()) for kind, draft in drafts.items()}
        plain = engines["none"].generate(prompts, sampling)
        for kind, engine in engines.items():
            guessed = engine.generate(prompts, sampling)
            if name == "greedy" or kind == "lookup":
                assert [one.text for one in guessed] == [one.text for one in plain]

        def alone(engine: Engine, sampling: Sampling = sampling) -> None:
            for prompt in prompts:
                engine.generate([prompt], sampling)

        times = interleaved({kind: lambda engine=engine: alone(engine) for kind, engine in engines.items()}, rounds)  # type: ignore[misc]
        for kind, engine in engines.items():
            engine.generate(prompts[:1], sampling)
            done = engine.statistics
            found.append(
                {
                    "what": f"{name}, guesses: {kind}",
                    "tokens/s": spread([len(prompts) * 128 / one for one in times[kind]], 0),
                    "times none": spread(ratios(times[kind], times["none"]), 2),
                    "kept": f"{done.accepted} of {done.drafted}",
                    "tokens a step": round(128 / done.steps, 2),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The engine at work.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=Path, default=Path("runs/engine"))
    parser.add_argument("--only", nargs="*", choices=("batching", "samples", "caches", "guesses"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts = {
        "batching": lambda: batching(given.rounds),
        "samples": lambda: samples(given.rounds),
        "caches": lambda: caches(given.rounds),
        "guesses": lambda: guesses(given.models, given.rounds),
    }
    results: dict[str, Any] = {"threads": given.threads, "rounds": given.rounds}
    for name, part in parts.items():
        if given.only and name not in given.only:
            continue
        started = time.perf_counter()
        rows = results[name] = part()
        table(
            list(rows[0]), [list(row.values()) for row in rows], title=f"{name}, {time.perf_counter() - started:.0f} s"
        )
    if given.json:
        write_results(given.json / "engine.json", results | circumstances(("torch", "transformers", "seedbed")))


if __name__ == "__main__":
    main()
