"""Files: the same answers after loading; any damage is a FormatError or changes nothing; never a crash."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest

from seedbed.core.errors import FormatError
from seedbed.indexes import BM25Index, FlatIndex, HNSWIndex, load_index
from seedbed.indexes.storage import MAGIC, read_sections, write_sections

TEXTS = ["read a csv file", "json.dumps writes JSON", "open a file", "naïve café", ""]


def build(kind):
    random = np.random.default_rng(0)
    if kind == "bm25":
        index = BM25Index()
        index.add(TEXTS)
        return index, ["csv file"]
    vectors = random.normal(size=(60, 6)).astype(np.float32)
    index = FlatIndex(6) if kind == "flat" else HNSWIndex(6, m=4, threads=1)
    index.add(np.concatenate([vectors, vectors[:5]]), np.arange(65) * 3)
    index.remove([0, 9])
    return index, vectors[:4]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "bm25"])
@pytest.mark.parametrize("mmap", [True, False])
def test_loaded_index_answers_and_changes_as_the_saved_one(tmp_path, kind, mmap):
    index, queries = build(kind)
    path = tmp_path / "index"
    index.save(path)
    loaded = load_index(path, mmap=mmap)
    assert type(loaded) is type(index)
    assert len(loaded) == len(index)
    for expected, found in zip(index.search(queries, 5), loaded.search(queries, 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    more = ["another csv text"] if kind == "bm25" else np.ones((1, 6))
    for one in (index, loaded):
        one.add(more)
        one.remove([3])
        one.save(path)
    again = tmp_path / "again"
    index.save(again)
    for expected, found in zip(index.search(queries, 5), loaded.search(queries, 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert path.read_bytes() == again.read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["again", "index"]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "bm25"])
def test_truncated_and_flipped_files(tmp_path, kind):
    index, queries = build(kind)
    path = tmp_path / "index"
    index.save(path)
    whole = path.read_bytes()
    expected = index.search(queries, 5)
    random = np.random.default_rng(1)
    for length in [*range(0, 24), *random.integers(0, len(whole), 40).tolist(), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            load_index(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(FormatError):
        load_index(path)
    for place in [*range(0, 24), *random.integers(0, len(whole), 60).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(damaged)
        try:
            loaded = load_index(path)
        except FormatError:
            continue
        np.testing.assert_array_equal(loaded.search(queries, 5)[1], expected[1])  # it was padding


@pytest.mark.parametrize("kind", ["hnsw", "bm25"])
def test_arrays_that_contradict_each_other_never_crash(tmp_path, kind):
    """Right checksums, wrong content: what a hostile or mistaken writer could produce."""
    index, queries = build(kind)
    path = tmp_path / "index"
    index.save(path)
    stored = read_sections(path)
    random = np.random.default_rng(2)
    for _ in range(80):
        arrays = {name: array.copy() for name, array in stored.arrays.items()}
        name = list(arrays)[int(random.integers(len(arrays)))]
        flat = arrays[name].reshape(-1)
        choice = random.integers(4)
        if choice == 0:
            arrays[name] = flat[:-1]
        elif choice == 1 and flat.size:
            flat[random.integers(flat.size)] = random.integers(0, 255)
        elif choice == 2 and flat.size:
            flat.view(np.uint8)[:] = random.integers(0, 255, flat.nbytes)
        else:
            arrays[name] = random.permutation(flat)
        write_sections(path, stored.kind, stored.settings, arrays)
        try:
            loaded = load_index(path)
        except FormatError:
            continue
        loaded.search(queries, 5)
        loaded.search(queries, 5, filter=[3, 6])
        assert loaded.memory_bytes() > 0


def test_other_files_and_newer_versions(tmp_path):
    path = tmp_path / "index"
    with pytest.raises(FormatError, match="cannot read"):
        load_index(path)
    path.write_bytes(b"PAR1" * 20)
    with pytest.raises(FormatError, match="no index file"):
        load_index(path)
    header = json.dumps({"kind": "flat", "settings": {}, "sections": [], "size": 0}).encode()
    path.write_bytes(struct.pack("<8sIII", MAGIC, 2, len(header), zlib.crc32(header)) + header)
    with pytest.raises(FormatError, match="newer version"):
        load_index(path)
    write_sections(path, "tree", {}, {})
    with pytest.raises(FormatError, match="tree"):
        load_index(path)
    write_sections(path, "hnsw", {"dim": "six"}, {})
    with pytest.raises(FormatError, match="dim"):
        load_index(path)
