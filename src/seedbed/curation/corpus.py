"""The corpus that curation made, as every later stage reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import MANIFEST, Artifact, open_artifact
from ..core.errors import ArtifactError, ConfigError
from .storage import CORPUS_COLUMNS, part_files, read_rows, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")


class Corpus:
    """A corpus directory: `train/`, `validation/`, `test/` with columns id, text, title, source, language, metadata.

    >>> corpus = Corpus.open("runs/docs/corpus")
    >>> for text in corpus.texts("train"): ...
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, source: str | Path | Artifact) -> Corpus:
        """
        Raises:
            ArtifactError: no corpus is there, or one without its splits.
        """
        path = source.path if isinstance(source, Artifact) else Path(source)
        if (path / MANIFEST).exists():
            open_artifact(path, "corpus")
        missing = [split for split in SPLITS if not part_files(path / split)]
        if missing:
            raise ArtifactError(f"not a corpus (no {', '.join(missing)})", where=path, hint="Run curate first.")
        return cls(path)

    def split(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of one split, in corpus order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chosen = list(columns or CORPUS_COLUMNS)
        tables = [pq.read_table(path, columns=chosen, use_threads=False) for path in part_files(self._folder(name))]
        return pa.concat_tables(tables) if tables else schema_of(chosen).empty_table()

    def rows(self, name: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """One split as dictionaries, a row group in memory at a time."""
        return read_rows(self._folder(name), columns)

    def texts(self, name: str) -> Iterator[str]:
        return (row["text"] for row in self.rows(name, ["text"]))

    def count(self, name: str) -> int:
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(path).num_rows for path in part_files(self._folder(name)))

    def _folder(self, name: str) -> Path:
        if name not in SPLITS:
            raise ConfigError(f"unknown split '{name}'", hint=f"There are: {', '.join(SPLITS)}.")
        return self.path / name
