"""Token shards: one memory-mapped file per split with tokens, document boundaries and text sizes.

Layout, little endian: a header of `_HEADER_BYTES` (magic, version, checksum, JSON padded with spaces), then three
arrays that start at multiples of 64 bytes: tokens (uint16 or uint32), document offsets in tokens (int64, documents + 1)
and document offsets in UTF-8 bytes of text (int64, documents + 1). Every document ends with `<|endoftext|>`, which
counts as a token and not as text. Equal texts and tokenizers give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from ..core.console import progress
from ..core.errors import ArtifactError, DataError, FormatError
from ..tokenizers.chat import END_OF_TEXT

if TYPE_CHECKING:
    from ..core.ragged import Ragged

FILE_NAME = "tokens.shard"
_MAGIC = b"SEEDTOKS"
_VERSION = 1
_PREFIX = struct.Struct("<8sI32s")  # magic, version, sha256 of the padded JSON
_HEADER_BYTES = 1024
_ALIGNMENT = 64
_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_CHUNK_CHARACTERS = 4_000_000  # text encoded at a time: bounds the memory of the writer


class ShardTokenizer(Protocol):
    """What the writer needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def token_to_id(self, token: str, /) -> int | None: ...
    def encode_batch(self, texts: list[str], threads: int | None = None, *, parse_special: bool = True) -> Ragged: ...


@dataclass(frozen=True)
class TokenShards:
    """The tokens of one split, memory-mapped."""

    path: Path
    tokens: np.ndarray  # (tokens,) uint16 or uint32
    document_offsets: np.ndarray  # (documents + 1,) int64, in tokens
    text_offsets: np.ndarray  # (documents + 1,) int64, in UTF-8 bytes
    vocab_size: int
    end_of_text_id: int
    tokenizer_fingerprint: str
    _header: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def documents(self) -> int:
        return len(self.document_offsets) - 1

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all the texts."""
        return int(self.text_offsets[-1])

    @classmethod
    def open(cls, path: str | Path, tokenizer_fingerprint: str | None = None) -> TokenShards:
        """Open the shard in folder `path`, checking header, sizes and offsets (not the checksums: see `verify`).

        Raises:
            ArtifactError: it is not there, or was made with another tokenizer than `tokenizer_fingerprint`.
            FormatError: it is damaged or from a newer version.
        """
        file = Path(path) / FILE_NAME
        header = _read_header(file)
        if tokenizer_fingerprint is not None and header["tokenizer"] != tokenizer_fingerprint:
            raise ArtifactError(
                f"these tokens were made with another tokenizer ({header['tokenizer'][:12]}, "
                f"not {tokenizer_fingerprint[:12]})",
                where=file,
                hint="Make the shards again with this tokenizer.",
            )
        dtype = _DTYPES[header["dtype"]]
        count, documents = header["tokens"], header["documents"]
        starts, size = _layout(count, documents, dtype)
        if file.stat().st_size != size:
            raise FormatError(
                f"the file has {file.stat().st_size:,} bytes where its header promises {size:,}",
                where=file,
                hint="It is truncated or damaged: make the shards again.",
            )
        tokens = _map(file, dtype, starts[0], count)
        document_offsets = _map(file, np.dtype("<i8"), starts[1], documents + 1)
        text_offsets = _map(file, np.dtype("<i8"), starts[2], documents + 1)
        for name, offsets, end in (
            ("document", document_offsets, count), ("text", text_offsets, header["text_bytes"])
        ):  # fmt: skip
            if offsets[0] != 0 or offsets[-1] != end or bool(np.any(offsets[1:] < offsets[:-1])):
                raise FormatError(f"its {name} offsets are damaged", where=file, hint="Make the shards again.")
        return cls(
            file, tokens, document_offsets, text_offsets, header["vocab_size"], header["end_of_text_id"],
            header["tokenizer"], header,
        )  # fmt: skip

    def verify(self) -> None:
        """Compare the checksum of every array. Raises FormatError."""
        for name, array in zip(_ARRAYS, (self.tokens, self.document_offsets, self.text_offsets), strict=True):
            if _sha256(array) != self._header["sha256"][name]:
                raise FormatError(f"the checksum of its {name} is wrong", where=self.path, hint="Make it again.")

    def document(self, index: int) -> np.ndarray:
        """Tokens of one document, with the `<|endoftext|>` that ends it."""
        return self.tokens[self.document_offsets[index] : self.document_offsets[index + 1]]


_ARRAYS = ("tokens", "document_offsets", "text_offsets")


def write_token_shards(
    texts: Iterable[str], tokenizer: ShardTokenizer, out: str | Path, *, threads: int | None = None
) -> TokenShards:
    """Encode `texts`, one document each, into the shard in folder `out` (replaced if there), and open it.

    Memory is bounded by the longest document and 4 MB of text, however many there are.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    if end_of_text is None:
        raise DataError(f"the tokenizer has no {END_OF_TEXT} token", hint="Train it with this special token.")
    dtype = _DTYPES["uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"]
    temporary = out / f".{FILE_NAME}.writing"
    sides = [out / f".{name}.writing" for name in _ARRAYS[1:]]
    with open(temporary, "wb") as main, open(sides[0], "w+b") as document_file, open(sides[1], "w+b") as text_file:
        main.write(bytes(_HEADER_BYTES))
        writers = [_ArrayWriter(main), _ArrayWriter(document_file), _ArrayWriter(text_file)]
        token_count, text_bytes, documents = 0, 0, 0
        for offsets in writers[1:]:
            offsets.write(np.zeros(1, "<i8"))
        for chunk in _chunks(texts):
            # What a document spells is text: it cannot end itself or open a turn.
            encoded = tokenizer.encode_batch(chunk, threads, parse_special=False)
            lengths = encoded.lengths + 1
            ends = np.cumsum(lengths)
            tokens = np.full(int(ends[-1]), end_of_text, dtype)
            keep = np.ones(len(tokens), bool)
            keep[ends - 1] = False
            tokens[keep] = encoded.values
            sizes = np.cumsum([len(text.encode()) for text in chunk])
            writers[0].write(tokens)
            writers[1].write((token_count + ends).astype("<i8"))
            writers[2].write((text_bytes + sizes).astype("<i8"))
            token_count, text_bytes, documents = (
                token_count + len(tokens), text_bytes + int(sizes[-1]), documents + len(chunk)
            )  # fmt: skip
        for side in (document_file, text_file):
            main.write(bytes(-main.tell() % _ALIGNMENT))
            side.seek(0)
            shutil.copyfileobj(side, main)
        header = {
            "dtype": dtype.name,
            "tokens": token_count,
            "documents": documents,
            "text_bytes": text_bytes,
            "vocab_size": int(tokenizer.vocab_size),
            "end_of_text_id": int(end_of_text),
            "tokenizer": tokenizer.fingerprint,
            "sha256": {name: writer.digest() for name, writer in zip(_ARRAYS, writers, strict=True)},
        }
        main.seek(0)
        main.write(_pack_header(header))
    temporary.rename(out / FILE_NAME)
    for path in sides:
        path.unlink()
    return TokenShards.open(out)


