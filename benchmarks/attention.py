"""Attention over long texts: what the softmax computed online takes in memory and time.

    python -m benchmarks.attention [--lengths 4096 8192 16384 32768] [--rounds 5] [--threads 2] [--flex]

Causal attention of one text, 8 heads of 64, with as many keys and values and with two of each (grouped), in float32:
`attend_reference` (all scores at once), `attend_online` (a block of scores at a time, in plain PyTorch), `attend` (what
models use) and PyTorch's fused kernel called directly; FlexAttention, compiled, where it is asked for. First all must
give the same. Memory is what a fresh process grows by at most while it computes, output included; time is the best of
interleaved rounds, and ratios are within rounds. The reference is left out where its scores would take more than half
of the memory that is free.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, spread, write_results
from seedbed.core.devices import memory_bytes
from seedbed.models import attend_online
from seedbed.models.attention import attend, attend_reference

_HEADS, _WIDTH = 8, 64
_RESULTS = Path(__file__).parent / "results" / "attention.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of attention over long texts.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flex", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = circumstances(["torch"]) | {"threads": options.threads, "rounds": options.rounds}
    rows = []
    for groups in options.groups:
        for length in options.lengths:
            rows.append(measured(length, groups, options.rounds, options.flex))
            print(shown(rows[-1]), flush=True)
            write_results(_RESULTS, {"about": about, "rows": rows})


@torch.no_grad()
def measured(length: int, groups: int, rounds: int, flex: bool) -> dict[str, Any]:
    works = _works(length, groups, flex)
    expected = works["fused"]()
    difference = {name: float((work() - expected).abs().max()) for name, work in works.items() if name != "reference"}
    assert max(difference.values()) < 1e-5, difference
    quick = {name: work for name, work in works.items() if name != "reference"}
    seconds = interleaved(quick, rounds)
    if "reference" in works:
        seconds |= interleaved({"reference": works["reference"]}, 1)
    # In processes of their own: this one keeps memory that it used before.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh:
        memory = {name: fresh.submit(_memory, name, length, groups, flex).result() for name in works}
    return {
        "length": length,
        "groups": groups,
        "megabytes": memory,
        "seconds": seconds,
        "difference": difference,
        "times_fused": {name: ratios(seconds["fused"], times) for name, times in seconds.items() if name in quick},
    }


@torch.no_grad()
def _memory(name: str, length: int, groups: int, flex: bool) -> float:
    _works(64, groups, flex)[name]()  # what the libraries themselves take
    work = _works(length, groups, flex)[name]
    return grown_by(work)


def _works(length: int, groups: int, flex: bool) -> dict[str, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, length, heads, _WIDTH, generator=generator) for heads in (_HEADS, groups, groups))
    works: dict[str, Callable[[], Tensor]] = {
        "fused": lambda: _fused(q, k, v),
        "attend": lambda: attend(q, k, v, causal=True),
        "online": lambda: attend_online(q, k, v, causal=True),
    }
    # Scores, their mask and their softmax are there at once.
    if 3 * 4 * _HEADS * length**2 < memory_bytes()[1] / 2:
        works["reference"] = lambda: attend_reference(q, k, v, causal=True)
    if flex:
        works["flex"] = _flex(q, k, v)
    return works


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    grouped = k.shape[2] < q.shape[2]
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)


def _flex(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length, grouped = q.shape[1], k.shape[2] < q.shape[2]
    mask = create_block_mask(lambda b, h, row, column: row >= column, None, None, length, length, device="cpu")
    compiled = torch.compile(flex_attention)
    q, k, v = (one.transpose(1, 2).contiguous() for one in (q, k, v))
    return lambda: compiled(q, k, v, block_mask=mask, enable_gqa=grouped).transpose(1, 2)


def shown(row: dict[str, Any]) -> str:
    parts = [f"T {row['length']:>6,}, {row['groups']} key-value heads:"]
    for name, times in row["seconds"].items():
        ratio = row["times_fused"].get(name)
        against = "" if ratio is None or name == "fused" else f", {spread(ratio, 2)} x fused"
        parts.append(f"  {name:<10} {min(times):8.3f} s, {row['megabytes'][name]:9,.1f} MB{against}")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
