"""A run, opened: its models, its search engine, its report and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.artifacts import open_artifact
from .core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from .embeddings.filters import Filter
    from .embeddings.rerank import Reranker
    from .embeddings.search import Hit, Searcher
    from .generation import Sampling
    from .generation.voice import Reply, Voice

RUN_FILE = "run.json"


def recall(path: Path) -> dict[str, Any]:
    """The sources and the recipe that the run at `path` was begun with."""
    try:
        values: dict[str, Any] = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
        values["sources"], values["recipe"]
    except FileNotFoundError:
        raise ArtifactError(f"this is no run (no {RUN_FILE})", where=path, hint="Grow one: seedbed grow.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"its {RUN_FILE} cannot be read ({error})", where=path) from None
    return values


def open_run(path: str | Path) -> Run:
    """Open a run, finished or not.

    Raises:
        ArtifactError: there is none.
    """
    recall(Path(path))
    return Run(Path(path))


class Run:
    """A run's results: its models, its search engine, its report and its figures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._voices: dict[str, Voice] = {}
        self._searcher: Searcher | None = None

    @property
    def report(self) -> Path:
        return open_artifact(self.path / "report", "report").path / "index.html"

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Stage to its manifest's metrics, for the stages that are done."""
        from .reports.evidence import Evidence

        return Evidence(self.path).metrics

    def key_figures(self) -> list[tuple[str, str]]:
        from .reports.run import key_figures

        return [(card.label, card.value) for card in key_figures(self.metrics)]

    def generate(self, prompt: str, stage: str = "policy", *, max_new_tokens: int = 64, **sampling: Any) -> str:
        """Continue `prompt` (stage "base") or answer it ("sft", "policy")."""
        from .core.config import build
        from .generation import Sampling

        chosen = build(Sampling, {"temperature": 0.8, "top_p": 0.95, "max_new_tokens": max_new_tokens, **sampling})
        return "".join(self.stream(prompt, stage, chosen))

    def stream(
        self, prompt: str | Sequence[Mapping[str, str]], stage: str = "policy", sampling: Sampling | None = None
    ) -> Reply:
        """Pieces of text as they are generated. A list of messages is a chat, which stage "base" cannot continue."""
        return self.voice(stage).ask(prompt, sampling)

    def search(
        self,
        query: str,
        k: int = 5,
        mode: str = "hybrid",
        *,
        filter: Filter | None = None,
        rerank: Reranker | str | Path | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """The k best passages for `query`.

        Args:
            mode: "hybrid", "dense" or "bm25"; "multivector" where the index was built with `index.multivector_bits`.
            filter: which passages may be returned, as `embeddings.filters` says: "source ~ library/*".
            rerank: "maxsim" for the encoder's own tokens, the folder of a cross-encoder or of a late-interaction
                encoder, or a Reranker.
            explain: say of each hit why it was found.
        """
        searcher = self.searcher(words_only=mode == "bm25" and rerank is None)
        return searcher.search(query, k, mode, filter=filter, rerank=rerank, explain=explain)

    def searcher(self, *, words_only: bool = False) -> Searcher:
        """The run's search engine.

        Args:
            words_only: BM25 will do, so neither the encoder nor its vectors are opened if they are not yet.
        """
        from .embeddings.search import Searcher

        if self._searcher is None or (self._searcher.encoder is None and not words_only):
            index = open_artifact(self.path / "index", "index").path
            if words_only:
                self._searcher = Searcher.open(index, modes=("bm25",))
            else:
                from .embeddings import SentenceEncoder

                self._searcher = Searcher.open(index, SentenceEncoder.load(self.path / "encoder"))
        return self._searcher

    def voice(self, stage: str = "policy", **options: Any) -> Voice:
        """The model of a stage, to speak with: "base" goes on from texts, "sft" and "policy" answer. Options are the
        engine's."""
        from .generation.voice import Voice

        if stage not in ("base", "sft", "policy"):
            raise ConfigError(f"stage '{stage}' has no voice", hint="Take base, sft or policy.")
        key = f"{stage} {sorted(options.items())}"
        if key not in self._voices:
            path = open_artifact(self.path / stage, stage).path
            self._voices[key] = Voice.load(path, chats=stage != "base", **options)
        return self._voices[key]
