"""Transformers and the recurrent networks they replaced: configs, modules, caches, and Hugging Face directories."""

from . import attention
from .cache import CacheConfig, FixedCache, KeyValueCache
from .config import LatentAttention, ModelConfig, RopeScaling
from .feedforward import balance_loss
from .flash import attend_online
from .heads import EncoderClassifier, MaskedLanguageModel, SequenceClassifier
from .huggingface import load_model, save_model
from .recurrent import RecurrentConfig, RecurrentEncoderDecoder
from .transformer import Decoder, Encoder, EncoderDecoder

__all__ = [
    "CacheConfig",
    "Decoder",
    "Encoder",
    "EncoderClassifier",
    "EncoderDecoder",
    "FixedCache",
    "KeyValueCache",
    "LatentAttention",
    "MaskedLanguageModel",
    "ModelConfig",
    "RecurrentConfig",
    "RecurrentEncoderDecoder",
    "RopeScaling",
    "SequenceClassifier",
    "attend_online",
    "attention",
    "balance_loss",
    "load_model",
    "save_model",
]
