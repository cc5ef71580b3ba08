"""Test collections for search: documents, queries and judgements, in BEIR's layout and TREC's files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from ..core.errors import DataError, FormatError, disk_errors
from ..datasets.jsonl import Row, read_rows

_LARGEST = 1 << 32  # bytes of one file
_TAG = re.compile(r"<[^>]{0,200}>")


@dataclass(frozen=True)
class Collection:
    """What a search is tested on.

    documents: id to text, the title before it. queries: id to text, in the file's order.
    judgements: query to document to gain; queries without any are left out of `asked`.
    """

    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, float]]

    @property
    def asked(self) -> list[str]:
        """Ids of the queries that a relevant document is known for."""
        return [query for query in self.queries if any(gain > 0 for gain in self.judgements.get(query, {}).values())]

    @property
    def relevant(self) -> list[Mapping[str, float]]:
        """Judgements of `asked`, in their order: what `retrieval`'s metrics take."""
        return [self.judgements[query] for query in self.asked]


def read_beir(folder: str | Path, split: str = "test") -> Collection:
    """A BEIR folder (Thakur et al. 2021): corpus.jsonl and queries.jsonl with `_id` and `text` (and `title`), and
    qrels/SPLIT.tsv or qrels.jsonl with `query-id`, `corpus-id` and `score`.

    Raises:
        DataError: a file is missing, or a row has no such key; names file and line.
    """
    folder = Path(folder)
    documents = {
        _text(row, "_id"): "\n".join(filter(None, (str(row.get("title") or ""), _text(row, "text"))))
        for row in _rows(folder / "corpus.jsonl", "_id", "text")
    }
    queries = {_text(row, "_id"): _text(row, "text") for row in _rows(folder / "queries.jsonl", "_id", "text")}
    judgements: dict[str, dict[str, float]] = {}
    for query, document, gain in _beir_judgements(folder, split):
        judgements.setdefault(query, {})[document] = gain
    return Collection(documents, queries, judgements)


def read_trec(documents: str | Path, queries: str | Path, judgements: str | Path) -> Collection:
    """TREC's files: SGML documents (`<doc><docno>`, all other text in them) and topics (`<top><num><title>`), and
    judgements as `read_judgements` reads them.

    Topics are numbered in their order where the judgements do not know their numbers: so it is with Cranfield.
    """
    texts: dict[str, str] = {}
    for body, where in _elements(Path(documents), "doc"):
        texts[_field(body, "docno", where)] = _plain(re.sub(r"<docno>.*?</docno>", "", body, flags=re.S | re.I))
    judged = read_judgements(judgements)
    topics = [(_number(body, where), _title(body, where)) for body, where in _elements(Path(queries), "top")]
    if sum(number in judged for number, _ in topics) < len(topics) and all(
        str(place + 1) in judged for place in range(len(topics))
    ):
        topics = [(str(place + 1), text) for place, (_, text) in enumerate(topics)]
    return Collection(texts, dict(topics), judged)


def read_judgements(path: str | Path) -> dict[str, dict[str, float]]:
    """A qrels file: query, a column that nobody reads, document, gain; white space between."""
    judgements: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_lines(Path(path)), 1):
        columns = line.split()
        if len(columns) == 4:
            judgements.setdefault(columns[0], {})[columns[2]] = _gain(columns[3], f"{path}:{number}")
        elif columns:
            raise DataError(
                f"{len(columns)} columns; query, iteration, document and gain are 4", where=f"{path}:{number}"
            )
    return judgements


