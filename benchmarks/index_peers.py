"""The other libraries of the benchmark of indexes, with what their own documentation recommends for such sets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.index_contenders import WIDTHS, Contender, Floats

Found = npt.NDArray[np.integer]


class Hnswlib(Contender):
    name, package = "hnswlib", "hnswlib"
    variants = ({"M": 16}, {"M": 24})

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), ef_construction=200, random_seed=0, **options)
        index.add_items(vectors, num_threads=threads)
        return index

    def save(self, index: Any, path: Path) -> None:
        index.save_index(str(path))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=dim)
        index.load_index(str(path))
        return index

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        index.set_ef(knob)
        return np.asarray(index.knn_query(queries, k, num_threads=threads)[0].astype(np.int64))


class Faiss(Contender):
    """An index of faiss's factory.

    Args:
        factory: description with {options} in it; {half} is half the dimensions.
        knob: name of the option of faiss.ParameterSpace that is turned.
    """

    package = "faiss-cpu"

    def __init__(
        self, name: str, factory: str, variants: Any = ({},), knob: str | None = "efSearch", knobs: Any = WIDTHS
    ) -> None:
        self.name, self._factory, self._knob = name, factory, knob
        self.variants, self.knobs = variants, knobs

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        import faiss

        faiss.omp_set_num_threads(threads)
        dim = vectors.shape[1]
        factory = self._factory.format(half=dim // 2, **options)
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        if hasattr(index, "hnsw"):
            index.hnsw.efConstruction = 200
        index.train(vectors)
        index.add(vectors)
        return index

    def save(self, index: Any, path: Path) -> None:
        import faiss

        faiss.write_index(index, str(path))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        import faiss

        faiss.omp_set_num_threads(threads)
        return faiss.read_index(str(path))

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        import faiss

        if self._knob:
            values = knob if isinstance(knob, tuple) else (knob,)
            for name, value in zip(self._knob.split(","), values, strict=True):
                faiss.ParameterSpace().set_index_parameter(index, name, value)
        return np.asarray(index.search(queries, k)[1])


class Usearch(Contender):
    package = "usearch"
    variants = ({"connectivity": 16}, {"connectivity": 24})

    def __init__(self, dtype: str) -> None:
        self.name, self._dtype = f"usearch {dtype}", dtype

    def _new(self, dim: int, connectivity: int) -> Any:
        from usearch.index import Index

        # Its i8 is made for cosine; the others are as fast with inner products.
        metric = "cos" if self._dtype == "i8" else "ip"
        return Index(ndim=dim, metric=metric, dtype=self._dtype, connectivity=connectivity, expansion_add=200)

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        index = self._new(vectors.shape[1], **options)
        index.add(np.arange(len(vectors)), vectors, threads=threads)
        return index

    def save(self, index: Any, path: Path) -> None:
        index.save(str(path))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        index = self._new(dim, **options)
        index.load(str(path))
        return index

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        index.expansion_search = knob
        return np.asarray(index.search(queries, k, threads=threads).keys.astype(np.int64))


class Svs(Contender):
    """Vamana of scalable-vs: built in float32, searched on float32, LVQ or LeanVec codes of the same graph."""

    package, graph = "scalable-vs", "svs"
    variants = ({"degree": 32}, {"degree": 64})

    def __init__(self, codes: str) -> None:
        self.name, self._codes = f"svs {codes}", codes

    def missing(self) -> str | None:
        if self._codes != "float32" and "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
            return "scalable-vs ends the process when it meets its own codes on another maker's processor"
        return super().missing()

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        import svs

        parameters = svs.VamanaBuildParameters(graph_max_degree=options["degree"], window_size=200, alpha=0.95)
        return svs.Vamana.build(parameters, vectors, svs.DistanceType.MIP, threads)

    def save(self, index: Any, path: Path) -> None:
        path.mkdir()
        index.save(*(str(path / part) for part in ("config", "graph", "data")))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        import svs

        data = svs.VectorDataLoader(str(path / "data"), svs.DataType.float32, dim)
        loader = {
            "float32": lambda: data,
            "LVQ8": lambda: svs.LVQLoader(data, 8, 0),
            "LVQ4x8": lambda: svs.LVQLoader(data, 4, 8),
            "LeanVec": lambda: svs.LeanVecLoader(data, dim // 2, svs.LeanVecKind.lvq8, svs.LeanVecKind.lvq8),
        }[self._codes]()
        graph = svs.GraphLoader(str(path / "graph"))
        return svs.Vamana(str(path / "config"), graph, loader, svs.DistanceType.MIP, num_threads=threads)

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        index.search_window_size = knob
        return np.asarray(index.search(queries, k)[0].astype(np.int64))


class Symphony(Contender):
    """SymphonyQG of rabitqlib: raw vectors, and neighbours in 1-bit codes."""

    name, package = "rabitqlib SymphonyQG", "rabitqlib"
    variants = ({"max_degree": 32}, {"max_degree": 64})

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        import rabitqlib

        index = rabitqlib.SymqgIndex(vectors.shape[1], metric="l2", **options)
        index.build(vectors, 200, threads)
        return index

    def save(self, index: Any, path: Path) -> None:
        index.save(str(path))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        import rabitqlib

        return rabitqlib.SymqgIndex.load(str(path))

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        return np.asarray(index.search_batch(queries, k, knob, threads)[0]).astype(np.int64)


class PyNNDescent(Contender):
    name, package = "pynndescent", "pynndescent"
    variants = ({"n_neighbors": 30},)
    knobs = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.36)  # its epsilon

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        import pynndescent

        index = pynndescent.NNDescent(vectors, metric="dot", n_jobs=threads, random_state=0, **options)
        index.prepare()
        return index

    def save(self, index: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(index, protocol=5))

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        index = pickle.loads(path.read_bytes())
        index.prepare()
        return index

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        return np.asarray(index.query(queries, k, epsilon=knob)[0])


class NumPy(Contender):
    """What one writes without a library: one matrix product and a partition."""

    name, package, knobs = "numpy matmul", "numpy", (None,)

    def build(self, vectors: Floats, threads: int, **options: Any) -> Any:
        return vectors.copy()

    def save(self, index: Any, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, index)

    def load(self, path: Path, dim: int, threads: int, **options: Any) -> Any:
        return np.load(path)

    def search(self, index: Any, queries: Floats, k: int, knob: Any, threads: int) -> Found:
        scores = queries @ index.T
        places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1)
        return np.take_along_axis(places, order, axis=1)


_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# Their codes find candidates, and the vectors rank the best 100 of them.
_REFINED: Any = {"knob": "nprobe,k_factor_rf", "knobs": [(probes, 10) for probes in _PROBES]}
_LISTS = ({"lists": 316}, {"lists": 1024})

PEERS: tuple[Contender, ...] = (
    NumPy(),
    Faiss("faiss flat", "Flat", knob=None, knobs=(None,)),
    Hnswlib(),
    Faiss("faiss HNSW", "HNSW{M},Flat", ({"M": 16}, {"M": 24})),
    Faiss("faiss HNSW SQ8", "HNSW{M},SQ8", ({"M": 16}, {"M": 24})),
    *(Usearch(dtype) for dtype in ("f32", "bf16", "i8")),
    *(Svs(codes) for codes in ("float32", "LVQ8", "LVQ4x8", "LeanVec")),
    Symphony(),
    Faiss("faiss IVF-PQ fast scan", "IVF{lists},PQ{half}x4fsr,RFlat", _LISTS, **_REFINED),
    Faiss("faiss IVF-RaBitQ", "IVF{lists},RaBitQfs,RFlat", _LISTS, **_REFINED),
    PyNNDescent(),
)
