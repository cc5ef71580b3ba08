"""Which tokens reach which outputs under self-, causal and cross-attention: one token is changed, all outputs are read.

T tokens of a text, each of which is changed once; S of a source; C model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...core.errors import DataError
from ...core.randomness import torch_generator
from ...models import Decoder, Encoder, EncoderDecoder, ModelConfig
from ...reports import charts
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_SEEN = 1e-5  # of an output's length; below it rounding differs, not what was seen


class AttentionMasksSettings(Settings):
    tokens: int = Field(12, ge=3, le=64, description="of the text, each changed once")


@dataclass(frozen=True)
class Influence:
    """How far each output moves, in its own lengths, when a token is replaced: (tokens, outputs); and which of these
    pairs the mask allows."""

    kind: str
    moved: np.ndarray
    allowed: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        return self.moved > _SEEN

    @property
    def reached(self) -> float:
        """Share of the allowed pairs where the output moved."""
        return float(self.seen[self.allowed].mean())

    @property
    def leaked(self) -> int:
        """Forbidden pairs where it did."""
        return int(self.seen[~self.allowed].sum())


def measure(bench: Bench, settings: AttentionMasksSettings) -> Finding:
    ids, words = _text(bench, settings.tokens)
    count = len(ids)
    decoder, everywhere = bench.decoder(), np.ones((count, count), dtype=bool)
    found = [
        Influence("self-attention, both ways", _moved(_encoder(bench), ids, settings.seed), everywhere),
        Influence("causal self-attention", _moved(decoder.hidden, ids, settings.seed), np.triu(everywhere)),
        Influence("cross-attention", _moved(_crossed(bench, ids), ids, settings.seed), everywhere),
    ]
    apart = _prefixes_apart(decoder, ids)
    leaked, reached = sum(one.leaked for one in found), min(one.reached for one in found)
    verdict: Verdict = "does not hold" if leaked else "holds" if reached >= 0.99 else "holds in part"
    causal = found[1]
    sentences = (
        f"Of {int(causal.allowed.sum())} pairs that the causal mask allows {causal.reached:.0%} move the output, and "
        f"of {int((~causal.allowed).sum())} that it hides {causal.leaked}; both ways and across it is "
        f"{found[0].reached:.0%} and {found[2].reached:.0%} of all.",
        f"One causal pass gives each prefix what a pass over it alone gives, up to {apart:.1e} of a logit: {count} "
        "predictions are trained for the price of one reading.",
    )
    rows: list[list[Any]] = [
        [one.kind, int(one.allowed.sum()), f"{one.reached:.1%}", int((~one.allowed).sum()), one.leaked] for one in found
    ]
    panels = [
        (one.kind.capitalize(), charts.heat_map(
            np.log10(np.maximum(one.moved, 10.0**_DEEPEST)), words, words, "output at", "token changed",
            "moves by 10^", domain=(_DEEPEST, 0), form="d",
        ))
        for one in found
    ]  # fmt: skip
    return Finding(
        verdict, sentences, ("Kind", "Pairs allowed", "Output moved", "Pairs hidden", "Output moved"), rows, panels,
        {"reached": reached, "leaked": float(leaked), "apart": apart},
        "Causal: the run’s base model. Both ways: its encoder. Across: an encoder–decoder with random weights whose "
        "source is changed; who may see whom is a matter of the mask and not of the weights.",
    )  # fmt: skip


_DEEPEST = -4


def _moved(outputs: Callable[[Tensor], Tensor], ids: list[int], seed: int) -> np.ndarray:
    """Distance of each output from what it was, over its length, for each token replaced: (T, T)."""
    length = len(ids)
    batch = torch.tensor(ids).repeat(length + 1, 1)
    shift = torch.randint(1, max(2, min(ids) + 1), (length,), generator=torch_generator(seed, "masks"))
    for place in range(length):
        other = int(batch[place, place] - shift[place])
        batch[place, place] = other if other >= 0 else int(batch[place, place]) + 1
    with torch.inference_mode():
        out_NTC = outputs(batch).double()
    was_TC = out_NTC[-1]
    moved: np.ndarray = ((out_NTC[:-1] - was_TC).norm(dim=-1) / was_TC.norm(dim=-1)).numpy()
    return moved


def _encoder(bench: Bench) -> Callable[[Tensor], Tensor]:
    model = bench.encoder.model
    if isinstance(model, Encoder):
        return model.eval()
    config = _small(bench, "encoder")
    return Encoder(config, torch_generator(0, "masks", "encoder")).eval()


def _crossed(bench: Bench, ids: list[int]) -> Callable[[Tensor], Tensor]:
    """The decoder's states over the text for sources of as many tokens."""
    model = EncoderDecoder(_small(bench, "encoder-decoder"), torch_generator(0, "masks", "across")).eval()
    target = torch.tensor([ids])
    return lambda source_BS: model.decode_hidden(target.expand(len(source_BS), -1), model.encode(source_BS))


def _small(bench: Bench, kind: str) -> ModelConfig:
    return ModelConfig(
        kind=kind, vocab_size=bench.tokenizer.vocab_size, hidden_size=64, layers=2, heads=2, context_length=128
    )


@torch.inference_mode()
def _prefixes_apart(model: Decoder, ids: list[int]) -> float:
    whole = model(torch.tensor([ids]))[0]
    alone = torch.stack([model(torch.tensor([ids[: end + 1]]))[0, -1] for end in range(len(ids))])
    return float((whole - alone).abs().max())


def _text(bench: Bench, count: int) -> tuple[list[int], list[str]]:
    """The first tokens of the first held-out text that has as many, and how they read."""
    tokenizer = bench.tokenizer
    for text in bench.texts("validation"):
        ids = tokenizer.encode(text, parse_special=False)[:count].tolist()
        if len(ids) == count:
            return ids, [tokenizer.decode([one]).strip() or "·" for one in ids]
    raise DataError(f"no held-out text has {count} tokens", hint="Lower attention-masks.tokens.")


EXHIBIT = Exhibit(
    question="Which tokens can each output know of?",
    claim="Self-attention sees the whole text, under a causal mask no token ahead, cross-attention the whole source.",
    formula="Attention = softmax(QKᵀ / √d + M) V with M = −∞ where a query may not look; across, K and V are of the "
    "source.",
    source="Vaswani et al. 2017, section 3.2.3",
    settings=AttentionMasksSettings,
    measure=measure,
    needs=("corpus", "tokenizer", "base", "encoder"),
)
