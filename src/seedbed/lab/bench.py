"""What an exhibit works with: the run's models, tokenizer, texts and vectors, and a place for what it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.artifacts import open_artifact
from ..core.errors import ConfigError

if TYPE_CHECKING:
    from ..curation import Corpus
    from ..datasets.shards import TokenShards
    from ..embeddings import SentenceEncoder
    from ..evaluation.vector_sources import VectorSet
    from ..models import Decoder
    from ..recipes import Recipe
    from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Bench:
    """
    Attributes:
        run: folder of the run.
        scratch: a folder that stays while the exhibit is not finished, for checkpoints of what it trains, so that it
            goes on where it was stopped.
        advance: called with a line about what is being done.
    """

    run: Path
    scratch: Path
    advance: Callable[[str], None]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        from ..tokenizers import Tokenizer

        return Tokenizer.load(open_artifact(self.run / "tokenizer", "tokenizer").path)

    @cached_property
    def corpus(self) -> Corpus:
        from ..curation import Corpus

        return Corpus.open(open_artifact(self.run / "corpus", "corpus"))

    @cached_property
    def encoder(self) -> SentenceEncoder:
        from ..embeddings import SentenceEncoder

        return SentenceEncoder.load(open_artifact(self.run / "encoder", "encoder").path)

    @cached_property
    def recipe(self) -> Recipe:
        """That the run was grown with."""
        from ..recipes import load_recipe
        from ..run import recall

        return load_recipe(recall(self.run)["recipe"])

    @cached_property
    def vectors(self) -> VectorSet:
        """Of the index's passages, no two alike, and of held-out questions; reads corpus, encoder and index."""
        from ..evaluation.vector_sources import read_vector_set

        return read_vector_set(self.run)

    def texts(self, split: str = "validation", most: int | None = None) -> list[str]:
        """Documents of a split, the first `most`."""
        return list(islice(self.corpus.texts(split), most))

    def tokens(self, split: str = "train") -> TokenShards:
        from ..datasets.shards import TokenShards

        return TokenShards.open(open_artifact(self.run / "tokens", "tokens").path / split, self.tokenizer.fingerprint)

    def decoder(self, stage: str = "base") -> Decoder:
        """A fresh copy of a stage's model, in evaluation mode.

        Raises:
            ConfigError: the stage's model is no decoder.
        """
        from ..models import Decoder, load_model

        model = load_model(open_artifact(self.run / stage, stage).path)
        if not isinstance(model, Decoder):
            raise ConfigError(f"this exhibit reads a decoder, and this is a {type(model).__name__}", where=stage)
        return model.eval()
