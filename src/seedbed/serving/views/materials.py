"""What the page shows things of: an opened run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...embeddings import SentenceEncoder
    from ...embeddings.search import Searcher
    from ...generation.voice import Voice
    from ...run import Run


@dataclass(frozen=True)
class Materials:
    """A run with what is open of it; `searcher` and `encoder` are None where the run has none."""

    run: Run
    voices: Mapping[str, Voice]
    searcher: Searcher | None
    encoder: SentenceEncoder | None

    def has(self, stage: str) -> bool:
        return (self.run.path / stage / "manifest.json").exists()
