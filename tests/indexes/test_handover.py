"""Hand-over to Qdrant: its local mode as an exact oracle, its engine in this process as the real one."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from seedbed.core.errors import ConfigError, DataError, ResourceError
from seedbed.indexes import BM25Index, FlatIndex, GraphIndex, HNSWIndex, MultiVectorIndex, handover
from seedbed.indexes.base import Floats, VectorIndex
from seedbed.indexes.handover import (
    Collection,
    Layout,
    Point,
    Space,
    Sparse,
    agreement,
    batches,
    checked_point,
    hand_over,
)
from seedbed.indexes.points import WITHOUT_TERMS, layout_of, points_of
from seedbed.indexes.qdrant import KEY_VARIABLE, QdrantCollection
from seedbed.indexes.qdrant_edge import EdgeCollection

qdrant_client = pytest.importorskip("qdrant_client")

DIM, COUNT = 24, 100
_RANDOM = np.random.default_rng(4)
VECTORS = _RANDOM.normal(size=(COUNT, DIM)).astype(np.float32) * 3
QUERIES = _RANDOM.normal(size=(20, DIM)).astype(np.float32)
IDS = np.arange(COUNT) * 7 + (1 << 40)
_WORDS = [f"word{i}" for i in range(40)]
TEXTS = [" ".join(_RANDOM.choice(_WORDS[: 3 + i % 37], size=i % 30)) for i in range(COUNT)]  # every 30th is empty


class Late:
    """Multi-vectors of the test; the first item has none."""

    dim = DIM
    ids = IDS
    rows = tuple(_RANDOM.normal(size=(i % 5, DIM)).astype(np.float32) for i in range(COUNT))

    def vectors(self, ids: npt.ArrayLike) -> list[Floats]:
        return [self.rows[place] for place in np.searchsorted(self.ids, np.asarray(ids))]


def _dense(metric: str) -> FlatIndex:
    index = FlatIndex(DIM, metric)
    index.add(VECTORS, IDS)
    return index


def _words(texts: list[str] = TEXTS) -> BM25Index:
    index = BM25Index()
    index.add([*texts, "word1 unrelated"], [*IDS[: len(texts)], 5])
    index.remove([5])
    return index


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_MOST_POINTS", 32)


@pytest.fixture(params=["local", "edge"])
def open_collection(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Collection]:
    def open_one() -> Collection:
        if request.param == "local":
            return QdrantCollection.in_folder(tmp_path / "qdrant", "items")
        pytest.importorskip("qdrant_edge")
        return EdgeCollection(tmp_path / "edge")

    return open_one


@pytest.fixture
def collection(open_collection: Callable[[], Collection]) -> Iterator[Collection]:
    one = open_collection()
    yield one
    one.close()


def test_answers_there_are_ours(collection: Collection) -> None:
    metrics = ("cosine", "dot", "l2")
    dense, words, late = {metric: _dense(metric) for metric in metrics}, _words(), Late()
    layout = layout_of(dense, {"bm25": words}, {"late": late}, many_metric="dot")
    points = points_of(
        dense, {"bm25": words}, {"late": late}, lambda id: {"n": id, "text": TEXTS[(id - int(IDS[0])) // 7]}
    )
    assert hand_over(points, layout, collection) == COUNT

    for metric in metrics:
        exact = dense[metric].search(QUERIES, 10)
        found = [collection.search(metric, query, 10, exact=True) for query in QUERIES]
        assert [[id for id, _ in row] for row in found] == exact[1].tolist()
        scores = np.array([[score for _, score in row] for row in found])
        np.testing.assert_allclose(scores**2 if metric == "l2" else scores, exact[0], rtol=1e-5, atol=1e-5)
        assert agreement(found, exact, dense[metric].metric).recall == 1

    questions = ["word1 word2 word1", "word30 word3 word17 nowhere", "word9"]
    exact = words.search(questions, 10)
    asked = [Sparse(*pair) for pair in zip(*words.sparse_queries(questions), strict=True)]
    found = [collection.search("bm25", query, 10) for query in asked]
    for row, scores in zip(found, exact[0], strict=True):
        np.testing.assert_allclose([score for _, score in row], scores[np.isfinite(scores)], rtol=1e-5)
    told = agreement(found, exact)
    assert told.recall == 1
    assert told.difference < 1e-5

    query = QUERIES[:3]
    maxsim = {
        int(id): float((query @ rows.T).max(axis=1).sum()) for id, rows in zip(IDS, late.rows, strict=True) if len(rows)
    }
    best = sorted(maxsim, key=lambda id: -maxsim[id])[:10]
    found_late = collection.search("late", query, 10, exact=True)
    assert [id for id, _ in found_late] == best
    np.testing.assert_allclose([score for _, score in found_late], [maxsim[id] for id in best], rtol=1e-5)


def test_codes_of_late_interaction_score_there_as_here(collection: Collection) -> None:
    index = MultiVectorIndex(DIM, bits=2, centroids=8, threads=1)
    index.add(list(Late.rows), IDS)
    index.remove(IDS[[9]])
    hand_over(points_of({}, many={"late": index}), layout_of({}, many={"late": index}), collection)
    exact = index.search([QUERIES[:4], QUERIES[4:6]], 10, probes=8, candidates=COUNT)
    found = [collection.search("late", query, 10, exact=True) for query in (QUERIES[:4], QUERIES[4:6])]
    assert [[id for id, _ in row] for row in found] == exact[1].tolist()
    np.testing.assert_allclose([[score for _, score in row] for row in found], exact[0], rtol=1e-5)


def test_what_comes_back_is_what_went(open_collection: Callable[[], Collection]) -> None:
    dense, words, late = {metric: _dense(metric) for metric in ("cosine", "dot", "l2")}, _words(), Late()
    sent = list(
        points_of(dense, {"bm25": words}, {"late": late}, lambda id: {"title": f"naïve {id}", "tags": [1, None]})
    )
    layout = layout_of(dense, {"bm25": words}, {"late": late}, {"made": "for a test"}, many_metric="dot")
    first = open_collection()
    hand_over(sent, layout, first)
    first.close()
    again = open_collection()  # from the disk
    assert again.layout() == layout
    back = list(again.points())
    assert [point.id for point in back] == IDS.tolist()
    for one, other in zip(sent, back, strict=True):
        assert one.payload == other.payload
        assert one.vectors.keys() == other.vectors.keys()
        for name, vector in one.vectors.items():
            if name == "cosine" and isinstance(again, QdrantCollection):  # divided by the length once more
                np.testing.assert_allclose(vector, other.vectors[name], rtol=3e-7)
            else:
                np.testing.assert_array_equal(vector, other.vectors[name])
        for a, b in zip(one.sparse["bm25"], other.sparse["bm25"], strict=True):
            np.testing.assert_array_equal(a, b)
    again.close()


def test_an_interrupted_export_goes_on(open_collection: Callable[[], Collection]) -> None:
    index = _dense("l2")
    points, layout = list(points_of({"x": index})), layout_of({"x": index}, about={"source": "a"})

    def interrupted() -> Iterator[Point]:
        yield from points[:32]
        yield points[32]
        raise KeyboardInterrupt

    first = open_collection()
    with pytest.raises(KeyboardInterrupt):
        hand_over(interrupted(), layout, first)
    first.close()
    second = open_collection()
    assert second.count() == 32
    assert hand_over(points, layout, second) == COUNT - 32
    assert hand_over(points, layout, second) == 0

    for other, why in (
        (layout_of({"x": _dense("dot")}), "'x' has metric l2, not dot"),
        (layout_of({"x": FlatIndex(5)}), f"'x' has dim {DIM}, not 5"),
        (layout_of({"y": index}), "with vectors 'x'"),
        (layout.replace(about={"source": "b"}), "made from another source"),
    ):
        with pytest.raises(ConfigError, match=f"there already, .*{why}.*--replace"):
            hand_over(points, other, second)
    assert second.count() == COUNT
    with pytest.raises(DataError, match="holds 100 points, 99 were"):
        hand_over(points[1:], layout, second)
    assert hand_over(points[1:], layout.replace(about={}), second, replace=True) == COUNT - 1
    assert second.count() == COUNT - 1
    second.close()


def test_the_real_graph_reaches_its_recall(tmp_path: Path) -> None:
    edge = pytest.importorskip("qdrant_edge")
    rows = np.random.default_rng(1).normal(size=(2000, 16)).astype(np.float32)
    index = HNSWIndex(16, m=8, ef_construction=64, threads=1)
    index.add(rows)
    collection = EdgeCollection(tmp_path / "edge")
    hand_over(points_of({"x": index}), layout_of({"x": index}), collection)
    # Qdrant builds no graph for so little by itself; thresholds belong to a deployment and are no part of a layout.
    collection.close()
    graph = edge.HnswIndexConfig(m=8, ef_construct=64, full_scan_threshold=10)
    small = edge.EdgeConfig(
        vectors={"x": edge.EdgeVectorParams(16, edge.Distance.Cosine, hnsw_config=graph)},
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=10, default_segment_number=1),
    )
    shard = edge.EdgeShard.load(tmp_path / "edge", small)
    shard.optimize()
    assert shard.info().indexed_vectors_count > 0
    shard.close()
    exact = FlatIndex(16)
    exact.add(rows)
    found = [collection.search("x", query, 10) for query in QUERIES[:, :16]]
    assert agreement(found, exact.search(QUERIES[:, :16], 10), "cosine").recall > 0.9
    collection.close()


@pytest.mark.parametrize("kind", [FlatIndex, HNSWIndex, GraphIndex])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_indexes_give_their_vectors_back(kind: type[VectorIndex], metric: str) -> None:
    index = kind(DIM, metric)  # type: ignore[call-arg]
    index.add(VECTORS[:90], IDS[:90])
    index.remove(IDS[[3, 50]])
    index.add(VECTORS[95:96], IDS[3:4])
    assert isinstance(index, VectorIndex)
    given = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True) if metric == "cosine" else VECTORS
    tolerance = 1e-4 if kind is GraphIndex else 1e-7
    np.testing.assert_allclose(index.vectors(IDS[[3, 7]]), given[[95, 7]], rtol=1e-6, atol=tolerance)
    with pytest.raises(DataError, match=f"id {IDS[50]} is not in the index"):
        index.vectors(IDS[[1, 50]])
    if kind is not GraphIndex:  # it keeps sixteen bits of a number
        again = kind(DIM, metric)  # type: ignore[call-arg]
        again.add(index.vectors(IDS[:50]), IDS[:50])
        np.testing.assert_array_equal(again.vectors(IDS[:50]), index.vectors(IDS[:50]))


def test_empty_indexes_and_what_cannot_be_handed_over() -> None:
    assert list(points_of({"x": FlatIndex(4), "y": HNSWIndex(4)}, {"bm25": BM25Index()})) == []
    with pytest.raises(DataError, match="not in the index"):
        FlatIndex(4).vectors([1])
    with pytest.raises(ConfigError, match="BM25Index, which keeps no vectors"):
        layout_of({"x": BM25Index()})
    with pytest.raises(ConfigError, match="variant atire"):
        layout_of({}, {"x": BM25Index(variant="atire")})
    terms = dict(zip(IDS.tolist(), TEXTS, strict=True))
    for point in points_of({}, {"bm25": _words()}):
        assert (point.sparse["bm25"].indices.tolist() == [WITHOUT_TERMS]) == (not terms[point.id])


def test_batches_stay_small() -> None:
    points = [Point(i, {"x": np.zeros((i % 700, 300), dtype=np.float32)}, payload={"t": "x" * i}) for i in range(700)]
    cut = list(batches(points))
    assert [point for batch in cut for point in batch] == points
    for batch in cut:
        assert len(batch) <= 32
        assert len(batch) == 1 or sum(point.vectors["x"].size for point in batch) <= 200_000


@pytest.mark.parametrize(
    ("id", "vectors", "why"),
    [
        ("00000000-0000-0000-0000-000000000000", {}, "its id is no whole number"),
        (1, {"x": [1.0]}, "not of 2 dimensions"),
        (1, {"x": [1.0, float("nan")]}, "not finite"),
        (1, {"x": [[1.0, 2.0]]}, "not of 2 dimensions"),
        (1, {"y": [1.0, 2.0]}, "vectors 'y'"),
        (1, {"s": [1.0]}, "no attribute"),
        (1, {"s": Sparse([3, 3], [1.0, 1.0])}, "index twice"),  # type: ignore[arg-type]
        (1, {"s": Sparse([-3, 3], [1.0, 1.0])}, "out of range"),  # type: ignore[arg-type]
        (1, {"s": Sparse([3], [1.0, 1.0])}, "point 1 cannot be used"),  # type: ignore[arg-type]
    ],
)
def test_points_from_elsewhere_are_checked(id: object, vectors: object, why: str) -> None:
    layout = Layout(spaces={"x": Space(dim=2, metric="dot")}, sparse=("s",))
    with pytest.raises(DataError, match=why):
        checked_point(layout, id, vectors, {}, "somewhere")


def test_collections_of_others_are_left_alone(tmp_path: Path) -> None:
    index = _dense("l2")
    client = qdrant_client.QdrantClient(":memory:")
    params = qdrant_client.models.VectorParams(size=DIM, distance=qdrant_client.models.Distance.EUCLID)
    client.create_collection("theirs", vectors_config={"x": params})
    with pytest.raises(ConfigError, match="was not written by seedbed"):
        hand_over(points_of({"x": index}), layout_of({"x": index}), QdrantCollection(client, "theirs"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="no collection of ours"):
        hand_over(points_of({"x": index}), layout_of({"x": index}), EdgeCollection(tmp_path / "folder"), replace=True)
    assert (tmp_path / "folder" / "letter.txt").exists()


class _Refusing(http.server.BaseHTTPRequestHandler):
    keys: list[str | None] = []  # noqa: RUF012 (what the server was sent)

    def do_GET(self) -> None:
        self.keys.append(self.headers.get("api-key"))
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"Invalid API key")

    def log_message(self, *arguments: object) -> None:
        pass


def test_servers_that_refuse_or_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(KEY_VARIABLE, "secret-key")
        with pytest.warns(UserWarning, match="insecure"):
            collection = QdrantCollection.on_server(url, "x")
        with pytest.raises(ConfigError, match=f"refuses the key.*{KEY_VARIABLE}") as refused:
            collection.exists()
        assert _Refusing.keys == ["secret-key"]
        assert "secret" not in str(refused.value)
        server.shutdown()
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(ResourceError, match=r"no Qdrant answers.*--path"):
        QdrantCollection.on_server(url, "x").exists()
    for address in ("localhost:6333", "ftp://x", "http://", "http://user:password@host:6333", "http://host:port"):
        with pytest.raises(ConfigError, match="HOST:PORT") as refused:
            QdrantCollection.on_server(address, "x")
        assert "password@" not in str(refused.value)
