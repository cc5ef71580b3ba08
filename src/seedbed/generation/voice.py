"""A model and its tokenizer, spoken to in texts or in messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import ConfigError
from ..models import Decoder, load_model
from ..tokenizers import Tokenizer, chat
from .engine import Engine
from .sampling import Sampling

if TYPE_CHECKING:
    from .requests import Request

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Figures:
    """How an answer came about. `first` is the time to the first token and `rate` tokens per second behind it; seconds
    include what the caller did between two pieces. `forgotten`: earlier messages that found no room."""

    prompt_tokens: int
    new_tokens: int
    dropped: int
    forgotten: int
    first: float
    rate: float
    finish_reason: str

    def __str__(self) -> str:
        text = f"{self.prompt_tokens} + {self.new_tokens} tokens, first after {self.first * 1000:.0f} ms"
        text += f", then {self.rate:.0f} a second" if self.new_tokens > 1 else ""
        text += f"; {self.forgotten} earlier messages forgotten" if self.forgotten else ""
        text += f"; {self.dropped} tokens of the prompt cut off" if self.dropped else ""
        return text + (" (cut at the longest answer)" if self.finish_reason == "length" else "")


class Reply(Iterator[str]):
    """Pieces of an answer as they become certain; `figures` tells of it in the end."""

    def __init__(self, pieces: Iterator[str], request: Request, forgotten: int) -> None:
        self._pieces, self.request, self._forgotten = pieces, request, forgotten

    def __next__(self) -> str:
        return next(self._pieces)

    def figures(self) -> Figures:
        """Raises: SeedbedError: the request failed."""
        request, result = self.request, self.request.result(decode=False)
        assert request.finished is not None
        started = request.finished if request.started is None else request.started
        rest = request.finished - started
        return Figures(
            len(request.prompt.ids),
            len(result.ids),
            result.dropped,
            self._forgotten,
            started - request.submitted,
            (len(result.ids) - 1) / rest if rest > 0 else 0.0,
            result.finish_reason,
        )


class Voice:
    """Answers messages where the tokenizer has a chat template and the model was taught to, else goes on from texts.

    Args:
        chats: whether texts are questions to be put into the chat template.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, chats: bool) -> None:
        self.engine, self.tokenizer, self.chats = engine, tokenizer, chats

    @classmethod
    def load(cls, path: str | Path, chats: bool | None = None, **options: Any) -> Voice:
        """From a Hugging Face directory of a decoder; it chats if it has a chat template, unless told otherwise.

        Args:
            options: of the `Engine`.

        Raises:
            FormatError: a file is damaged. ConfigError: the model is no decoder.
        """
        model, tokenizer = load_model(path), Tokenizer.load(path)
        if not isinstance(model, Decoder):
            raise ConfigError(f"a {type(model).__name__} does not generate text", where=path)
        chats = tokenizer.chat_template is not None if chats is None else chats
        return cls(Engine(model.eval(), tokenizer, **options), tokenizer, chats)

    def ask(self, prompt: str | Messages, sampling: Sampling | None = None) -> Reply:
        """Begin an answer to a text or to messages, the last of which is a question.

        Of messages that are too many the earliest are forgotten, a question and its answer at a time; a text that is
        too long loses its beginning.
        """
        sampling = sampling or Sampling()
        ids, forgotten = self.encode(prompt, self.engine.max_length - sampling.max_new_tokens)
        request = self.engine.begin(ids, sampling, truncate="left")
        return Reply(self.engine.follow(request, truncate="left"), request, forgotten)

    def encode(self, prompt: str | Messages, room: int | None = None) -> tuple[np.ndarray, int]:
        """The ids of a text, or of messages and what opens the answer, and how many messages were left out so that they
        fit into `room` (None: none).

        Raises:
            ConfigError: messages, and the model was not taught to chat.
            DataError: the template refused them.
        """
        if isinstance(prompt, str) and not self.chats:
            return self.tokenizer.encode(prompt, parse_special=False), 0
        if not self.chats:
            raise ConfigError("this model was not taught to chat", hint="Give it a text, not messages.")
        messages: Messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if room is None:
            return chat.encode(self.tokenizer, messages, add_generation_prompt=True)[0], 0
        return self._latest(messages, room)

    def _latest(self, messages: Messages, room: int) -> tuple[np.ndarray, int]:
        """The ids of the messages that fit, and how many were left out. A system's message at the beginning stays."""
        kept = messages[:1] if messages and messages[0].get("role") == "system" else []
        turns = messages[len(kept) :]
        while True:
            ids, _ = chat.encode(self.tokenizer, [*kept, *turns], add_generation_prompt=True)
            following = next((place for place in range(1, len(turns)) if turns[place].get("role") == "user"), None)
            if len(ids) <= room or following is None:
                return ids, len(messages) - len(kept) - len(turns)
            turns = turns[following:]
