"""Tokenizers: byte-level BPE and WordPiece trained and applied by native code, in Hugging Face's formats."""

from .assembly import Padding, Truncation
from .bpe import train_bpe
from .bpe_model import ByteLevelBPE
from .chat import CHATML, CHATML_TOKENS
from .post_processor import PostProcessor
from .roles import Roles
from .specification import AddedToken, Specification
from .streaming import StreamDecoder
from .tokenizer import Tokenizer
from .unigram import train_unigram
from .unigram_model import Unigram
from .wordpiece import train_wordpiece
from .wordpiece_model import WordPiece

__all__ = [
    "CHATML",
    "CHATML_TOKENS",
    "AddedToken",
    "ByteLevelBPE",
    "Padding",
    "PostProcessor",
    "Roles",
    "Specification",
    "StreamDecoder",
    "Tokenizer",
    "Truncation",
    "Unigram",
    "WordPiece",
    "train_bpe",
    "train_unigram",
    "train_wordpiece",
]
