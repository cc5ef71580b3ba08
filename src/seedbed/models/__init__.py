"""Transformers: configs, modules, key-value caches, and Hugging Face directories."""

from . import attention
from .cache import KeyValueCache
from .config import ModelConfig
from .huggingface import load_model, save_model
from .transformer import Decoder, Encoder, SequenceClassifier

__all__ = [
    "Decoder",
    "Encoder",
    "KeyValueCache",
    "ModelConfig",
    "SequenceClassifier",
    "attention",
    "load_model",
    "save_model",
]
