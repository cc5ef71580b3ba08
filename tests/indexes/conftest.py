from __future__ import annotations

import pytest

from seedbed import _native


@pytest.fixture
def simd():
    """Sets the instruction set that the kernels use; the machine's own is set again at the end."""
    before = _native.simd_level()
    yield _native.set_simd_level
    _native.set_simd_level(before)
