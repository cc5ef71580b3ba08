"""Language identification by resiliparse's n-gram profiles, which come with the library."""

from __future__ import annotations

from typing import Any

# The detector has no confidence. On the Universal Declaration of Human Rights in 28 languages the distance between
# the best and the second language tells right from wrong: see tests/curation/test_language.py.
_SHORTEST = 150
_MARGIN = 20
_LONGEST = 4_000


def detect_language(text: str) -> str:
    """ISO 639-1 code of the language of a text (NFC), or "" where it is too short or too close to call."""
    from resiliparse.parse.lang import detect_fast

    if len(text) < _SHORTEST:
        return ""
    best: Any = detect_fast(text[:_LONGEST], n_results=2)
    if not best or (len(best) > 1 and best[1][1] - best[0][1] < _MARGIN):
        return ""
    return best[0][0]
