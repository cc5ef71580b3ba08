"""How tokenizers cut a text: the run's own, others learnt from the same text, and bytes and characters beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...curation import Corpus
from ...datasets.shards import FILE_NAME, TokenShards
from ...evaluation.tokenizer_comparison import TRAINERS
from ...tokenizers import Tokenizer
from ...tokenizers.token_kinds import token_bytes
from .materials import Materials

_LEARNT_FROM = 4_000_000  # characters of the run's text that the others are learnt from
_LEARNT = {"wordpiece": "WordPiece", "unigram": "Unigram"}
_GLITCHES = 12
_MOST_UNKNOWN = 0.1  # of the tokens
_MOST_PIECES = 600  # of one tokenizer that are told

# Universal Declaration of Human Rights, article 1, first sentence.
SENTENCES = {
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Turkish": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Arabic": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Chinese": "人人生而自由,在尊严和权利上一律平等。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}


@dataclass(frozen=True)
class Named:
    """A tokenizer as the page shows it; `counts`: how often training met each id (V,), where that is known."""

    key: str
    title: str
    note: str
    tokenizer: Tokenizer
    counts: NDArray[np.int64] | None = None


class Cutting:
    """Cuts texts by the run's tokenizers. Those for comparison are learnt beside, once anybody asks for anything."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials
        self._learner = ThreadPoolExecutor(1, "learner")

    @property
    def learning(self) -> bool:
        """Whether those for comparison are still being learnt; asked first, so that an answer without them says so."""
        return not self._learnt.done()

    def cut(self, text: str) -> dict[str, Any]:
        """The text by every tokenizer: its pieces, and what they cost."""
        words, learning = len(text.split()), self.learning
        rows = [self._by(named, text) for named in self._named()]
        rows += [_plain("characters", "Characters", "one token a character", text, list(text))]
        rows += [_plain("bytes", "Bytes", "one token a byte of UTF-8", text, [f"{one:02X}" for one in text.encode()])]
        return {
            "words": words,
            "characters": len(text),
            "bytes": len(text.encode()),
            "tokenizers": rows,
            "learning": learning,
        }

    def languages(self) -> dict[str, Any]:
        """One sentence in several languages: tokens by tokenizer."""
        learning = self.learning
        costs: dict[str, list[int | None]] = {
            named.title: [_cost(named.tokenizer, text) for text in SENTENCES.values()] for named in self._named()
        }
        sizes = [len(text.encode()) for text in SENTENCES.values()]
        return {
            "source": "Universal Declaration of Human Rights, article 1",
            "sentences": [{"language": name, "text": text} for name, text in SENTENCES.items()],
            "tokens": {**costs, "Bytes": sizes},
            "learning": learning,
        }

    @cached_property
    def glitches(self) -> list[dict[str, Any]]:
        """Ids of the run's tokenizer that training never met, the longest first: the model knows nothing of them."""
        own = next(self._own(), None)
        if own is None or own.counts is None:
            return []
        special = set(own.tokenizer.special_tokens.values())
        unmet = [int(one) for one in np.flatnonzero((own.counts == 0) & own.tokenizer.known) if one not in special]
        texts = {one: token_bytes(own.tokenizer, one).decode("utf-8", "replace") for one in unmet}
        readable = [one for one in unmet if "\ufffd" not in texts[one] and texts[one].strip()]
        chosen = sorted(readable, key=lambda one: (-len(texts[one]), one))[:_GLITCHES]
        return [{"id": one, "text": texts[one]} for one in chosen]

    def _named(self) -> Iterator[Named]:
        yield from self._own()
        if self._learnt.done():
            yield from self._learnt.result()

    def _own(self) -> Iterator[Named]:
        yield from self._opened.values()

    @cached_property
    def _opened(self) -> Mapping[str, Named]:
        """By fingerprint: the encoder often has the language model's tokenizer."""
        found: dict[str, Named] = {}
        path = self._materials.run.path
        if self._materials.has("tokenizer"):
            own = Tokenizer.load(path / "tokenizer")
            note = f"{_kind(own)}, {own.vocab_size:,} tokens, learnt from this text"
            found[own.fingerprint] = Named("own", "This run", note, own, self._counts(own))
        if self._materials.encoder is not None:
            other = self._materials.encoder.tokenizer
            note = f"{_kind(other)}, {other.vocab_size:,} tokens"
            found.setdefault(other.fingerprint, Named("encoder", "Search encoder", note, other))
        return found

    def _counts(self, tokenizer: Tokenizer) -> NDArray[np.int64] | None:
        folder = self._materials.run.path / "tokens" / "train"
        if not (folder / FILE_NAME).exists():
            return None
        shards = TokenShards.open(folder, tokenizer.fingerprint)
        return np.bincount(shards.tokens, minlength=tokenizer.vocab_size)

    @cached_property
    def _learnt(self) -> Future[list[Named]]:
        return self._learner.submit(self._learn)

    def _learn(self) -> list[Named]:
        """Other algorithms on the same text, with as many tokens as the run's own."""
        own = next(self._own(), None)
        if own is None or not self._materials.has("corpus"):
            return []
        texts, read = [], 0
        for text in Corpus.open(self._materials.run.path / "corpus").texts("train"):
            texts.append(text)
            read += len(text)
            if read >= _LEARNT_FROM:
                break
        size = own.tokenizer.vocab_size
        found = [(key, title, TRAINERS[key](texts, size)) for key, title in _LEARNT.items()]
        return [
            Named(key, title, f"{one.vocab_size:,} tokens, learnt from this text, for comparison", one)
            for key, title, one in found
        ]

    def _by(self, named: Named, text: str) -> dict[str, Any]:
        tokenizer = named.tokenizer
        ids, offsets = tokenizer.encode_with_offsets(text, parse_special=False)
        unknown = _unknown(tokenizer)
        pieces = [
            {
                "id": number,
                "text": text[start:end],
                "bytes": token_bytes(tokenizer, number).hex(" "),
                "token": tokenizer.id_to_token(number) or "",
                "count": None if named.counts is None else int(named.counts[number]),
                "before": text[max(0, before[1]) : start],  # that no piece holds
                "part": tuple(span) == tuple(before),  # of the character that the piece before it began
                "unknown": number == unknown,
            }
            for number, span, before in zip(
                ids.tolist(), offsets.tolist(), [(-1, -1), *offsets.tolist()][: len(ids)], strict=True
            )
            for start, end in [span]
        ]
        return _row(named.key, named.title, named.note, text, pieces)


