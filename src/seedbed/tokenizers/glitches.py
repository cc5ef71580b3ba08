"""Under-trained ("glitch") tokens: ids that a model's training never or hardly met, found in its embeddings.

Source: Land & Bartolo 2024, "Fishing for Magikarp". A row of the input embedding that no text asks for is never
written to, so its norm tells it apart; a row of the head that is never the answer is only ever pushed away, as all such
rows are, so it lies near those that are known to be unused. Whether the model can indeed not say a token, prompting it
shows (evaluation/token_probing.py).

Legend: V rows of the embedding, C its width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ConfigError, DataError
from .token_kinds import KINDS, NEVER_IN_UTF8, TokenKinds, byte_ids, token_kinds, token_text
from .tokenizer import Tokenizer

# Indicator to what it says; the lower, the less trained. All but the first need ids that are known to be unused.
INDICATORS: dict[str, str] = {
    "norm": "length of the row",
    "cosine": "cosine distance to the mean of the unused rows",
    "cosine_centred": "the same, when the mean of all rows is taken off",
    "cosine_without_first": "the same, when the first principal component is taken out",
    "distance": "Euclidean distance to the mean of the unused rows",
}
# The probability of a token where the prompt asks for it, over that of well-trained ones: below the first two, above
# the last (section 2.3, where the models are large and well-trained tokens reach 1).
_CONFIRMED, _LIKELY, _REJECTED = 0.001, 0.1, 0.9
VERDICTS = ("confirmed", "likely", "unclear", "rejected")

Verify = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class GlitchToken:
    """One id that the indicator calls under-trained."""

    id: int
    token: str
    indicator: float
    count: int | None = None  # in the training tokens, where they are known
    probability: float | None = None  # the model's, at most, where prompts ask for the token: see GlitchReport.controls
    verdict: str | None = None  # of VERDICTS


@dataclass(frozen=True)
class GlitchReport:
    """Ids by how little they were trained.

    values: float64 (V,), the indicator of every id.
    candidates: int64 (n,), ids that were ranked, the least trained first: all but control tokens, single bytes, ids
        without a token, and the references.
    tokens: the beginning of the ranking.
    auroc: by indicator, the probability that an id which never occurred ranks before one that occurred; where the
        counts are known and there are both.
    controls: the probabilities that the same prompts get for well-trained ids. A small model copies badly, so what it
        does not say of the suspects is measured against what it says of these.
    """

    indicator: str
    tied: bool
    values: NDArray[np.float64]
    candidates: NDArray[np.int64]
    tokens: tuple[GlitchToken, ...]
    references: tuple[int, ...]
    never_occurred: int | None
    auroc: Mapping[str, float]
    controls: tuple[float, ...] = ()

    @property
    def control_probability(self) -> float | None:
        """The median of `controls`: near 1 for a model that copies what it is shown."""
        return float(np.median(self.controls)) if self.controls else None

    @property
    def separation(self) -> float | None:
        """The probability that a listed id is less sayable than a well-trained one."""
        listed = [-token.probability for token in self.tokens if token.probability is not None]
        scores = [*listed, *(-one for one in self.controls)]
        return auroc(scores, [True] * len(listed) + [False] * len(self.controls))

    def to_json(self) -> dict[str, Any]:
        return {
            "indicator": self.indicator,
            "tied": self.tied,
            "ranked": len(self.candidates),
            "references": list(self.references),
            "never_occurred": self.never_occurred,
            "auroc": dict(self.auroc),
            "control_probability": self.control_probability,
            "separation": self.separation,
            "tokens": [asdict(token) for token in self.tokens],
        }


def glitch_tokens(
    tokenizer: Tokenizer,
    input_embeddings: ArrayLike,
    output_embeddings: ArrayLike | None = None,
    *,
    counts: ArrayLike | None = None,
    unused: Sequence[int] = (),
    indicator: str | None = None,
    share: float = 0.02,
    verify: Verify | None = None,
    controls: int = 32,
    kinds: TokenKinds | None = None,
) -> GlitchReport:
    """Rank the ids of a model by how little they were trained, the least trained first.

    Args:
        input_embeddings: (V, C), at least as many rows as the tokenizer has ids.
        output_embeddings: the head's matrix (V, C) where it is another; None: tied.
        counts: how often each id stands in the training tokens, (vocab_size,), where they are known.
        unused: ids known to be unused, besides bytes that are in no UTF-8 and rows beyond the vocabulary.
        indicator: of INDICATORS; by default "norm" for untied models and "cosine" for tied ones, whose unused rows are
            pushed by the head and so are among the longest.
        share: of the ranking that is listed (and verified), and at least 10 ids.
        verify: the highest probability that prompts which ask for each of some ids get from the model.
        controls: so many ids of the ranking's end are verified too, to measure the others against.

    Raises:
        ConfigError: an unknown indicator, or one that needs unused ids where none are known.
        DataError: arrays that do not fit the vocabulary.
    """
    size = tokenizer.vocab_size
    tied = output_embeddings is None
    rows = _matrix(input_embeddings, "input_embeddings", size)
    head = rows if output_embeddings is None else _matrix(output_embeddings, "output_embeddings", size)
    occurred = None if counts is None else _counts(counts, size)
    kinds = kinds or token_kinds(tokenizer)
    references = sorted({*reference_ids(tokenizer, len(head), kinds), *(int(number) for number in unused)})
    if references and not 0 <= references[0] <= references[-1] < len(head):
        raise DataError(f"unused ids {references[:3]}… are not rows of {len(head):,} embeddings")
    usable = [name for name in INDICATORS if name == "norm" or references]
    chosen = indicator or ("cosine" if tied and references else "norm")
    if chosen not in usable:
        problem = "needs ids that are known to be unused" if chosen in INDICATORS else "is not known"
        raise ConfigError(
            f"the indicator '{chosen}' {problem}", where="indicator", hint=f"Here there are: {', '.join(usable)}."
        )
    values = measure(chosen, rows if chosen == "norm" else head, references)[:size]

    ranked = ~np.isin(kinds.kinds, [KINDS.index(name) for name in ("special", "byte", "empty")])
    ranked[[number for number in references if number < size]] = False
    candidates = np.flatnonzero(ranked)
    candidates = candidates[np.argsort(values[candidates], kind="stable")]
    found = {}
    if occurred is not None:
        for name in usable:
            scores = measure(name, rows if name == "norm" else head, references)[candidates]
            found[name] = auroc(-scores, occurred[candidates] == 0)
    listed = candidates[: max(round(share * len(candidates)), 10)]
    best = candidates[len(candidates) - min(controls, len(candidates) - len(listed)) :] if verify else candidates[:0]
    probabilities = verify(np.concatenate([listed, best])) if verify else np.zeros(0)
    typical = float(np.median(probabilities[len(listed) :])) if len(best) else 1.0
    return GlitchReport(
        chosen,
        tied,
        values,
        candidates,
        tuple(
            GlitchToken(
                int(number),
                token_text(tokenizer, int(number)),
                float(values[number]),
                None if occurred is None else int(occurred[number]),
                float(probabilities[place]) if verify else None,
                verdict(float(probabilities[place]), typical) if verify else None,
            )
            for place, number in enumerate(listed)
        ),
        tuple(references),
        None if occurred is None else int((occurred[candidates] == 0).sum()),
        {name: value for name, value in found.items() if value is not None},
        tuple(map(float, probabilities[len(listed) :])),
    )


def reference_ids(tokenizer: Tokenizer, rows: int, kinds: TokenKinds) -> list[int]:
    """Ids that no text becomes: bytes that are in no UTF-8, ids without a token, rows beyond the vocabulary."""
    return [
        *byte_ids(tokenizer, NEVER_IN_UTF8),
        *map(int, kinds.ids("empty")),
        *range(tokenizer.vocab_size, rows),
    ]


def measure(indicator: str, embeddings: NDArray[Any], unused: Sequence[int]) -> NDArray[np.float64]:
    """An indicator of INDICATORS for every row of (V, C) embeddings: (V,), low where there was little training."""
    if indicator == "norm":
        return np.linalg.norm(embeddings, axis=1).astype(np.float64)
    rows = embeddings
    if indicator == "cosine_centred":
        rows = rows - rows.mean(axis=0)
    elif indicator == "cosine_without_first":
        # By the covariance (C, C), which is small: the rows themselves may be many.
        _, vectors = np.linalg.eigh(rows.T @ rows)
        first = vectors[:, -1]
        rows = rows - np.outer(rows @ first, first)
    centre = rows[list(unused)].mean(axis=0)
    if indicator == "distance":
        return np.linalg.norm(rows - centre, axis=1).astype(np.float64)
    lengths = (np.linalg.norm(rows, axis=1) * np.linalg.norm(centre)).astype(np.float64)
    return 1 - (rows @ centre) / np.maximum(lengths, np.finfo(np.float64).tiny)


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """The probability that a positive scores higher than a negative, ties counting half; None without both."""
    from scipy.stats import rankdata

    truth = np.asarray(positive, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def verdict(probability: float, typical: float = 1.0) -> str:
    """What prompts that ask for a token say of the suspicion that it is untrained; trained ones get `typical`."""
    bounds = (_CONFIRMED, _LIKELY, _REJECTED)
    return VERDICTS[sum(probability >= bound * typical for bound in bounds)]


def _matrix(values: ArrayLike, name: str, size: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):  # the large matrices of large models are not copied
        array = array.astype(np.float32)
    if array.ndim != 2 or len(array) < size:
        raise DataError(
            f"{name} has shape {array.shape}, and {size:,} ids need as many rows",
            hint="Take the model that was trained with this tokenizer.",
        )
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds values that are not finite")
    return array


def _counts(values: ArrayLike, size: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) < size or array.dtype.kind not in "iu":
        raise DataError(f"counts must be integers, one for each of {size:,} ids, not {array.dtype} of {array.shape}")
    return array[:size].astype(np.int64)
