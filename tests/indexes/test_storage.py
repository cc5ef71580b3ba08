"""Files of every kind of index: the same answers after loading; damage, hostile content, other writers and a crash
end in a FormatError or change nothing.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest

from seedbed.core.errors import FormatError
from seedbed.indexes import FlatIndex, load_index
from seedbed.indexes.storage import MAGIC, VERSION, read_sections, write_sections

from .examples import COUNT, EXAMPLES, KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mmap", [True, False])
def test_loaded_index_answers_and_changes_as_the_saved_one(tmp_path, kind, mmap):
    example = EXAMPLES[kind]
    index = example.build()
    path, again = tmp_path / "index", tmp_path / "again"
    index.save(path)
    loaded = load_index(path, mmap=mmap)
    assert type(loaded) is type(index)
    assert len(loaded) == len(index) == COUNT - 2
    assert_same_answers(loaded, index, example.queries)
    for one in (index, loaded):
        one.add(example.items[:0])
        one.add(example.items[:2])
        one.remove([3])
        one.save(path)
    index.save(again)
    assert_same_answers(loaded, index, example.queries)
    assert path.read_bytes() == again.read_bytes()
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["again", "index"]


def assert_same_answers(found, expected, queries):
    for one, other in zip(found.search(queries, 5), expected.search(queries, 5), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_index_is_saved_and_loaded(tmp_path, kind):
    example = EXAMPLES[kind]
    example.new().save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert len(loaded) == 0
    assert (loaded.search(example.queries, 3)[1] == -1).all()
    loaded.add(example.items)
    assert len(loaded) == COUNT


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_predicted(kind):
    example = EXAMPLES[kind]
    index = example.new()
    index.add(example.items)
    assert index.memory_bytes() == pytest.approx(example.predicted(), rel=example.slack)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_flipped_files(tmp_path, kind):
    example = EXAMPLES[kind]
    index = example.build()
    path = tmp_path / "index"
    index.save(path)
    whole = path.read_bytes()
    header = 20 + struct.unpack_from("<I", whole, 12)[0]
    random = np.random.default_rng(1)
    for length in [*range(24), *range(24, len(whole), max(1, len(whole) // 150)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            load_index(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(FormatError):
        load_index(path)
    for place in [*range(20), *random.integers(20, header, 30), *random.integers(header, len(whole), 100)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(damaged)
        try:
            loaded = load_index(path)
        except FormatError:
            continue
        assert place >= header, "a flipped bit of the header was read"
        assert whole[place] == 0, "a flipped bit that is not padding was read"
        assert_same_answers(loaded, index, example.queries)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_settings_that_contradict_each_other_never_crash(tmp_path, kind):
    """Right checksums, wrong content: what a hostile or mistaken writer could produce."""
    example = EXAMPLES[kind]
    path = tmp_path / "index"
    example.build().save(path)
    stored = read_sections(path)
    random = np.random.default_rng(2)
    for _ in range(120):
        arrays = {name: array.copy() for name, array in stored.arrays.items()}
        settings = dict(stored.settings)
        name = list(arrays)[int(random.integers(len(arrays)))]
        flat = arrays[name].reshape(-1)
        choice = random.integers(6)
        if choice == 0:
            arrays[name] = flat[:-1]
        elif choice == 1 and flat.size:
            flat[random.integers(flat.size)] = random.integers(0, 255)
        elif choice == 2 and flat.size:
            flat.view(np.uint8)[:] = random.integers(0, 255, flat.nbytes)
        elif choice == 3:
            del arrays[name]
        elif choice == 4:
            changed = list(settings)[int(random.integers(len(settings)))]
            settings[changed] = [None, -1, 0, 1, 2**62, "l2", 0.5, {}][int(random.integers(8))]
        else:
            arrays[name] = random.permutation(flat)
        write_sections(path, stored.kind, settings, arrays)
        try:
            loaded = load_index(path)
        except FormatError:
            continue
        if settings.get("dim") != stored.settings.get("dim"):
            continue  # an index of another dimension, in which nothing is
        loaded.search(example.queries, 5)
        loaded.search(example.queries, 5, filter=[3, 6])
        assert loaded.memory_bytes() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_two_writers_leave_one_whole_file(tmp_path, kind):
    example, path = EXAMPLES[kind], tmp_path / "index"
    whole, less = example.new(), example.new()
    whole.add(example.items)
    less.add(example.items[:9])
    whole.save(path)
    writers = [threading.Thread(target=lambda one=one: [one.save(path) for _ in range(10)]) for one in (whole, less)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert len(load_index(path)) in (9, COUNT)
    for writer in writers:
        writer.join()
    assert len(load_index(path)) in (9, COUNT)
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


def test_a_crash_while_saving_leaves_the_old_file(tmp_path):
    """All kinds are written by the same function."""
    path = tmp_path / "index"
    index = FlatIndex(3)
    index.add(np.eye(3))
    index.save(path)
    crash = (
        "import os, sys, numpy as np\n"
        "from seedbed.indexes import FlatIndex\n"
        "index = FlatIndex(3)\n"
        "index.add(np.ones((1000, 3)))\n"
        "os.fsync = lambda handle: os._exit(9)\n"
        "index.save(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", crash, str(path)]).returncode == 9
    assert len(load_index(path)) == 3
    index.save(path)
    assert len(load_index(path)) == 3


def test_a_failure_while_saving_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "index"
    index = FlatIndex(3)
    index.add(np.eye(3))
    index.save(path)
    index.add(np.eye(3))
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        index.save(path)
    assert len(load_index(path)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


def write_header(path, content, version=VERSION):
    header = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(struct.pack("<8sIII", MAGIC, version, len(header), zlib.crc32(header)) + header)


def test_other_files_and_newer_versions(tmp_path):
    path = tmp_path / "index"
    with pytest.raises(FormatError, match="cannot read"):
        load_index(path)
    path.write_bytes(b"PAR1" * 20)
    with pytest.raises(FormatError, match="no index file"):
        load_index(path)
    write_header(path, {"kind": "flat", "settings": {}, "sections": [], "size": 0}, VERSION + 1)
    with pytest.raises(FormatError, match="newer version"):
        load_index(path)
    write_sections(path, "tree", {}, {})
    with pytest.raises(FormatError, match="tree"):
        load_index(path)
    write_sections(path, "hnsw", {"dim": "six"}, {})
    with pytest.raises(FormatError, match="dim"):
        load_index(path)


def test_headers_that_say_nonsense(tmp_path):
    path = tmp_path / "index"
    section = {"name": "vectors", "dtype": "float32", "shape": [2], "offset": 0, "crc32": 0}
    whole = {"kind": "flat", "settings": {}, "sections": [section], "size": 999}
    headers = [b"", b"\xff", b"[]", b"null", b"{", b"[" * 100_000, *({**whole, key: None} for key in whole)]
    for name, values in {
        "name": [3, None], "dtype": [[], "object", "float16"],
        "shape": [3, [-1], [1 << 62, 1 << 62], [1 << 70], ["2"], [0, 1 << 70]],
        "offset": [-64, 1, 1 << 70, None], "crc32": ["0"],
    }.items():  # fmt: skip
        headers += [{**whole, "sections": [{**section, name: value}]} for value in values]
    for header in headers:
        write_header(path, header)
        with pytest.raises(FormatError):
            load_index(path)
        if isinstance(header, dict):  # the size is right: the rest is looked at
            write_header(path, {**header, "size": path.stat().st_size} if header.get("size") else header)
            with pytest.raises(FormatError):
                load_index(path)
