"""What happens to a decoder beyond the context that it was trained with: its loss by position under each way to extend
rotary positions, caches that forget side by side, what they still recall, and where its attention goes.

Each function returns a table. B rows of text, T tokens, S keys, H heads, C the trained context, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import ConfigError, DataError
from ..core.randomness import numpy_generator
from ..models import Decoder, KeyValueCache
from ..models.attention import Attention, Sight
from ..models.cache import CacheConfig
from ..models.positions import rotate
from ..training.objectives import token_nats

METHODS = ("none", "linear", "ntk", "yarn")
MULTIPLES = (1, 2, 4, 8)
CACHES = ("dense", "window", "window + sinks", "recomputation")
_CHUNK = 32  # tokens of a prompt that go into a cache at once


@dataclass(frozen=True)
class PositionLoss:
    """Mean loss of the tokens at positions from `start` to `stop`, in nats, with its standard error over texts."""

    method: str
    multiple: int  # the context that the method was set for, in trained ones
    start: int
    stop: int
    nats: float
    error: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats)


@dataclass(frozen=True)
class CacheResult:
    """A way to go on beyond the window: mean loss there, bytes that it keeps for a text, tokens per second of decoding
    (of this process, all texts together), and the mean loss of each text, which are the same for all ways."""

    cache: str
    nats: float
    error: float
    bytes: int
    tokens_per_second: float
    by_text: tuple[float, ...]

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats)


@dataclass(frozen=True)
class Recall:
    """Nats that a value gains at its key's second mention by having been told at the first, `distance` tokens before;
    0: nothing of it is left. `right`: share of tries where the told value is likelier than all others."""

    cache: str
    distance: int
    nats: float
    error: float
    right: float


@dataclass(frozen=True)
class ContextStudy:
    """All of them, of one model."""

    context: int
    window: int
    sinks: int
    positions: list[PositionLoss]
    caches: list[CacheResult]
    recall: list[Recall]
    mass: np.ndarray  # (layers, heads): share of attention on the first tokens

    def to_json(self) -> dict[str, Any]:
        rows = {name: [asdict(one) for one in getattr(self, name)] for name in ("positions", "caches", "recall")}
        return {"context": self.context, "window": self.window, "sinks": self.sinks, **rows, "mass": self.mass.tolist()}


def study(
    model: Decoder,
    ids: np.ndarray,
    *,
    window: int | None = None,
    sinks: int = 4,
    texts: int = 8,
    seed: int = 0,
    advance: Callable[[str], None] = lambda what: None,
) -> ContextStudy:
    """Everything here about `model` on the token ids of a text, int (n,).

    Args:
        window: of the caches that forget; half of the trained context unless given.
        texts: stretches of the text that are measured.

    Raises: DataError for too short a text; ConfigError for a model without rotary positions or with a window.
    """
    window = window or max(8, model.config.context_length // 2)
    advance("loss by position")
    positions = loss_by_position(model, ids, texts=texts)
    advance("caches")
    caches = compare_caches(model, ids, window=window, sinks=sinks, texts=min(texts, 4))
    advance("recall")
    recall = recall_by_distance(model, ids, window=window, sinks=sinks, seed=seed)
    advance("attention")
    rows = stretches(ids, model.config.context_length, texts)
    mass = first_token_mass(model, rows, first=sinks)
    return ContextStudy(model.config.context_length, window, sinks, positions, caches, recall, mass)


def stretches(ids: np.ndarray, length: int, most: int) -> Tensor:
    """Up to `most` stretches of `length` tokens, int64 (B, T), spread evenly over the text."""
    if len(ids) < length:
        raise DataError(f"the text has {len(ids):,} tokens, and {length:,} are needed", hint="Give a longer text.")
    count = min(most, len(ids) // length)
    starts = np.linspace(0, len(ids) - length, count).astype(np.int64)
    return torch.from_numpy(np.stack([ids[start : start + length] for start in starts]).astype(np.int64))


def extended(model: Decoder, method: str, factor: float) -> Decoder:
    """The same weights with rotary positions that reach `factor` times as far (see `models.RopeScaling`)."""
    config = model.config
    if method not in METHODS:
        raise ConfigError(f"'{method}' extends no positions", where="method", hint=f"Known: {', '.join(METHODS)}.")
    if config.positions != "rotary":
        raise ConfigError(f"{config.positions} positions have no such extension", where="positions")
    scaling = None
    if method != "none" and factor > 1:
        scaling = {"kind": method, "factor": factor, "original_context": config.context_length}
    reach = math.ceil(config.context_length * factor)
    with torch.device("meta"):
        other = Decoder(config.replace(rope_scaling=scaling or config.rope_scaling, context_length=reach))
    other.load_state_dict(model.state_dict(), assign=True)
    return other.eval().requires_grad_(False)


def loss_by_position(
    model: Decoder,
    ids: np.ndarray,
    *,
    methods: Sequence[str] = METHODS,
    multiples: Sequence[int] = MULTIPLES,
    texts: int = 8,
) -> list[PositionLoss]:
    """Loss in the first trained context, the second, the third and fourth and so on, up to `multiples` of it, of the
    model as it is and extended by each method (Chen et al. 2023, section 3; Peng et al. 2023, section 4)."""
    context = model.config.context_length
    rows = stretches(ids, context * max(multiples) + 1, texts)
    edges = [0, *(context * multiple for multiple in sorted(multiples))]
    found = []
    for method in methods:
        for multiple in multiples if method != "none" else (max(multiples),):
            if method != "none" and multiple == 1:
                continue  # the model as it is
            whole = rows[:, : context * multiple + 1]
            other = extended(model, method, multiple)
            nats_BT = torch.cat([token_nats(other, row[None, :-1], row[None, 1:]) for row in whole])
            for start, stop in itertools.pairwise(edges):
                if stop <= nats_BT.shape[1]:
                    mean, error = _mean(nats_BT[:, start:stop].mean(dim=1))
                    found.append(PositionLoss(method, multiple, start, stop, mean, error))
    return found


def compare_caches(
    model: Decoder, ids: np.ndarray, *, window: int, sinks: int = 4, length: int | None = None, texts: int = 4
) -> list[CacheResult]:
    """Texts read token by token, as decoding would: everything kept, the latest `window` tokens kept, the first `sinks`
    kept as well (StreamingLLM, Xiao et al. 2024), and the latest `window` computed anew for each token. Loss is of the
    tokens behind the first `window + sinks`.

    Args:
        length: tokens of each text; four trained contexts unless given.
    """
    length = length or 4 * model.config.context_length
    if length <= window + sinks + 1:
        raise ConfigError(f"{length} tokens do not reach beyond a window of {window}", where="length")
    rows_BT = stretches(ids, length + 1, texts)
    results = []
    for name in CACHES:
        started = time.perf_counter()
        nats, kept = _read_through(model, rows_BT, name, window, sinks)
        seconds = time.perf_counter() - started
        each_B = nats[:, window + sinks :].mean(dim=1)
        mean, error = _mean(each_B)
        speed = nats.numel() / seconds
        results.append(CacheResult(name, mean, error, kept // len(rows_BT), speed, tuple(each_B.tolist())))
    return results


@torch.inference_mode()
def _read_through(model: Decoder, rows_BT: Tensor, name: str, window: int, sinks: int) -> tuple[Tensor, int]:
    """Loss (B, T) of each token but the first, and bytes of the cache."""
    inputs_BT, targets_BT = rows_BT[:, :-1], rows_BT[:, 1:]
    cache = _cache(model, name, window, sinks, *inputs_BT.shape)
    nats = []
    for place in range(inputs_BT.shape[1]):
        if cache is None:
            logits_BV = model.head(model.hidden(inputs_BT[:, max(0, place + 1 - window) : place + 1])[:, -1])
        else:
            logits_BV = model(inputs_BT[:, place : place + 1], cache=cache)[:, -1]
        nats.append(F.cross_entropy(logits_BV.float(), targets_BT[:, place], reduction="none"))
    return torch.stack(nats, dim=1), 0 if cache is None else cache.bytes


def _cache(
    model: Decoder, name: str, window: int, sinks: int, rows: int, tokens: int, slack: int = 1
) -> KeyValueCache | None:
    """None for recomputation, which keeps nothing."""
    layouts: dict[str, dict[str, Any]] = {
        "dense": {"kind": "full"},
        "window": {"kind": "window", "window": window},
        "window + sinks": {"kind": "sinks", "window": window, "sinks": sinks},
    }
    if name not in layouts:
        return None
    layout = CacheConfig.model_validate(layouts[name] | {"slack": slack})
    return KeyValueCache(model.config, rows, tokens, dtype=model.embedding.weight.dtype, layout=layout)


def recall_by_distance(
    model: Decoder,
    ids: np.ndarray,
    *,
    window: int,
    sinks: int = 4,
    distances: Sequence[int] | None = None,
    tries: int = 16,
    values: int = 8,
    seed: int = 0,
) -> list[Recall]:
    """A lookup planted in text: a key and a value, text of `distance` tokens, and the key again. Keys and values are
    random tokens, three to a key.

    A cache that forgets cannot recall what lies further back than its layers reach: `window` tokens each. With
    recomputation it is `window` in all.

    Args:
        distances: tokens from a value to where it is asked for, at least 4; by default half a window to twice what the
            layers reach.
        values: candidates, of which one is told and each is scored.
    """
    config = model.config
    reach = window * config.layers
    distances = distances or sorted({max(4, window // 2), max(4, window - 8), 2 * window, reach, 2 * reach})
    random = numpy_generator(seed, "recall")
    common = np.unique(ids)
    results = []
    for distance in distances:
        filler = stretches(ids, distance + sinks + 8, tries).numpy()
        told, asked = [], []  # each key with every value, and the values that it may have
        for row in filler:
            key, candidates = random.choice(common, 3, replace=False), random.choice(common, values, replace=False)
            before, between = row[: sinks + 4], row[sinks + 4 : sinks + distance]
            told += [np.concatenate((before, key, [value], between, key)) for value in candidates]
            asked.append(candidates)
        rows_BT, asked_NV = torch.from_numpy(np.stack(told)), torch.from_numpy(np.stack(asked)).long()
        for name in CACHES:
            scores_NVV = _answers(model, rows_BT, name, window, sinks).unflatten(0, (-1, values))
            scores_NVV = scores_NVV.gather(2, asked_NV[:, None].expand(-1, values, -1))
            own_NV = scores_NVV.diagonal(dim1=1, dim2=2)
            others_NV = (scores_NVV.sum(dim=1) - own_NV) / (values - 1)
            mean, error = _mean((own_NV - others_NV).mean(dim=1))
            right = (scores_NVV.argmax(dim=2) == torch.arange(values)).float().mean()
            results.append(Recall(name, distance, mean, error, float(right)))
    return results


@torch.inference_mode()
def _answers(model: Decoder, rows_BT: Tensor, name: str, window: int, sinks: int) -> Tensor:
    """Log-probabilities (B, V) of what follows each row."""
    cache = _cache(model, name, window, sinks, len(rows_BT), rows_BT.shape[1], _CHUNK)
    if cache is None:
        return model.head(model.hidden(rows_BT[:, -window:])[:, -1]).float().log_softmax(dim=-1)
    for part in rows_BT.split(_CHUNK, dim=1):
        hidden_BTC = model.hidden(part, cache=cache)
    return model.head(hidden_BTC[:, -1]).float().log_softmax(dim=-1)


@torch.no_grad()
def first_token_mass(model: Decoder, ids_BT: Tensor, first: int = 1) -> np.ndarray:
    """The share of attention that goes to the first `first` tokens, float64 (layers, heads): the mean over queries
    behind them. A model that looks at all tokens alike gives `first` times the mean of 1 / position.

    Raises: ConfigError for latent attention, whose keys depend on the query's head in no simple way.
    """
    if model.config.latent is not None:
        raise ConfigError("latent attention has no keys of its own to look at", where="latent")
    found: list[np.ndarray] = []

    def look(module: Any, inputs: Any, options: Any) -> None:
        weights_BHTS = _weights(module, *inputs)
        found.append(weights_BHTS[:, :, first:, :first].sum(dim=-1).mean(dim=(0, 2)).double().numpy())

    attentions = [block.get_submodule("attention") for block in model.blocks]
    hooks = [one.register_forward_pre_hook(look, with_kwargs=True) for one in attentions]
    try:
        model.hidden(ids_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return np.stack(found)


def _weights(attention: Attention, x_BTC: Tensor, sight: Sight) -> Tensor:
    """What `attention` weighs values by, (B, H, T, S); a learned sink's share is left out."""
    q_BTHD = attention.q_proj(x_BTC).unflatten(-1, (-1, attention.head_dim))
    q_BTHD = q_BTHD if attention.q_norm is None else attention.q_norm(q_BTHD)
    q_BTHD = q_BTHD if sight.rotation is None else rotate(q_BTHD, sight.rotation)
    k_BSGD, _ = attention._keys_and_values(x_BTC, sight.rotation)
    k_BSHD = k_BSGD.repeat_interleave(q_BTHD.shape[2] // k_BSGD.shape[2], dim=2)
    scale = attention.head_dim**-0.5 if attention.scale is None else attention.scale
    scores_BHTS = torch.einsum("bthd,bshd->bhts", q_BTHD, k_BSHD) * scale
    if attention.softcap:
        scores_BHTS = attention.softcap * torch.tanh(scores_BHTS / attention.softcap)
    length = x_BTC.shape[1]
    ahead = torch.ones(length, length, dtype=torch.bool, device=x_BTC.device).triu(1)
    scores_BHTS = scores_BHTS.masked_fill(ahead, float("-inf"))
    if sight.mask is not None:
        assert isinstance(sight.mask, Tensor)  # no documents are packed here
        scores_BHTS = scores_BHTS + sight.mask
    if attention.sinks is None:
        return scores_BHTS.softmax(dim=-1)
    sink = attention.sinks.view(1, -1, 1, 1).expand(*scores_BHTS.shape[:3], 1)
    return torch.cat((scores_BHTS, sink), dim=-1).softmax(dim=-1)[..., :-1]


def _mean(values: Tensor) -> tuple[float, float]:
    """Of independent values, with its standard error (0 for a single one)."""
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), error
