"""Constrained output: at each step only those tokens that can still lead to a JSON value of a schema or to a match of
an expression. The automata are llguidance's, an optional library; what our tokens spell is told to it here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import ConfigError
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
        self._library = llguidance
        self._tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Spelled(tokenizer, eos_token_ids)), eos_token=list(eos_token_ids)
        )

    def matcher(self, sampling: Sampling) -> Matcher:
        """Raises: ConfigError: the schema or the expression is not valid, or asks for what is not supported."""
        kind = self._library.LLMatcher
        if sampling.regex is not None:
            key, grammar = "regex", kind.grammar_from_regex(sampling.regex)
        else:
            key, grammar = "json_schema", kind.grammar_from_json_schema(json.dumps(sampling.json_schema))
        matcher = kind(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ConfigError(f"it cannot be followed: {matcher.get_error().splitlines()[0]:.300}", where=key)
        return Matcher(matcher)


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self, vocabulary: int) -> Tensor:
        """bool (V,): the tokens that may come next; end tokens once the answer is complete."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
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
        # Spelled behind another token: at the start of a text some tokenizers leave out a token's white space.
        before = next(number for number in range(tokenizer.vocab_size) if number not in special)
        start = len(tokenizer.decode_bytes([before]))
        self.tokens = [
            _NOT_TEXT + str(number).encode() if number in special else tokenizer.decode_bytes([before, number])[start:]
            for number in range(tokenizer.vocab_size)
        ]

    def __call__(self, text: str | bytes) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return [int(number) for number in self._tokenizer.encode(text, parse_special=False)]
