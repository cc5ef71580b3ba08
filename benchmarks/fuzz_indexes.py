"""Fuzzing of the indexes' native code under AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m benchmarks.fuzz_indexes [--minutes 30] [--first 0] [--only flat hnsw]

Builds the package once more with sanitizers into a temporary folder (some minutes), and starts a process with it. Each
round takes a kind of index with random options and lets it live: additions, removals, searches with and without filters
and in threads, files written and read again, bad input in between. What is found must be there, be admitted, be sorted
and not be there twice. Other rounds damage a file: its bytes, or its header, settings and arrays under right checksums.
It fails at the first finding of a sanitizer, the first error that is not one of the package's own, and the first wrong
answer. The seed of the failing round is printed; --first begins with it.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from benchmarks.fuzzing import damaged, main
from seedbed.core.errors import SeedbedError
from seedbed.indexes import (
    BM25Index,
    FlatIndex,
    GraphIndex,
    HNSWIndex,
    Index,
    IVFIndex,
    LSHIndex,
    MultiVectorIndex,
    PQIndex,
    SparseIndex,
    load_index,
)
from seedbed.indexes.ivf import Codes
from seedbed.indexes.loading import INDEXES
from seedbed.indexes.storage import MAGIC, VERSION, read_sections, write_sections

_WORDS = (
    "csv",
    "file",
    "read",
    "json.dumps",
    "readCsv",
    "snake_case",
    "naïve",
    "北京",
    "the",
    "",
    "x" * 300,
    "🙂",
    "٣",
)


@dataclass(frozen=True)
class Kind:
    """How indexes of a kind come about.

    Attributes:
        new: an empty index, trained where that is needed, with options that the generator chooses.
        items: so many that can be added to it, and asked for.
        complete: whether a wide search finds k items wherever there are k.
    """

    new: Callable[[random.Random], Index]
    items: Callable[[random.Random, Index, int], Any]
    complete: bool = True


def vectors(generator: random.Random, index: Any, count: int) -> np.ndarray[Any, Any]:
    """Vectors of every sort: drawn from a grid, so that many are equal, far from the origin, huge, tiny."""
    draws = np.random.default_rng(generator.getrandbits(32))
    rows: np.ndarray[Any, Any] = draws.normal(size=(count, index.dim))
    sort = generator.randrange(6)
    if sort == 0:
        rows = draws.integers(1, 3, rows.shape)
    elif sort == 1:
        rows = rows + 1000
    elif sort == 2:
        rows = rows * 10.0 ** draws.uniform(-20, 15, (count, 1))
    elif sort == 3:
        rows = np.repeat(rows[:1], count, axis=0)
    return np.asarray(rows, dtype=generator.choice([np.float32, np.float64]))


def texts(generator: random.Random, index: Any, count: int) -> list[str]:
    return [" ".join(generator.choices(_WORDS, k=generator.randint(0, 30))) for _ in range(count)]


def tokens(generator: random.Random, index: Any, count: int) -> list[np.ndarray[Any, Any]]:
    """Texts as a few vectors each."""
    return [vectors(generator, index, generator.randint(1, 9)) for _ in range(count)]


def sparse(generator: random.Random, index: Any, count: int) -> list[tuple[list[int], list[float]]]:
    """A few numbers each, with weights of every size."""
    numbers = [
        generator.sample(range(index.vocabulary), generator.randint(0, min(9, index.vocabulary))) for _ in range(count)
    ]
    return [(row, [10.0 ** generator.uniform(-30, 15) for _ in row]) for row in numbers]


def dense(index: Callable[..., Any], **choices: Sequence[Any]) -> Callable[[random.Random], Index]:
    """An index of vectors with options out of `choices`."""

    def new(generator: random.Random) -> Index:
        chosen = {name: generator.choice(values) for name, values in choices.items()}
        metric = generator.choice(["cosine", "dot", "l2"])
        made: Any = index(generator.choice([1, 3, 16, 33, 96]), metric=metric, **chosen)
        if hasattr(made, "train"):
            made.train(np.random.default_rng(generator.getrandbits(32)).normal(size=(300, made.dim)))
        return cast(Index, made)

    return new


def late(generator: random.Random) -> Index:
    options: dict[str, Any] = {"centroids": generator.choice([1, 4, 30]), "threads": generator.choice([1, 2])}
    made = MultiVectorIndex(generator.choice([1, 3, 16, 33]), generator.choice([1, 2, 4]), **options)
    return made.train(tokens(generator, made, 60)) if generator.random() < 0.5 else made


KINDS = {
    "flat": Kind(dense(FlatIndex), vectors),
    "hnsw": Kind(dense(HNSWIndex, m=[2, 4, 16], ef_construction=[1, 10, 60], threads=[1, 2]), vectors),
    "graph": Kind(
        dense(GraphIndex, degree=[32, 64], codes=["rabitq", "sq8"], ef_construction=[1, 40], threads=[1, 2]), vectors
    ),
    "ivf": Kind(
        dense(IVFIndex, lists=[1, 3, 20], codes=get_args(Codes), bits=[4, 8], rerank=[False, True], threads=[1, 2]),
        vectors,
        complete=False,
    ),
    "pq": Kind(
        dense(PQIndex, subspaces=[1], bits=[4, 8], rotate=[False, True], threads=[1, 2]), vectors, complete=False
    ),
    "lsh": Kind(dense(LSHIndex, tables=[1, 5], bits=[1, 9, 32]), vectors, complete=False),
    "multivector": Kind(late, tokens, complete=False),
    "bm25": Kind(lambda generator: BM25Index(generator.uniform(0, 3), generator.random()), texts, complete=False),
    "sparse": Kind(lambda generator: SparseIndex(generator.choice([9, 300])), sparse, complete=False),
}


class Fuzzer:
    def __init__(self, folder: Path, only: Sequence[str]) -> None:
        missing = {index.kind for index in INDEXES} - set(KINDS)
        assert not missing, f"not fuzzed: {missing}"
        self.folder, self.only = folder, only
        self.done: Counter[str] = Counter()

    def round(self, seed: int) -> None:
        generator = random.Random(seed)
        name = generator.choice(self.only)
        work = self.life if generator.random() < 0.5 else self.damage
        self.done[f"{name}, {work.__name__}"] += 1
        work(generator, KINDS[name])

    def life(self, generator: random.Random, kind: Kind) -> None:
        index, live = kind.new(generator), set[int]()
        for _ in range(generator.randint(1, 25)):
            match generator.randrange(8):
                case 0 | 1:
                    self.add(generator, kind, index, live)
                case 2:
                    gone = generator.sample(sorted(live), generator.randint(0, len(live)))
                    index.remove(gone)
                    live -= set(gone)
                case 3 | 4:
                    self.search(generator, kind, index, live)
                case 5:
                    path = self.folder / "saved"
                    index.save(path)
                    index = load_index(path, mmap=generator.random() < 0.5)
                case 6:
                    self.bad_input(generator, kind, index, live)
                case 7:
                    asked = kind.items(generator, index, 3)
                    others = [threading.Thread(target=index.search, args=(asked, 5)) for _ in range(2)]
                    for other in others:
                        other.start()
                    self.add(generator, kind, index, live)
                    for other in others:
                        other.join()
            assert len(index) == len(live)
            assert index.memory_bytes() >= 0

    def add(self, generator: random.Random, kind: Kind, index: Index, live: set[int]) -> None:
        rows = kind.items(generator, index, generator.choice([0, 1, 5, 40, 300]))
        free = [one for one in generator.sample(range(10_000), len(rows)) if one not in live]
        index.add(rows[: len(free)], free)
        live.update(free)

    def search(self, generator: random.Random, kind: Kind, index: Index, live: set[int]) -> None:
        k = generator.choice([0, 1, 10, len(live), len(live) + 3])
        allowed = None
        if generator.random() < 0.5:
            allowed = generator.sample(range(10_000), 500) + generator.sample(sorted(live), len(live) // 2)
        rows = kind.items(generator, index, generator.choice([0, 1, 3, 20]))
        distances, ids = index.search(rows, k, filter=allowed)
        assert distances.shape == ids.shape == (len(rows), k)
        admitted = live if allowed is None else live & set(allowed)
        for far, row in zip(distances, ids, strict=True):
            found = [int(one) for one in row if one >= 0]
            assert set(found) <= admitted
            assert len(found) == len(set(found))
            assert not kind.complete or len(found) == min(k, len(admitted))
            assert (row[len(found) :] == -1).all()
            order = far[: len(found)] * (1 if getattr(index, "metric", "") == "l2" else -1)
            assert (np.diff(order) >= 0).all()

    def bad_input(self, generator: random.Random, kind: Kind, index: Index, live: set[int]) -> None:
        rows = kind.items(generator, index, 3)
        tries: list[Callable[[], object]] = [
            lambda: index.add(rows, [1, 1, 2]),
            lambda: index.add(rows, [-1, 1, 2]),
            lambda: index.add(rows, [20_000, 20_001, min(live, default=-1)]),
            lambda: index.add([[float("nan")] * 7] * 3),
            lambda: index.add([None]),
            lambda: index.remove([30_000]),
            lambda: index.remove([*sorted(live)[:1], 30_000]),
            lambda: index.search(rows, -1),
            lambda: index.search([object()], 1),
        ]
        try:
            generator.choice(tries)()
        except SeedbedError:
            return
        raise AssertionError("bad input was taken")

    def damage(self, generator: random.Random, kind: Kind) -> None:
        index, live = kind.new(generator), set[int]()
        for _ in range(generator.randint(0, 3)):
            self.add(generator, kind, index, live)
            gone = generator.sample(sorted(live), len(live) // 4)
            index.remove(gone)
            live -= set(gone)
        path = self.folder / "damaged"
        index.save(path)
        generator.choice([_bytes_damaged, _header_damaged, _content_damaged, _content_damaged])(path, generator)
        with contextlib.suppress(SeedbedError):
            loaded: Any = load_index(path, mmap=generator.random() < 0.5)
            asked = kind.items(generator, loaded, 3)
            loaded.search(asked, 5)
            loaded.search(asked, 20, filter=range(0, 10_000, 3))
            with contextlib.suppress(SeedbedError):
                loaded.add(asked, [20_000, 20_001, 20_002])
            loaded.remove([one for one in loaded.search(asked, 3)[1][:1].ravel().tolist() if one >= 0])
            loaded.search(asked, 5)
            loaded.save(path)


def _bytes_damaged(path: Path, generator: random.Random) -> None:
    path.write_bytes(damaged(path.read_bytes(), generator))


def _header_damaged(path: Path, generator: random.Random) -> None:
    """Another header, under its right checksum, before the same arrays."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    header = damaged(data[20 : 20 + length].rstrip(), generator)[:length]
    if generator.random() < 0.7:
        content = json.loads(data[20 : 20 + length])
        node = content if generator.random() < 0.4 else generator.choice(content["sections"])
        node[generator.choice(list(node))] = _odd(generator)
        header = json.dumps(content).encode()[:length]
    header = header.ljust(length)
    head = struct.pack("<8sIII", MAGIC, VERSION, length, zlib.crc32(header))
    path.write_bytes(head + header + data[20 + length :])


