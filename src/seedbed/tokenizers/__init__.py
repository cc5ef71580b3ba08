"""Tokenizers: byte-level BPE trained and applied by native code, in Hugging Face's formats."""

from .bpe import train_bpe
from .chat import CHATML, CHATML_TOKENS
from .tokenizer import Roles, Tokenizer
from .tokenizer_json import AddedToken, Specification

__all__ = ["CHATML", "CHATML_TOKENS", "AddedToken", "Roles", "Specification", "Tokenizer", "train_bpe"]
