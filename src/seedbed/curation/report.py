"""Curation on its own: `curate` builds a corpus artifact and reports what went in, stayed and fell out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import console
from ..core.artifacts import Artifact, Workspace, build_artifact
from ..core.config import build
from .config import CurationConfig
from .corpus import Corpus
from .pipeline import curate_corpus
from .sources import fingerprint_files, fingerprint_sources


@dataclass(frozen=True)
class CurationReport:
    """What curation did.

    Attributes:
        path: the corpus directory.
        metrics: see pipeline.curate_corpus.
    """

    path: Path
    metrics: dict[str, Any]

    @property
    def read(self) -> int:
        return self.metrics["read"]["documents"]

    @property
    def kept(self) -> int:
        return sum(split["documents"] for split in self.metrics["kept"].values())

    @property
    def rejected(self) -> int:
        return self.read - self.kept

    @property
    def corpus(self) -> Corpus:
        return Corpus.open(self.path)

    def show(self) -> None:
        """Print what was kept and what each rule dropped."""
        show_metrics(self.metrics)


def curate(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    preset: str = "prose",
    engine: str = "local",
    workers: int | None = None,
    **options: Any,
) -> CurationReport:
    """Make a corpus of `sources` in the directory `out`, unless the same is there already.

    Args:
        sources: files, folders, patterns such as "docs/*.md", or "--python-docs".
        preset: set of quality rules: "none", "prose", "gopher", "c4", "fineweb" or "dclm".
        engine: "local", or "ray" for a cluster (RAY_ADDRESS; needs seedbed[cluster]). The corpus is the same.
        workers: processes of this machine; None is one for each processor.
        options: further fields of CurationConfig.

    Raises:
        ConfigError: an unknown preset, engine or option.
        DataError: a source that is not there, nothing usable, or too little to divide.
    """
    listed = [str(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    config = build(CurationConfig, {"preset": preset, **options})
    artifact = build_corpus(config, listed, out, engine, workers)
    return CurationReport(artifact.path, artifact.metrics)


def build_corpus(
    config: CurationConfig, sources: Sequence[str], out: str | Path, engine: str = "local", workers: int | None = None
) -> Artifact:
    """The corpus artifact of `sources` at `out`."""

    def produce(work: Workspace) -> dict[str, Any]:
        return curate_corpus(config, sources, work, engine, workers)

    return build_artifact(out, "corpus", config, corpus_inputs(config, sources), produce)


def corpus_inputs(config: CurationConfig, sources: Sequence[str]) -> dict[str, str]:
    """Fingerprints of all files that a corpus is made from."""
    inputs = {"sources": fingerprint_sources(sources)}
    return inputs | ({"lists": fingerprint_files(config.files())} if config.files() else {})


def show_metrics(metrics: dict[str, Any]) -> None:
    """Print the tables of one curation."""
    read = metrics["read"]
    kept = [(name, count["documents"], count["bytes"]) for name, count in metrics["kept"].items()]
    dropped = [(drop["rule"], drop["documents"], drop["bytes"], drop["examples"][0]) for drop in metrics["drops"]]
    console.show(f"  read {read['documents']:,} documents, {read['bytes']:,} bytes from {metrics['sources']:,} sources")
    console.table(("kept", "documents", "bytes"), kept)
    if dropped:
        console.table(("dropped by", "documents", "bytes", "for example"), dropped)