def _plain(key: str, title: str, note: str, text: str, pieces: list[str]) -> dict[str, Any]:
    return _row(key, title, note, text, [{"text": piece} for piece in pieces])


def _row(key: str, title: str, note: str, text: str, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    count, words = len(pieces), len(text.split())
    return {
        "key": key,
        "title": title,
        "note": note,
        "pieces": pieces[:_MOST_PIECES],
        "count": count,
        "fertility": count / words if words else None,
        "bytes_per_token": len(text.encode()) / count if count else None,
    }


def _unknown(tokenizer: Tokenizer) -> int | None:
    token = tokenizer.roles.unk_token
    return None if token is None else tokenizer.token_to_id(token)


def _cost(tokenizer: Tokenizer, text: str) -> int | None:
    """Tokens of a text, None where too many of them would be unknown to say anything."""
    ids = tokenizer.encode(text, parse_special=False)
    unknown = _unknown(tokenizer)
    lost = 0 if unknown is None else int((ids == unknown).sum())
    return None if lost > _MOST_UNKNOWN * len(ids) else len(ids)


def _kind(tokenizer: Tokenizer) -> str:
    name = type(tokenizer.specification.model).__name__
    return {"ByteLevelBPE": "byte-level BPE", "CharacterBPE": "BPE of characters"}.get(name, name)
