"""First tokens as attention's resting place, and what becomes of a cache that drops them, on the run's base model."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from ...generation.long_context import CacheResult, compare_caches, first_token_mass, stretches
from ...reports import charts, index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_MEASURED, _EVEN = "this model", "an even share"
_MUCH = 2.0  # times an even share, from which first tokens are a resting place


class AttentionSinksSettings(Settings):
    window: int = Field(0, ge=0, description="latest tokens that are kept; 0: half of the trained context")
    sinks: int = Field(4, ge=1, le=64, description="first tokens that are kept as well")
    multiple: int = Field(2, ge=2, description="length of the texts, in trained contexts")
    texts: int = Field(8, ge=2, description="stretches of the validation split that are read")


def measure(bench: Bench, settings: AttentionSinksSettings) -> Finding:
    model, ids = bench.decoder(), bench.tokens("validation").tokens
    context = model.config.context_length
    window = settings.window or context // 2
    bench.advance("where attention rests")
    rows_BT = stretches(ids, context, 16)
    mass, even = first_token_mass(model, rows_BT, first=1), even_share(1, context)
    shares = [
        {"first": first, "share": share, "series": series}
        for first in (1, 2, 4, 8, 16)
        if first < context
        for series, share in (
            (_MEASURED, float(first_token_mass(model, rows_BT, first).mean())), (_EVEN, even_share(first, context))
        )
    ]  # fmt: skip
    bench.advance(f"texts of {settings.multiple * context:,} tokens through a cache of {window}")
    caches = compare_caches(
        model, ids, window=window, sinks=settings.sinks, length=settings.multiple * context, texts=settings.texts
    )  # fmt: skip
    found = {one.cache: one for one in caches}
    window_only, with_sinks, anew = found["window"], found["window + sinks"], found["recomputation"]
    rests = float(mass.mean()) >= _MUCH * even
    breaks, repaired = _above(window_only, anew), not _above(with_sinks, anew)
    held = sum((rests, breaks, repaired and breaks))
    verdict: Verdict = "holds" if held == 3 else "holds in part" if held else "does not hold"
    highest = np.unravel_index(int(mass.argmax()), mass.shape)
    sentences = (
        f"The first token gets {mass.mean():.1%} of the attention of those behind it, where an even share is "
        f"{even:.1%}; most in layer {highest[0] + 1}, head {highest[1] + 1}, {mass.max():.1%}.",
        f"Behind the window a cache of the latest {window} pays {anew.nats:.3f} nats a token when read anew for each "
        f"token, {_told(window_only, anew)} when kept, and {_told(with_sinks, anew)} with the first {settings.sinks} "
        f"kept as well: dropping them {'costs' if breaks else 'costs no'} more than luck explains"
        + (f", keeping them {'repairs' if repaired else 'does not repair'} it." if breaks else "."),
    )
    rows: list[list[Any]] = [
        [one.cache.capitalize(), numbers.fixed(one.nats, 3), numbers.fixed(one.error, 3),
         numbers.fixed(one.perplexity, 1), numbers.memory(one.bytes) if one.bytes else ""]
        for one in caches
    ]  # fmt: skip
    layers = [str(layer + 1) for layer in range(mass.shape[0])]
    heads = [str(head + 1) for head in range(mass.shape[1])]
    return Finding(
        verdict, sentences, ("Cache", "Nats per token", "Error", "Perplexity", "Memory of a text"), rows,
        [("Attention on the first token", charts.heat_map(
            mass, layers, heads, "head", "layer", "share", form=".0%", domain=(0, max(float(mass.max()), even)))),
         ("Attention on the first tokens together", index_charts.lines(
             shares, "first", "share", (_MEASURED, _EVEN), "first tokens", "share of those behind them",
             dashed=(_EVEN,), x_values=(1, 2, 4, 8, 16), y_axis=".0%"))],
        {"mass": float(mass.mean()), "even": even, "window": window_only.nats, "sinks": with_sinks.nats,
         "anew": anew.nats},
        f"Texts of {settings.multiple} trained contexts ({context} tokens each); dense keeps all, at positions never "
        "trained. Errors are standard errors over texts; differences above are text by text. Sinks come with long "
        "training (Gu et al. 2025): a model of few steps may have none.",
    )  # fmt: skip


def even_share(first: int, context: int) -> float:
    """What the first tokens get from those behind them where all tokens are looked at alike."""
    return float(np.mean([first / place for place in range(first + 1, context + 1)]))


def _above(one: CacheResult, other: CacheResult) -> bool:
    """By more than two standard errors of the difference, text by text, and a hundredth of a nat."""
    apart, error = _apart(one, other)
    return apart > max(0.01, 2 * error)


def _apart(one: CacheResult, other: CacheResult) -> tuple[float, float]:
    each = np.array(one.by_text) - np.array(other.by_text)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def _told(one: CacheResult, other: CacheResult) -> str:
    apart, error = _apart(one, other)
    return f"{numbers.fixed(apart, 3, sign=True)} ± {error:.3f}"


EXHIBIT = Exhibit(
    question="Why does a model break when the first tokens leave its cache?",
    claim="Attention rests on the first tokens; a window without them breaks, and keeping four of them repairs it.",
    formula="Σ_s softmax(q·k_s) = 1: what no token deserves rests on tokens that all can see.",
    source="Xiao et al. 2024, sections 3.1 and 3.2",
    settings=AttentionSinksSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)
