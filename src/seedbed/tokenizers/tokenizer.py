"""The tokenizer: text to ids and back, over the native encoder; saved in Hugging Face's layout.

Legend: n tokens of a text, N tokens of a batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _native
from ..core.devices import cpu_count
from ..core.errors import ConfigError, DataError, FormatError, disk_errors
from ..core.files import write_atomically
from ..core.ragged import Ragged
from . import assembly, gpt2_files, rank_files, sentencepiece_file, sentencepiece_model, tokenizer_json
from .assembly import Padding, Side, Strategy, Truncation
from .offsets import in_characters, spaces_of, without_spaces
from .roles import CONFIG_FILE, Roles
from .specification import Model, Specification

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """A tokenizer of any algorithm. Immutable; safe to share between threads; can be pickled."""

    def __init__(self, specification: Specification, roles: Roles | None = None) -> None:
        self.specification = specification
        self.roles = roles or Roles()
        self._names = specification.model.vocabulary | {token.content: token.id for token in specification.added}
        self._tokens: list[str | None] = [None] * specification.size
        for token, number in self._names.items():
            self._tokens[number] = token
        for role in ("eos_token", "pad_token", "bos_token", "unk_token"):
            token = getattr(self.roles, role)
            if token is not None and token not in self._names:
                raise ConfigError(f"{role} {token!r} is not in the vocabulary")
        self._spelled: dict[tuple[int, bool], bytes] = {}
        self._special = np.zeros(specification.size, dtype=bool)
        self._special[[token.id for token in specification.added if token.special]] = True
        self._stripping = np.zeros(specification.size, dtype=bool)
        self._stripping[[token.id for token in specification.added if token.lstrip or token.rstrip]] = True
        self._known = np.array([token is not None for token in self._tokens], dtype=bool)
        self._encoder = _encoder(specification, self._tokens)

    # Loading and saving

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Load a tokenizer.json, or a directory with one and perhaps a tokenizer_config.json.

        A directory may instead hold GPT-2's own pair of files, `vocab.json` and `merges.txt`.

        Raises:
            FormatError: a file is damaged or asks for what cannot be represented; names the file and the key.
        """
        path = Path(path)
        if not path.is_dir():
            return cls(tokenizer_json.read(path))
        roles = Roles.read(path)
        older = not (path / TOKENIZER_FILE).exists() and (path / gpt2_files.MERGES_FILE).exists()
        specification = gpt2_files.read_directory(path) if older else tokenizer_json.read(path / TOKENIZER_FILE)
        try:
            return cls(specification, roles)
        except ConfigError as error:
            raise FormatError(error.message, where=path / CONFIG_FILE) from None

    @classmethod
    def from_gpt2(cls, vocabulary: str | Path, merges: str | Path) -> Tokenizer:
        """Read GPT-2's own pair of files, `encoder.json` (or `vocab.json`) and `vocab.bpe` (or `merges.txt`).

        Raises:
            FormatError: a damaged file; names the file and the key or line.
        """
        specification = gpt2_files.read(Path(vocabulary), Path(merges))
        return cls(specification, Roles(gpt2_files.END_OF_TEXT if specification.added else None))

    @classmethod
    def from_tiktoken(
        cls, path: str | Path, pattern: str = "cl100k", special_tokens: Mapping[str, int] | None = None
    ) -> Tokenizer:
        """Read tiktoken's rank file ("base64 rank" lines): the same ids as tiktoken gives with the same pattern.

        Args:
            pattern: how text is cut into words, which the file does not say: a name or an expression.
            special_tokens: id by content, which the file does not say either. The first one ends texts.

        Raises:
            FormatError: a damaged file; names the file and the line.
            ConfigError: an unknown pattern, or special tokens that clash with the file's.
        """
        special_tokens = special_tokens or {}
        return cls(rank_files.read(Path(path), pattern, special_tokens), Roles(next(iter(special_tokens), None)))

    @classmethod
    def from_sentencepiece(cls, path: str | Path) -> Tokenizer:
        """Load a `.model` file of SentencePiece, of kind Unigram or BPE: its ids, and the text it decodes to.

        Control symbols (`<s>`, `</s>`) are special tokens here, so text that spells one becomes it unless
        `parse_special=False`, which is what `sentencepiece` does.

        Raises:
            FormatError: the file is damaged or asks for what cannot be represented; names the file and the field.
        """
        path = Path(path)
        file = sentencepiece_file.read(path)
        specification = sentencepiece_model.specification(file, path)
        known = {role: token for role, token in file.roles.items() if token in specification.model.vocabulary}
        eos, pad, bos, unknown = (known.get(role) for role in ("eos_token", "pad_token", "bos_token", "unk_token"))
        return cls(specification, Roles(eos, pad, bos_token=bos, unk_token=unknown))

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json to the file `path`, or it and tokenizer_config.json into the directory `path`.

        A path that ends in `.json` is a file; any other is a directory, made if it is not there.
        """
        path = Path(path)
        with disk_errors(path):
            if path.suffix == ".json" and not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, _json_bytes(tokenizer_json.to_json(self.specification)))
                return
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / TOKENIZER_FILE, _json_bytes(tokenizer_json.to_json(self.specification)))
            write_atomically(path / CONFIG_FILE, _json_bytes(self.roles.to_json()))

    def with_roles(self, **changes: Any) -> Tokenizer:
        """The same tokenizer with other roles, say `with_roles(eos_token="<|im_end|>")`."""
        return Tokenizer(self.specification, dataclasses.replace(self.roles, **changes))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.specification, self.roles)

    # The vocabulary

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included: the rows that an embedding needs."""
        return self.specification.size

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which ids below `vocab_size` stand for a token (vocab_size,): some vocabularies have holes."""
        return self._known

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that decides which ids a text becomes (not of the roles)."""
        around = self.specification.post_processor
        document = tokenizer_json.to_json(self.specification) | {
            "post_processor": [around.single, around.pair],
            "truncation": None,
            "padding": None,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def special_tokens(self) -> dict[str, int]:
        """Content to id of the control tokens, by id."""
        special = [token for token in self.specification.added if token.special]
        return {token.content: token.id for token in sorted(special, key=lambda token: token.id)}

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it (a leading space is `Ġ`); None if there is none."""
        return self._names.get(token)

    def id_to_token(self, number: int) -> str | None:
        return self._tokens[number] if 0 <= number < len(self._tokens) else None

    @property
    def eos_token_id(self) -> int | None:
        return self._role_id(self.roles.eos_token)

    @property
    def pad_token_id(self) -> int | None:
        return self._role_id(self.roles.pad_token)

    @property
    def mask_token_id(self) -> int | None:
        """The token that stands for a hidden one, if there is one."""
        return self._role_id(self.roles.mask_token)

    @property
    def chat_template(self) -> str | None:
        return self.roles.chat_template

    @property
    def truncation(self) -> Truncation | None:
        """What the file says of truncation. Nothing is cut unless asked: `encode(text, max_length=...)`."""
        return self.specification.truncation

    @property
    def padding(self) -> Padding | None:
        """What the file says of padding. Of this, `pad` takes the id, where no pad token is named."""
        return self.specification.padding

    def _role_id(self, token: str | None) -> int | None:
        return None if token is None else self._names[token]

    # Text to ids

    def encode(
        self,
        text: str,
        add_special_tokens: bool = False,
        *,
        parse_special: bool = True,
        max_length: int | None = None,
        truncation: Side = "right",
    ) -> NDArray[np.uint32]:
        """The ids of a text, uint32 (n,).

        Args:
            add_special_tokens: put around it what the file's post-processor puts around a text.
            parse_special: control tokens in the text become their ids, as in `tokenizers`. With False they are
                ordinary text, which is right for anything that a user typed.
            max_length: cut the text to leave at most so many ids, those around it included.
            truncation: the side where a text that is too long is cut.

        Raises:
            DataError: the text has a lone surrogate.
            ConfigError: `max_length` has no room for what stands around a text.
        """
        try:
            ids = self._encoder.encode(text, parse_special)
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        if not add_special_tokens and max_length is None:
            return ids
        alone = Ragged(ids, np.array([0, len(ids)]))
        return self._single(alone, add_special_tokens, max_length, truncation).values

    def encode_batch(
        self,
        texts: Iterable[str],
        threads: int | None = None,
        *,
        add_special_tokens: bool = False,
        parse_special: bool = True,
        max_length: int | None = None,
        truncation: Side = "right",
    ) -> Ragged:
        """The ids of many texts: values uint32 (N,), offsets int64 (texts + 1,); the same for any `threads`.

        Arguments and errors as in `encode`; that of a lone surrogate says in which text.
        """
        return self._single(self._encode_all(texts, threads, parse_special), add_special_tokens, max_length, truncation)

    def encode_pairs(
        self,
        firsts: Iterable[str],
        seconds: Iterable[str],
        threads: int | None = None,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        max_length: int | None = None,
        truncation: Side = "right",
        strategy: Strategy = "longest_first",
    ) -> tuple[Ragged, Ragged]:
        """Pairs of texts, as cross-encoders read them: ids uint32 (N,) and type ids (segments) uint32 (N,), by pair.

        Args:
            strategy: which text is cut where both have more than `max_length`: "longest_first" (until both are of
                equal length, then both), "only_first" or "only_second".

        Raises:
            DataError: unequal numbers of texts, a lone surrogate, or a text too short for what must be cut from it.
            ConfigError: as in `encode`.
        """
        first, second = (self._encode_all(texts, threads, parse_special) for texts in (firsts, seconds))
        if len(first) != len(second):
            raise DataError(f"{len(first)} first texts and {len(second)} second ones are no pairs")
        post_processor = self.specification.post_processor
        if max_length is not None:
            assembly.check_side(truncation, "truncation")
            most = assembly.room(max_length, post_processor.added(pair=True) if add_special_tokens else 0)
            keep_first, keep_second = assembly.shares(first.lengths, second.lengths, most, strategy)
            first = assembly.truncate(first, keep_first, truncation)
            second = assembly.truncate(second, keep_second, truncation)
        return assembly.assemble((first, second), post_processor.pair, add_special_tokens)

    def pad(
        self,
        batch: Ragged | Iterable[ArrayLike],
        length: int | None = None,
        side: Side = "right",
        multiple_of: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of ids made equally long with the pad token: int64 (B, T); and what is not padding: bool (B, T).

        Args:
            length: T; None: that of the longest row. `multiple_of`: T is rounded up to a multiple of it.

        Raises:
            ConfigError: the tokenizer has no pad token, or an option that cannot be used.
            DataError: a row is longer than `length`; says which.
        """
        number = self.pad_token_id
        if number is None and self.padding is not None:
            number = self.padding.token_id
        if number is None:
            raise ConfigError("the tokenizer has no pad token", hint="Name one: with_roles(pad_token=...).")
        return assembly.pad(batch, number, length, side, multiple_of)

    def _encode_all(self, texts: Iterable[str], threads: int | None, parse_special: bool) -> Ragged:
        if isinstance(texts, str | bytes):
            raise TypeError("texts must be a list of texts, not one text")  # whose characters would be texts
        listed = texts if isinstance(texts, list) else list(texts)
        try:
            return Ragged(*self._encoder.encode_batch(listed, threads or cpu_count(), parse_special))
        except UnicodeEncodeError as error:
            raise surrogate_error(error, next(i for i, text in enumerate(listed) if text is error.object)) from None

    def _single(self, batch: Ragged, add_special_tokens: bool, max_length: int | None, truncation: Side) -> Ragged:
        """Texts cut to `max_length` and put into the template for single texts."""
        post_processor = self.specification.post_processor
        added = post_processor.added(pair=False) if add_special_tokens else 0
        if max_length is not None:
            assembly.check_side(truncation, "truncation")
            batch = assembly.truncate(batch, assembly.room(max_length, added), truncation)
        return assembly.assemble((batch,), post_processor.single, add_special_tokens)[0] if added else batch

    def encode_with_offsets(
        self, text: str, *, parse_special: bool = True
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of a text, uint32 (n,), and where each stands in it, int64 (n, 2): characters from, to.

        A token that holds part of a character spans the character.
        """
        try:
            ids, places = self._encoder.encode_with_offsets(text, parse_special)
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from None
        offsets = in_characters(text, places.reshape(-1, 2))
        post_processor = self.specification.post_processor
        if not post_processor.trim_offsets or not len(ids):
            return ids, offsets
        spaces = self._spaces[ids]
        for i in np.flatnonzero(self._stripping[ids]):  # spaces that these took from the text count too
            piece = text[slice(*offsets[i])]
            spaces[i] = len(piece) - len(piece.lstrip()), len(piece) - len(piece.rstrip())
        return ids, without_spaces(offsets, spaces, post_processor.keep_first_space)

    @cached_property
    def _spaces(self) -> NDArray[np.int64]:
        return spaces_of(self._tokens)

    # Ids to text

    @cached_property
    def text_is_bytes(self) -> bool:
        """Whether `decode` gives the characters of `decode_bytes`, and a token the same bytes wherever it stands."""
        kind = type(self.specification.model)
        return kind.decode is Model.decode and kind.first_bytes_of is Model.first_bytes_of

    def decode_bytes(self, ids: ArrayLike, skip_special_tokens: bool = False) -> bytes:
        """The bytes that ids stand for: any bytes come back as they were encoded.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        array = self._decodable(ids, skip_special_tokens)
        return self._at_start(array, self._encoder.decode_bytes(array))

    def token_bytes(self, number: int, skip_special_tokens: bool = False) -> bytes:
        """`decode_bytes` of one id, remembered: what streams ask for again and again."""
        found = self._spelled.get((number, skip_special_tokens))
        if found is None:
            found = self._spelled[number, skip_special_tokens] = self.decode_bytes([number], skip_special_tokens)
        return found

    def decode(self, ids: ArrayLike, skip_special_tokens: bool = False) -> str:
        """The text that ids stand for; bytes that are not UTF-8 become U+FFFD. Errors as in `decode_bytes`."""
        array = self._decodable(ids, skip_special_tokens)
        data = self._at_start(array, self._encoder.decode_bytes(array))
        return self.specification.model.decode(data, array, self._tokens)

    def _decodable(self, ids: ArrayLike, skip_special_tokens: bool) -> NDArray[np.uint32]:
        array = np.asarray(ids)
        if array.size == 0:
            return np.zeros(0, dtype=np.uint32)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(f"ids must be a row of integers, not {array.dtype} of shape {array.shape}")
        wrong = (array < 0) | (array >= self.vocab_size)
        if not wrong.any():
            wrong = ~self._known[array]
        if wrong.any():
            position = int(np.argmax(wrong))
            where = f"position {position}"
            raise DataError(
                f"id {int(array[position])} is not in the vocabulary of {self.vocab_size:,} tokens", where=where
            )
        if skip_special_tokens:
            array = array[~self._special[array]]
        return np.ascontiguousarray(array, dtype=np.uint32)

    def _at_start(self, array: NDArray[Any], data: bytes) -> bytes:
        """Decoded bytes, whose first token may be written otherwise than in the midst of a text."""
        token = self._tokens[array[0]] if len(array) else None
        start = None if token is None else self.specification.model.first_bytes_of(token)
        if token is None or start is None:
            return data
        return start + data[len(self.specification.model.bytes_of(token)) :]

    def decode_batch(self, batch: Ragged | Iterable[ArrayLike], skip_special_tokens: bool = False) -> list[str]:
        """The text of each row of ids. Errors as in `decode_bytes`, with the row."""
        texts = []
        for row, ids in enumerate(batch):
            try:
                texts.append(self.decode(ids, skip_special_tokens))
            except DataError as error:
                raise DataError(error.message, where=f"row {row}, {error.where}") from None
        return texts


def _encoder(specification: Specification, tokens: Sequence[str | None]) -> _native.Encoder:
    model = specification.model
    control_ids = {token.id for token in specification.added if token.special}
    pieces = [model.bytes_of(token) if token is not None else b"" for token in tokens]
    return _native.Encoder(
        model.algorithm(pieces, control_ids),
        pieces,
        [
            (token.content.encode("utf-8", errors="surrogatepass"), *dataclasses.astuple(token)[1:])
            for token in specification.added
        ],
    )


def surrogate_error(error: UnicodeEncodeError, index: int | None = None) -> DataError:
    place = f"character {error.start}" if index is None else f"character {error.start} of text {index}"
    return DataError(
        f"the text has a lone surrogate (U+{ord(error.object[error.start]):04X}, {place}), which is not Unicode text",
        hint="Read files with errors='replace', or drop such characters.",
    )


def _json_bytes(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8", errors="surrogatepass")
