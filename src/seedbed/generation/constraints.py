"""Constrained output: at each step only those tokens that can still lead to a JSON value of a schema or to a match of
an expression. The automata are llguidance's, an optional library; what our tokens spell is told to it here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError
from .sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tokenizers import Tokenizer

_NOT_TEXT = b"\xff"  # no byte of UTF-8: what llguidance knows control tokens by


class Grammars:
    """Makes matchers for one tokenizer, whose tokens are spelled out once.

    Raises:
        ConfigError: llguidance is not installed, or nothing ends a text, so that no answer could ever be complete.
    """

    def __init__(self, tokenizer: Tokenizer, eos_token_ids: Sequence[int]) -> None:
        try:
            import llguidance
        except ImportError:
            raise ConfigError(
                "constrained output needs llguidance", where="json_schema, regex", hint="pip install 'seedbed[grammar]'"
            ) from None
        if not eos_token_ids:
            raise ConfigError("a constrained answer needs a token that ends it", where="eos_token_ids")
        self._matcher, self._end = llguidance.LLMatcher, eos_token_ids[0]
        spelled = _Spelled(tokenizer, eos_token_ids)
        self._leading_space = spelled.leading_space
        wrapped = llguidance.TokenizerWrapper(spelled)
        self._tokenizer = llguidance.LLTokenizer(wrapped, eos_token=list(eos_token_ids))

    def matcher(self, sampling: Sampling) -> Matcher:
        """Raises: ConfigError: the schema or the expression is not valid, or asks for what is not supported."""
        if sampling.regex is not None:
            key, expression = "regex", sampling.regex
            grammar = self._matcher.grammar_from_regex(f"( )?({expression})" if self._leading_space else expression)
        else:
            # Without white space of its own choosing: small models like nothing better, and never stop.
            schema = {**(sampling.json_schema or {}), "x-guidance": {"whitespace_flexible": False}}
            key, text = "json_schema", json.dumps(schema)
            start = 'start: " "? value' if self._leading_space else "start: value"
            grammar = self._matcher.grammar_from_lark(f"{start}\nvalue: %json {text}")
        matcher = self._matcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ConfigError(f"it cannot be followed: {matcher.get_error().splitlines()[0]:.300}", where=key)
        return Matcher(matcher, self._end)


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any, end: int) -> None:
        self._matcher, self._end = matcher, end

    def allowed(self, vocabulary: int) -> Tensor:
        """bool (V,): the tokens that may come next; end tokens once the answer is complete.

        Raises:
            DataError: none may: the vocabulary cannot spell what has to follow.
        """
        mask = self._matcher.compute_bitmask()
        bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")
        # Where no token fits, llguidance has the answer end, complete or not.
        if self._matcher.is_error() or (bits[self._end] and not self._matcher.is_accepting()):
            hint = self._matcher.get_error()[:300] or "no token of the vocabulary spells what has to follow"
            raise DataError(f"the answer cannot go on: {hint}")
        allowed = torch.zeros(vocabulary, dtype=torch.bool)
        size = min(vocabulary, len(bits))
        allowed[:size] = torch.from_numpy(bits[:size]).bool()
        return allowed

    def consume(self, token: int) -> bool:
        """Go on by a token that was allowed; True when nothing can follow."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


class _Spelled:
    """A tokenizer as llguidance wants to see it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, eos_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_token_ids[0]
        special = set(tokenizer.special_tokens.values()) | set(eos_token_ids)
        self.special_token_ids = sorted(special)
        # Spelled behind another token: at the start of a text some tokenizers leave out a token's space.
        plain = [number for number in range(tokenizer.vocab_size) if number not in special]
        start = len(tokenizer.decode_bytes(plain[:1]))
        self.tokens = [_NOT_TEXT + str(number).encode() for number in range(tokenizer.vocab_size)]
        for number in plain:
            self.tokens[number] = tokenizer.decode_bytes([plain[0], number])[start:]
        self.leading_space = any(tokenizer.decode_bytes([number]) != self.tokens[number] for number in plain)

    def __call__(self, text: str | bytes) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return [int(number) for number in self._tokenizer.encode(text, parse_special=False)]