def read_run(path: str | Path) -> dict[str, list[str]]:
    """A run file (query, Q0, document, rank, score, tag): query to its documents, best first.

    Score decides and, among equals, the later name, as in trec_eval; the column of ranks is not read.
    """
    found: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_lines(Path(path)), 1):
        columns = line.split()
        if len(columns) == 6:
            found.setdefault(columns[0], {})[columns[2]] = _gain(columns[4], f"{path}:{number}")
        elif columns:
            raise DataError(
                f"{len(columns)} columns; query, Q0, document, rank, score and tag are 6", where=f"{path}:{number}"
            )
    return {query: ranking(scores) for query, scores in found.items()}


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Documents by falling score; equal scores by falling name, as in trec_eval."""
    return sorted(scores, key=lambda document: (scores[document], document), reverse=True)


def write_run(path: str | Path, ranked: Mapping[str, Mapping[str, float]], tag: str = "seedbed") -> None:
    """Write query to document to score as a run file."""
    lines = [
        f"{query} Q0 {document} {rank} {scores[document]:.6f} {tag}\n"
        for query, scores in ranked.items()
        for rank, document in enumerate(ranking(scores), 1)
    ]
    with disk_errors(Path(path)):
        Path(path).write_text("".join(lines), encoding="utf-8")


def _beir_judgements(folder: Path, split: str) -> Iterator[tuple[str, str, float]]:
    table, rows = folder / "qrels" / f"{split}.tsv", folder / "qrels.jsonl"
    if not table.exists() and rows.exists():
        for row in _rows(rows, "query-id", "corpus-id", "score"):
            yield _text(row, "query-id"), _text(row, "corpus-id"), _gain(row["score"], str(rows))
        return
    for number, line in enumerate(_lines(table), 1):
        columns = line.split("\t")
        where = f"{table}:{number}"
        if number == 1 and columns[0].strip() == "query-id":
            continue
        if len(columns) != 3:
            raise DataError(f"{len(columns)} columns; query-id, corpus-id and score are 3", where=where)
        yield columns[0], columns[1], _gain(columns[2], where)


def _rows(path: Path, *keys: str) -> list[Row]:
    """All rows of a file of JSON lines, each with text or a number at `keys`."""

    def parse(row: Row) -> Row:
        for key in keys:
            if not isinstance(row.get(key), str | int | float) or isinstance(row[key], bool):
                raise ValueError(f"no '{key}'")
        return row

    _require(path)
    rows = read_rows(path, parse)
    if rows.rejected:
        first = rows.rejected[0]
        raise DataError(first.reason, where=f"{path}:{first.line}")
    return rows.rows


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()


def _read(path: Path) -> str:
    _require(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the text is not UTF-8 ({error.reason} at byte {error.start:,})", where=path) from None


def _require(path: Path) -> None:
    if not path.is_file():
        raise DataError("the file is missing", where=path)
    if path.stat().st_size > _LARGEST:
        raise DataError(f"the file is larger than {_LARGEST:,} bytes", where=path)


def _text(row: Row, key: str) -> str:
    return str(row[key])


def _gain(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"'{value!s:.40}' is no number", where=where) from None


def _elements(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Bodies of the elements of that name, and where they stand. These files are no well-formed XML."""
    text = _read(path)
    found = list(re.finditer(rf"<{name}>(.*?)</{name}>", text, re.S | re.I))
    if not found:
        raise FormatError(f"no <{name}> is in it", where=path)
    for number, match in enumerate(found, 1):
        yield match[1], f"{path} ({name} {number})"


def _field(body: str, name: str, where: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", body, re.S | re.I)
    if match is None:
        raise FormatError(f"no <{name}> is in it", where=where)
    return _plain(match[1])


def _number(body: str, where: str) -> str:
    match = re.search(r"<num>\s*(?:Number:)?\s*(\S+?)\s*(?:<|$)", body, re.I | re.M)
    if match is None:
        raise FormatError("no <num> is in it", where=where)
    return match[1]


def _title(body: str, where: str) -> str:
    match = re.search(r"<title>(?:\s*Topic:)?(.*?)(?:</title>|<desc>|<narr>|$)", body, re.S | re.I)
    if match is None:
        raise FormatError("no <title> is in it", where=where)
    return _plain(match[1])


def _plain(text: str) -> str:
    return " ".join(unescape(_TAG.sub(" ", text)).split())
