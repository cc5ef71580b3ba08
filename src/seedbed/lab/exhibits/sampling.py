"""What temperature, top-p and greed make of the run's base model: entropy, nucleus, surprise and repetition, measured.

N positions of held-out text, V vocabulary; texts go on from held-out prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...generation import Engine, Sampling
from ...generation.long_context import stretches
from ...models import Decoder
from ...reports import index_charts, numbers
from ...training.objectives import token_nats
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

HUMAN = "the text itself"
_GRAM = 4  # tokens of a repeated piece


class SamplingSettings(Settings):
    temperatures: tuple[float, ...] = Field((0.25, 0.5, 0.75, 1.0, 1.25, 1.5), min_length=2, description="rising")
    top_p: tuple[float, ...] = Field((0.5, 0.9, 0.99), min_length=1, description="of nuclei at temperature 1")
    prompts: int = Field(48, ge=2, description="of the validation split; a quarter of the context each")


@dataclass(frozen=True)
class Written:
    """How texts came out: repeated pieces of four tokens and nats per token under the model, with standard errors."""

    how: str
    repeated: float
    repeated_error: float
    nats: float
    different: float  # ids in all texts together, over tokens


def measure(bench: Bench, settings: SamplingSettings) -> Finding:
    model, tokens = bench.decoder(), bench.tokens("validation").tokens
    context = model.config.context_length
    rows = stretches(tokens, context + 1, 16)
    logits_NV = _logits(model, rows[:, :-1])
    entropies = {one: entropy(logits_NV / one) for one in settings.temperatures}
    nuclei = {share: nucleus(logits_NV, share) for share in settings.top_p}
    ways = {
        "greedy": Sampling(temperature=0),
        **{f"temperature {one:g}": Sampling(temperature=one, seed=settings.seed) for one in settings.temperatures},
        **{f"top-p {one:g}": Sampling(top_p=one, seed=settings.seed) for one in settings.top_p},
    }
    prompt, length = max(4, context // 4), context // 2
    texts = stretches(tokens, prompt + length, settings.prompts)
    found = [written(HUMAN, model, texts, prompt)]
    for how, sampling in ways.items():
        bench.advance(f"{len(texts)} texts of {length} tokens, {how}")
        found.append(written(how, model, _continued(model, texts[:, :prompt], sampling, length), prompt))
    by_how = {one.how: one for one in found}
    human, greedy = by_how[HUMAN], by_how["greedy"]
    nearest = min(found[1:], key=lambda one: abs(one.nats - human.nats))
    rising = all(a < b for a, b in zip(entropies.values(), list(entropies.values())[1:], strict=False))
    loops = greedy.repeated - human.repeated > 2 * math.hypot(greedy.repeated_error, human.repeated_error)
    natural = nearest.how.startswith("top-p") or abs(_warmth(nearest.how) - 1) < 0.3
    held = sum((rising, loops, natural))
    verdict: Verdict = "holds" if held == 3 else "holds in part" if loops or natural else "does not hold"
    coldest, warmest = settings.temperatures[0], settings.temperatures[-1]
    sentences = (
        f"From temperature {coldest:g} to {warmest:g} the entropy of the next token goes from {entropies[coldest]:.2f} "
        f"to {entropies[warmest]:.2f} nats; at 1, {settings.top_p[-1]:.0%} of the probability lies on "
        f"{nuclei[settings.top_p[-1]]:,.0f} of {model.config.vocab_size:,} ids, {settings.top_p[0]:.0%} on "
        f"{nuclei[settings.top_p[0]]:,.0f}.",
        f"Greedy texts repeat {greedy.repeated:.0%} ± {greedy.repeated_error:.0%} of their pieces of {_GRAM} tokens, "
        f"the text itself {human.repeated:.0%} ± {human.repeated_error:.0%}; its {human.nats:.2f} nats a token are met "
        f"best by {nearest.how} ({nearest.nats:.2f}; greedy {greedy.nats:.2f}).",
    )
    table: list[list[Any]] = [
        [one.how.capitalize(), numbers.percent(one.repeated), numbers.percent(one.repeated_error),
         numbers.fixed(one.nats), numbers.percent(one.different)]
        for one in found
    ]  # fmt: skip
    return Finding(
        verdict, sentences, ("Texts", "Pieces repeated", "Error", "Nats per token", "Different ids"), table,
        [("Entropy of the next token", _line([(one, value, "entropy") for one, value in entropies.items()], "nats")),
         ("Pieces repeated", _line(
             [(one, by_how[f"temperature {one:g}"].repeated, "sampled") for one in settings.temperatures]
             + [(one, human.repeated, HUMAN) for one in settings.temperatures], "share", (HUMAN,)))],
        {"entropy_first": entropies[coldest], "entropy_last": entropies[warmest], "greedy": greedy.repeated,
         "human": human.repeated, "human_nats": human.nats, "nucleus": nuclei[settings.top_p[-1]]},
        f"Pieces repeated: of {_GRAM} tokens, that the same text had before. Nats: what the model at temperature 1 "
        "pays for the texts. Different ids: of all texts together, over their tokens.",
    )  # fmt: skip


def entropy(logits_NV: Tensor) -> float:
    """Mean nats of softmax(logits)."""
    logs_NV = logits_NV.log_softmax(dim=-1)
    return float(-(logs_NV.exp() * logs_NV).sum(dim=-1).mean())


def nucleus(logits_NV: Tensor, share: float) -> float:
    """Mean number of the likeliest ids that hold `share` of the probability."""
    before_NV = logits_NV.softmax(dim=-1).sort(dim=-1, descending=True).values.cumsum(dim=-1)
    return float((before_NV < share).sum(dim=-1).float().mean()) + 1


def repeated(ids: Sequence[int], size: int = _GRAM) -> float:
    """Share of pieces that came before in the same text: 1 - different ones over all (Welleck et al. 2020)."""
    pieces = list(zip(*(ids[start:] for start in range(size)), strict=False))
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


@torch.inference_mode()
def written(how: str, model: Decoder, texts_BT: Tensor, prompt: int) -> Written:
    """Texts (B, T), of which the first `prompt` tokens were given."""
    shares = np.array([repeated(row) for row in texts_BT[:, prompt:].tolist()])
    nats_BT = torch.cat([token_nats(model, part[:, :-1], part[:, 1:])[:, prompt - 1 :] for part in texts_BT.split(16)])
    different = len(texts_BT[:, prompt:].unique()) / texts_BT[:, prompt:].numel()
    error = float(shares.std(ddof=1) / math.sqrt(len(shares)))
    return Written(how, float(shares.mean()), error, float(nats_BT.mean()), different)


def _continued(model: Decoder, prompts_BT: Tensor, sampling: Sampling, length: int) -> Tensor:
    """Prompts and what follows, all of one length: no end of text stops them."""
    engine = Engine(model, eos_token_ids=())
    told = engine.generate([row.numpy() for row in prompts_BT], sampling.replace(max_new_tokens=length), decode=False)
    return torch.cat((prompts_BT, torch.tensor(np.stack([one.ids for one in told]).astype(np.int64))), dim=1)


@torch.inference_mode()
def _logits(model: Decoder, ids_BT: Tensor) -> Tensor:
    """Of every eighth position."""
    return torch.cat([model.head(model.hidden(part)[:, ::8]).flatten(0, 1).float() for part in ids_BT.split(4)])


def _warmth(how: str) -> float:
    return float(how.removeprefix("temperature ")) if how.startswith("temperature") else 0.0


def _line(points: list[tuple[float, float, str]], title: str, dashed: Sequence[str] = ()) -> Any:
    rows = [{"temperature": one, "value": value, "series": series} for one, value, series in points]
    order = list(dict.fromkeys(series for *_, series in points))
    return index_charts.lines(
        rows, "temperature", "value", order, "temperature", title, dashed=dashed, x_log=False,
        x_values=sorted({one for one, *_ in points}),
        y_axis=".0%" if title == "share" else "~r",
    )  # fmt: skip


EXHIBIT = Exhibit(
    question="What do temperature, top-p and greed make of the same model?",
    claim="Greedy decoding repeats itself; sampling near temperature 1 is as surprising as people are, and heat only "
    "adds entropy.",
    formula="p_T(i) ∝ exp(z_i / T); H(p_T) rises with T; nucleus: the fewest ids with Σ p ≥ top-p.",
    source="Holtzman et al. 2020, sections 3 and 4; Welleck et al. 2020",
    settings=SamplingSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)
