"""Decoding with and without a cache of keys and values, and what the cache weighs by kind of attention.

Models have random weights: time and bytes do not depend on them. B rows, n tokens in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ...core.randomness import torch_generator
from ...models import Decoder, KeyValueCache, ModelConfig
from ...reports import charts, index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict
from ..timing import interleaved

WITH, WITHOUT = "with a cache", "without"


class KVCacheSettings(Settings):
    lengths: tuple[int, ...] = Field((32, 128, 512, 1024), min_length=2, description="tokens before the new one")
    hidden_size: int = Field(256, ge=32, multiple_of=32, description="of the models; 8 heads")
    layers: int = Field(4, ge=1, description="of the models")
    rank: int = Field(64, ge=1, description="of latent attention")
    repeats: int = Field(5, ge=1, description="of each measurement of time, of which the median counts")


@dataclass(frozen=True)
class Weighed:
    """One kind of attention: bytes that its cache holds for a token, what the formula says, and seconds for a new
    token at the longest length."""

    kind: str
    bytes: float
    formula: int
    seconds: float


def measure(bench: Bench, settings: KVCacheSettings) -> Finding:
    configs = kinds(settings)
    model = _model(configs["MHA"], settings)
    seconds: dict[tuple[str, int], float] = {}
    for length in settings.lengths:
        bench.advance(f"{length:,} tokens, with and without a cache")
        ids = _ids(length + 1, settings)
        jobs = {WITH: partial(_step, model, ids, _filled(model, ids[:, :-1])), WITHOUT: partial(_whole, model, ids)}
        seconds |= {(way, length): taken for way, taken in interleaved(jobs, settings.repeats).items()}
    apart = _difference(model, _ids(settings.lengths[0], settings))
    weighed = _weigh(bench, configs, settings)
    short, long = settings.lengths[0], settings.lengths[-1]
    gain = {length: seconds[WITHOUT, length] / seconds[WITH, length] for length in (short, long)}
    faster = gain[long] >= 2 and gain[long] > gain[short]
    exact = all(abs(one.bytes - one.formula) < 1e-6 * one.formula for one in weighed)
    smaller = exact and all(one.bytes < weighed[0].bytes for one in weighed[1:])
    verdict: Verdict = "holds" if faster and smaller else "holds in part" if faster or smaller else "does not hold"
    slower = {way: seconds[way, long] / seconds[way, short] for way in (WITH, WITHOUT)}
    sentences = (
        f"Behind {long:,} tokens a new one takes {seconds[WITH, long] * 1e3:.1f} ms with a cache and "
        f"{seconds[WITHOUT, long] * 1e3:.1f} ms without ({gain[long]:.1f} times; behind {short}, {gain[short]:.1f}); "
        f"from {short} to {long:,} tokens it grows {slower[WITH]:.1f} and {slower[WITHOUT]:.1f} times.",
        "A token in the cache weighs " + ", ".join(f"{one.bytes:,.0f} bytes with {one.kind}" for one in weighed)
        + f"; cached and uncached logits differ by {apart:.1e} at most.",
    )  # fmt: skip
    rows: list[list[Any]] = [
        [one.kind, numbers.count(one.bytes), numbers.count(one.formula),
         numbers.percent(one.bytes / weighed[0].bytes, 0), numbers.fixed(one.seconds * 1e3)]
        for one in weighed
    ]  # fmt: skip
    points = [{"length": length, "ms": taken * 1e3, "series": way} for (way, length), taken in seconds.items()]
    return Finding(
        verdict, sentences, ("Attention", "Bytes per token", "By formula", "Of MHA", f"ms per token at {long:,}"), rows,
        [("Time of a new token", index_charts.lines(
            points, "length", "ms", (WITH, WITHOUT), "tokens before it", "milliseconds", x_values=settings.lengths,
            y_log=True)),
         ("Bytes of a token in the cache", charts.bars([{"kind": one.kind, "bytes": one.bytes} for one in weighed],
                                                       "kind", "bytes", "bytes", lambda value: f"{value:,.0f}"))],
        {"gain": gain[long], "gain_short": gain[short], "apart": apart, **{one.kind: one.bytes for one in weighed}},
        f"{settings.layers} layers, width {settings.hidden_size}, 8 heads; GQA has 2 heads of keys and values, MQA 1, "
        f"MLA a latent of {settings.rank} and a rotary key. Times are of this machine, one row, the median of "
        f"{settings.repeats}.",
    )  # fmt: skip


def kinds(settings: KVCacheSettings) -> dict[str, ModelConfig]:
    shape = {"vocab_size": 1024, "hidden_size": settings.hidden_size, "layers": settings.layers, "heads": 8,
             "context_length": max(settings.lengths) + 1}  # fmt: skip
    latent = {"rank": settings.rank, "rope_head_dim": 16}
    return {
        "MHA": ModelConfig.model_validate(shape),
        "GQA": ModelConfig.model_validate(shape | {"kv_heads": 2}),
        "MQA": ModelConfig.model_validate(shape | {"kv_heads": 1}),
        "MLA": ModelConfig.model_validate(shape | {"latent": latent, "qk_norm": False}),
    }


def _weigh(bench: Bench, configs: dict[str, ModelConfig], settings: KVCacheSettings) -> list[Weighed]:
    length = settings.lengths[-1]
    bench.advance(f"{', '.join(configs)} behind {length:,} tokens")
    ids = _ids(length + 1, settings)
    models = {kind: _model(config, settings) for kind, config in configs.items()}
    caches = {kind: _filled(model, ids[:, :-1]) for kind, model in models.items()}
    seconds = interleaved({kind: partial(_step, models[kind], ids, caches[kind]) for kind in configs}, settings.repeats)
    return [
        Weighed(kind, caches[kind].bytes / caches[kind].capacity, bytes_by_formula(config), seconds[kind])
        for kind, config in configs.items()
    ]


def bytes_by_formula(config: ModelConfig) -> int:
    """Of a token, in float32."""
    if config.latent is not None:
        return 4 * config.layers * (config.latent.rank + config.latent.rope_head_dim)
    return 4 * config.layers * 2 * config.kv_heads * config.head_dim


def _model(config: ModelConfig, settings: KVCacheSettings) -> Decoder:
    return Decoder(config, torch_generator(settings.seed, "kv-cache")).eval()


def _ids(length: int, settings: KVCacheSettings) -> Tensor:
    return torch.randint(0, 1024, (1, length), generator=torch_generator(settings.seed, "kv-cache", length))


@torch.inference_mode()
def _filled(model: Decoder, ids_BT: Tensor) -> KeyValueCache:
    cache = KeyValueCache(model.config, len(ids_BT), ids_BT.shape[1] + 1)
    model.hidden(ids_BT, cache=cache)
    return cache


@torch.inference_mode()
def _step(model: Decoder, ids_BT: Tensor, cache: KeyValueCache) -> Tensor:
    """Logits behind the last token, which is taken out of the cache again."""
    logits = model(ids_BT[:, -1:], cache=cache)[:, -1]
    cache.set_lengths([ids_BT.shape[1] - 1] * len(ids_BT))
    return logits


@torch.inference_mode()
def _whole(model: Decoder, ids_BT: Tensor) -> Tensor:
    """The same, all computed anew; the head at the last token alone, so that the comparison is fair."""
    return model.head(model.hidden(ids_BT)[:, -1])


def _difference(model: Decoder, ids_BT: Tensor) -> float:
    cached = _step(model, ids_BT, _filled(model, ids_BT[:, :-1]))
    return float((cached - _whole(model, ids_BT)).abs().max())


EXHIBIT = Exhibit(
    question="What does a cache of keys and values save, and what does it weigh?",
    claim="With a cache a new token costs one token's work instead of all, and fewer or latent key-value heads make it "
    "small.",
    formula="bytes of a token = 2 · layers · key-value heads · head width · bytes of a number; latent: layers · (rank "
    "+ rotary width) · bytes.",
    source="Shazeer 2019, section 3; Ainslie et al. 2023, section 2; DeepSeek-V2 2024, section 2.1 and table 1",
    settings=KVCacheSettings,
    measure=measure,
)