def _content_damaged(path: Path, generator: random.Random) -> None:
    """Arrays and settings that do not belong together, under right checksums."""
    stored = read_sections(path, mmap=False)
    arrays = {name: array.copy() for name, array in stored.arrays.items()}
    settings = dict(stored.settings)
    for _ in range(generator.randint(1, 3)):
        name = generator.choice(list(arrays))
        flat = arrays[name].reshape(-1)
        match generator.randrange(7):
            case 0:
                arrays[name] = flat[: generator.randint(0, len(flat))]
            case 1 if flat.size:
                raw = flat.view(np.uint8)
                for _ in range(generator.randint(1, 8)):
                    raw[generator.randrange(len(raw))] = generator.randrange(256)
            case 2 if flat.size:
                flat[generator.randrange(len(flat))] = generator.choice([0, 1, min(len(flat), 255), 127])
            case 3:
                arrays[name] = np.concatenate([flat, flat[: generator.randint(0, len(flat))]])
            case 4:
                arrays[name] = flat[np.random.default_rng(generator.getrandbits(32)).permutation(len(flat))]
            case 5:
                arrays[name] = flat.view(np.uint8)
            case _ if settings:
                settings[generator.choice(list(settings))] = _odd(generator)
    write_sections(path, stored.kind, settings, arrays)


def _odd(generator: random.Random) -> Any:
    return generator.choice(
        [None, True, -1, 0, 1, 2, 3, 16, 2**31, 2**63, 1e300, "", "l2", "x" * 300, [], {}, [-1], [1, 2]]
    )


if __name__ == "__main__":
    main("benchmarks.fuzz_indexes", "the indexes", Fuzzer, list(KINDS))
