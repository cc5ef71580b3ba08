"""Each step of curation on and off: the run's own texts are made dirty on purpose, with copies, with copies that differ
by a little, and with rubbish; then the same small model is trained on what curation leaves with all steps, and without
each of them, and scored on the run's held-out texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ...core.config import build
from ...core.errors import DataError
from ...core.randomness import numpy_generator
from ...curation import CurationConfig
from ...recipes import PretrainingConfig
from ...reports import charts, numbers
from ..bench import Bench
from ..curation_ablation import Ablated, ablate
from ..exhibit import Exhibit, Finding, Settings, Verdict

_SECTION = 300  # characters of a held-out document
_FEWEST = 25  # documents that are enough for three splits
_STEPS = ("rules", "exact-duplicates", "near-duplicates")
_ALL = "all steps"
_SIMILAR = 0.6  # Jaccard similarity of near copies: of a short text one changed word is a good part
_ERRORS = 2.0  # standard errors that a step must be worth
_SIGNS = list("#%&@$*+=<>/\\|~^{}[]0123456789")
_WORDS = re.compile(r"[a-z]{4,}")


class CurationStepsSettings(Settings):
    documents: int = Field(1000, ge=1, description="of the training split, which are made dirty")
    share: float = Field(0.1, gt=0, le=1, description="of them that are copied, and another one copied with changes")
    copies: int = Field(10, ge=1, description="of each of those")
    rubbish: float = Field(0.5, ge=0, description="documents of signs, for each of the others")
    held_out: int = Field(300, ge=1, description="parts of documents of the other splits, for scoring")
    hidden_size: int = Field(48, ge=8, description="width of the model")
    steps: int = Field(120, ge=1, description="of training, the same for all")
    seeds: int = Field(2, ge=2, description="of each training")
    vocab_size: int = Field(1024, ge=300, description="of the tokenizer of these texts")


def measure(bench: Bench, settings: CurationStepsSettings) -> Finding:
    texts = bench.texts("train", settings.documents)
    held_out = _sections([*bench.texts("validation"), *bench.texts("test")])[: settings.held_out]
    if min(len(texts), len(held_out)) < _FEWEST:
        raise DataError("the run has too few documents to make dirty and to score on", hint="Grow from more text.")
    folders = [bench.scratch / name for name in ("dirty", "good")]
    for folder, some in zip(folders, (dirty(texts, settings), held_out), strict=True):
        _write(folder, some)
    recipe = bench.recipe.pretraining
    config = build(
        CurationConfig,
        {
            "preset": "prose",
            "near_duplicates": {"parameters": "verified", "similarity": _SIMILAR},
            "split": {"seed": settings.seed},
        },
    )
    found: dict[str, list[Ablated]] = {}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        bench.advance(f"a model for each step, with seed {seed}")
        training = recipe.training.replace(
            steps=settings.steps, evaluate_every=0, checkpoint_every=settings.steps, seed=seed
        )
        pretraining = PretrainingConfig(
            hidden_size=settings.hidden_size, layers=2, heads=2, kv_heads=2, context_length=recipe.context_length,
            training=training, evaluation_tokens=recipe.evaluation_tokens,
        )  # fmt: skip
        for one in ablate(
            config, [str(folders[0])], [str(folders[1])], _STEPS, pretraining, bench.scratch / str(seed),
            settings.vocab_size,
        ):  # fmt: skip
            found.setdefault(one.without, []).append(one)
    return judge(found)


def dirty(texts: Sequence[str], settings: CurationStepsSettings) -> list[str]:
    """The texts, copies of some, copies of others in which words are changed, and rubbish, in a drawn order."""
    random = numpy_generator(settings.seed, "dirt")
    count = max(1, round(settings.share * len(texts)))
    order = random.permutation(len(texts))
    copied, changed = order[:count], order[count : 2 * count]
    out = [*texts, *(texts[place] for place in copied for _ in range(settings.copies))]
    out += [alike(texts[place], random) for place in changed for _ in range(settings.copies)]
    length = int(np.median([len(text) for text in texts]))
    out += ["".join(random.choice(_SIGNS, length)) for _ in range(round(settings.rubbish * len(texts)))]
    return [out[place] for place in random.permutation(len(out))]


def alike(text: str, random: np.random.Generator) -> str:
    """The text with one word in fifty, and at least one, replaced by a number."""
    words = list(_WORDS.finditer(text))
    if not words:
        return f"{text} {random.integers(1000)}"
    for place in sorted(random.choice(len(words), max(1, len(words) // 50), replace=False).tolist(), reverse=True):
        text = f"{text[: words[place].start()]}{random.integers(1000)}{text[words[place].end() :]}"
    return text


def judge(found: Mapping[str, Sequence[Ablated]]) -> Finding:
    """The finding of ablations, one a seed, by the step that is left out ("" for none)."""
    bits = {step: np.array([one.bits_per_byte for one in ablated]) for step, ablated in found.items()}
    apart = {step: bits[step] - bits[""] for step in bits if step}  # seed by seed
    worth = {step: float(one.mean()) for step, one in apart.items()}
    errors = {step: float(one.std(ddof=1) / len(one) ** 0.5) for step, one in apart.items()}
    paying = [step for step in worth if worth[step] > _ERRORS * errors[step]]
    verdict: Verdict = (
        "holds" if len(paying) == len(worth) else "holds in part" if paying else "does not hold"
    )  # fmt: skip
    dearest = max(worth, key=lambda step: worth[step])
    least = min(worth, key=lambda step: worth[step])
    whole, without = found[""][0], found[dearest][0]
    sentences = (
        f"With all steps the model pays {bits[''].mean():.3f} bits for a byte of held-out text; without "
        f"{_named(dearest)} {numbers.fixed(worth[dearest], 3, sign=True)} ± {errors[dearest]:.3f}, without "
        f"{_named(least)} {numbers.fixed(worth[least], 3, sign=True)} ± {errors[least]:.3f}.",
        f"All steps leave {whole.documents:,} documents, which training reads {whole.epochs:.1f} times; without "
        f"{_named(dearest)} {without.documents:,} are left.",
    )
    idle = [step for step in worth if found[step][0].tokens == whole.tokens]
    rows: list[list[Any]] = [
        [f"without {_named(step)}" if step else _ALL, one[0].documents, one[0].tokens, one[0].epochs,
         float(bits[step].mean()), worth.get(step, 0.0), errors.get(step, 0.0)]
        for step, one in found.items()
    ]  # fmt: skip
    bars = [{"step": f"without {_named(step)}", "bits": max(value, 0.0)} for step, value in worth.items()]
    return Finding(
        verdict, sentences,
        ("Curation", "Documents", "Tokens", "Times read", "Bits per byte", "More than with all", "Error"), rows,
        [("", charts.bars(bars, "step", "bits", "bits per byte more", lambda one: numbers.fixed(one, 3)))],
        {"all": float(bits[""].mean()), **{f"worth_{step}": value for step, value in worth.items()}},
        "Every model reads the same number of tokens. Errors: standard errors over seeds of the difference."
        + "".join(f" Without {_named(step)} the same documents are left: the other steps find them." for step in idle),
    )  # fmt: skip


def _named(step: str) -> str:
    return {
        "rules": "quality rules", "exact-duplicates": "the removal of exact copies",
        "near-duplicates": "the removal of near copies",
    }[step]  # fmt: skip


def _sections(texts: Sequence[str]) -> list[str]:
    """Parts of at most `_SECTION` characters, of which even few texts give enough."""
    return [text[start : start + _SECTION] for text in texts for start in range(0, len(text), _SECTION)]


def _write(folder: Path, texts: Sequence[str]) -> None:
    """One file a text, the same ones whenever it is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, text in enumerate(texts):
        (folder / f"{place:06d}.txt").write_text(text, encoding="utf-8")


EXHIBIT = Exhibit(
    question="What is each step of curation worth to a model that may read only so much?",
    claim="Of dirty text each step of curation makes a better model from the same number of tokens: quality rules, the "
    "removal of copies, and that of near copies.",
    formula="worth of a step = bits per byte without it − bits per byte with all steps.",
    source="Lee et al. 2022, section 6; Penedo et al. 2024 (FineWeb), section 3",
    settings=CurationStepsSettings,
    measure=measure,
    needs=("corpus",),
)
