"""Key-value caches: what each row keeps of its tokens, where it lies, and how many bytes that takes."""

from .blocks import KeyValueCache, Placement
from .fixed import FixedCache
from .layouts import CacheConfig, Layout, Visibility

__all__ = ["CacheConfig", "FixedCache", "KeyValueCache", "Layout", "Placement", "Visibility"]