def shard_corpus(
    corpus: str | Path, tokenizer: ShardTokenizer, out: str | Path, *, threads: int | None = None
) -> dict[str, Any]:
    """The tokens stage: every split folder of a corpus (Parquet with a `text` column) to `out/SPLIT/`.

    Returns the metrics: per split `documents`, `tokens` and `text_bytes`, and `bytes_per_token` over all.
    """
    corpus, out = Path(corpus), Path(out)
    metrics: dict[str, Any] = {}
    tokens = text_bytes = 0
    for split in ("train", "validation", "test"):
        if not (corpus / split).is_dir():
            raise ArtifactError(f"the corpus has no '{split}' folder", where=corpus, hint="Curate it again.")
        with progress(f"tokens of {split}") as task:
            texts = _parquet_texts(sorted((corpus / split).glob("*.parquet")), task.advance)
            shards = write_token_shards(texts, tokenizer, out / split, threads=threads)
        metrics[split] = {"documents": shards.documents, "tokens": len(shards), "text_bytes": shards.text_bytes}
        tokens, text_bytes = tokens + len(shards), text_bytes + shards.text_bytes
    metrics["bytes_per_token"] = round(text_bytes / max(tokens, 1), 4)
    return metrics


def _parquet_texts(files: Iterable[Path], advance: Any) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    advance(1)
                    yield text or ""
        except (pa.ArrowInvalid, OSError, KeyError, IndexError) as error:
            raise FormatError(f"not a Parquet file with a text column ({error})", where=file) from None


class _ArrayWriter:
    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._hash = handle, hashlib.sha256()

    def write(self, array: np.ndarray) -> None:
        data = array.tobytes()
        self._handle.write(data)
        self._hash.update(data)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(array), 1 << 20):
        digest.update(np.ascontiguousarray(array[start : start + (1 << 20)]).tobytes())
    return digest.hexdigest()


def _layout(tokens: int, documents: int, dtype: np.dtype) -> tuple[tuple[int, int, int], int]:
    """Where the three arrays start, and the size of the file."""
    first = _HEADER_BYTES + tokens * dtype.itemsize
    second = first + -first % _ALIGNMENT
    third = second + (documents + 1) * 8
    third += -third % _ALIGNMENT
    return (_HEADER_BYTES, second, third), third + (documents + 1) * 8


def _map(file: Path, dtype: np.dtype, start: int, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(0, dtype)
    return np.memmap(file, dtype, mode="r", offset=start, shape=(count,))


def _pack_header(header: Mapping[str, Any]) -> bytes:
    body = json.dumps(header, sort_keys=True).encode().ljust(_HEADER_BYTES - _PREFIX.size)
    return _PREFIX.pack(_MAGIC, _VERSION, hashlib.sha256(body).digest()) + body


def _read_header(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as handle:
            data = handle.read(_HEADER_BYTES)
    except OSError as error:
        raise ArtifactError(f"no token shard here ({error.strerror})", where=file, hint="Make it first.") from None
    if data[:8] != _MAGIC:
        raise FormatError("this is not a token shard (wrong magic)", where=file)
    if len(data) < _HEADER_BYTES:
        raise FormatError("the file ends within its header", where=file, hint="Make the shards again.")
    _, version, checksum = _PREFIX.unpack_from(data)
    if version != _VERSION:
        raise FormatError(f"version {version} of this format is unknown (known: {_VERSION})", where=file)
    body = data[_PREFIX.size :]
    if hashlib.sha256(body).digest() != checksum:
        raise FormatError("its header is damaged (wrong checksum)", where=file, hint="Make the shards again.")
    header = json.loads(body)
    counts = [header.get(name) for name in ("tokens", "documents", "text_bytes", "vocab_size", "end_of_text_id")]
    if header.get("dtype") not in _DTYPES or not all(isinstance(one, int) and one >= 0 for one in counts):
        raise FormatError("its header makes no sense", where=file, hint="Make the shards again.")
    return header
