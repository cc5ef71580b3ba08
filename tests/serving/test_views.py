"""What the page is told: the numbers behind it, against independent computations, without a browser."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.core.errors import ConfigError, DataError
from seedbed.models import CacheConfig
from seedbed.run import Run
from seedbed.serving.views.cutting import SENTENCES, Cutting
from seedbed.serving.views.findings import finding, findings
from seedbed.serving.views.heads import Heads, cache_of
from seedbed.serving.views.materials import Materials
from seedbed.serving.views.overview import overview
from seedbed.serving.views.searching import search
from seedbed.serving.views.space import Space
from seedbed.tokenizers import Tokenizer

_QUERY = "read a csv file"


@pytest.fixture(scope="module")
def materials(tiny_run: Run) -> Materials:
    voices = {stage: tiny_run.voice(stage) for stage in ("base", "policy")}
    searcher = tiny_run.searcher()
    return Materials(tiny_run, voices, searcher, searcher.encoder)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    return Materials(Run(tmp_path_factory.mktemp("empty")), {}, None, None)


@pytest.fixture(scope="module")
def cutting(materials: Materials) -> Cutting:
    found = Cutting(materials)
    while found.learning:
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def space(materials: Materials) -> Space:
    return Space(materials)


def test_the_overview_names_what_is_there_and_takes_examples_from_held_out_text(materials: Materials) -> None:
    from seedbed.curation import Corpus

    found = overview(materials)
    assert [model["id"] for model in found["models"]] == ["base", "policy"]
    assert [model["chats"] for model in found["models"]] == [False, True]
    assert found["modes"] == ["hybrid", "bm25", "dense"]
    corpus = Corpus.open(materials.run.path / "corpus")
    held_out = " ".join(" ".join(text.split()) for text in corpus.texts("validation"))
    assert found["openings"]
    assert all(one in held_out for one in found["openings"])
    assert found["questions"]
    assert found["queries"]


def test_an_unfinished_run_has_an_overview_and_no_examples(empty: Materials) -> None:
    found = overview(empty)
    assert (found["models"], found["modes"], found["questions"], found["queries"]) == ([], [], [], [])
    with pytest.raises(ConfigError, match="no search index"):
        search(empty, _QUERY, ["bm25"], 5)
    with pytest.raises(ConfigError, match="no dense index"):
        _ = Space(empty).points
    assert Heads(empty).models == []


def test_search_tells_each_mode_as_the_run_does(materials: Materials) -> None:
    found = search(materials, _QUERY, ["bm25", "dense", "hybrid"], 4)
    for one in found:
        hits = materials.run.search(_QUERY, 4, one["mode"])
        assert [hit["id"] for hit in one["hits"]] == [hit.id for hit in hits]
        assert one["milliseconds"] > 0
    words = found[0]["hits"][0]
    assert {words["text"][mark["start"] : mark["end"]].lower() for mark in words["marks"]} & {"csv", "read", "file"}
    assert all(left["end"] <= right["start"] for left, right in zip(words["marks"], words["marks"][1:], strict=False))
    with pytest.raises(ConfigError, match="cannot be searched by 'sparse'"):
        search(materials, _QUERY, ["sparse"], 4)


def test_a_filter_admits_only_what_it_says(materials: Materials) -> None:
    source = materials.run.search(_QUERY, 1, "bm25")[0].source
    (found,) = search(materials, _QUERY, ["bm25"], 5, f"source = '{source}'")
    assert {hit["source"] for hit in found["hits"]} == {source}
    with pytest.raises(ConfigError):
        search(materials, _QUERY, ["bm25"], 5, "source ~")


@pytest.mark.parametrize("text", ["The csv module reads files.", "naïve 日本語 🌱", "", "  two  spaces\n"])
def test_pieces_and_what_lies_between_are_the_text(cutting: Cutting, text: str) -> None:
    found = cutting.cut(text)
    rows = {row["key"]: row for row in found["tokenizers"]}
    assert list(rows) == ["own", "wordpiece", "unigram", "characters", "bytes"]
    own = rows["own"]
    assert "".join(one["before"] + one["text"] for one in own["pieces"] if not one["part"]) == text
    assert bytes.fromhex("".join(one["bytes"] for one in own["pieces"])) == text.encode()
    assert rows["bytes"]["count"] == found["bytes"] == len(text.encode())
    assert rows["characters"]["count"] == len(text)
    if text.split():
        assert own["fertility"] == len(own["pieces"]) / len(text.split())


def test_counts_are_those_of_the_training_tokens_and_glitches_have_none(cutting: Cutting, materials: Materials) -> None:
    from seedbed.datasets.shards import TokenShards

    tokens = TokenShards.open(materials.run.path / "tokens" / "train").tokens
    for piece in cutting.cut("return the csv")["tokenizers"][0]["pieces"]:
        assert piece["count"] == int((tokens == piece["id"]).sum())
    for one in cutting.glitches:
        assert one["id"] not in tokens


def test_a_language_that_a_vocabulary_cannot_write_has_no_cost(cutting: Cutting, materials: Materials) -> None:
    found = cutting.languages()
    own = Tokenizer.load(materials.run.path / "tokenizer")
    assert found["tokens"]["This run"] == [len(own.encode(text)) for text in SENTENCES.values()]
    chinese = list(SENTENCES).index("Chinese")
    assert found["tokens"]["WordPiece"][chinese] is None
    assert found["tokens"]["Bytes"][chinese] == len(SENTENCES["Chinese"].encode())


def _weights(found: dict[str, Any]) -> np.ndarray:
    size = len(found["tokens"])
    flat = np.frombuffer(base64.b64decode(found["weights"]), np.uint8)
    return flat.reshape(found["layers"], found["heads"], size, size) / 255


def test_heads_of_a_decoder_are_causal_and_those_of_the_encoder_are_not(materials: Materials) -> None:
    heads = Heads(materials)
    assert [(one["id"], one["kind"]) for one in heads.models] == [
        ("base", "causal"), ("policy", "causal"), ("encoder", "bidirectional"),
    ]  # fmt: skip
    decoder, encoder = (heads.look(name, "Reads a naïve csv file") for name in ("policy", "encoder"))
    assert "".join(one for one in decoder["tokens"] if one != "·") == "Reads a naïve csv file"
    assert np.triu(_weights(decoder), 1).max() == 0
    assert np.triu(_weights(encoder), 1).max() > 0
    for found in (decoder, encoder):
        np.testing.assert_allclose(_weights(found).sum(-1), 1, atol=0.06)
    assert (decoder["cache"] is None, encoder["cache"] is None) == (False, True)
    with pytest.raises(ConfigError, match="no model 'reward'"):
        heads.look("reward", "x")
    with pytest.raises(DataError):
        heads.look("policy", "")


def test_a_cache_takes_what_the_formula_says(materials: Materials) -> None:
    config = materials.voices["policy"].engine.model.config
    found = cache_of(config)
    per = found["layers"] * sum(part["heads"] * part["width"] for part in found["parts"])
    assert found["bytes_per_token"]["float32"] == 4 * per
    assert found["bytes_per_token"]["bfloat16"] == 2 * per
    assert CacheConfig().bytes(config, 1, 50) == 50 * 4 * per
    assert [one["name"] for one in found["variants"] if one["this"]] == ["multi-query"]  # one of two heads


def _points(found: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(found["points"]), "<i2").reshape(-1, 2).astype(np.float64)


def test_the_plane_is_that_of_the_two_principal_components(space: Space, materials: Materials) -> None:
    found = space.points
    assert materials.searcher is not None
    assert materials.searcher.dense is not None
    rows = materials.searcher.dense.vectors(np.array(found["numbers"])).astype(np.float64)
    _, strengths, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert found["variance"] == pytest.approx((strengths[:2] ** 2).sum() / (strengths**2).sum())
    expected = (rows - rows.mean(0)) @ axes[:2].T
    for axis in range(2):
        assert abs(np.corrcoef(expected[:, axis], _points(found)[:, axis])[0, 1]) > 0.999
    assert len(found["titles"]) == len(found["codes"]) == found["count"] == len(rows)
    assert max(found["codes"]) < len(found["groups"])


def test_neighbours_are_the_nearest_of_all_dimensions(space: Space, materials: Materials) -> None:
    assert materials.searcher is not None
    assert materials.searcher.dense is not None
    index = materials.searcher.dense
    numbers = np.sort(index.ids)
    vectors = index.vectors(numbers)
    found = space.neighbours(int(numbers[3]), 5)
    scores = vectors @ vectors[3]
    scores[3] = -np.inf
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], np.sort(scores)[::-1][:5], rtol=1e-4)
    with pytest.raises(ConfigError, match="no passage"):
        space.neighbours(10**9, 5)


def test_a_walk_ends_at_what_the_search_finds(space: Space, materials: Materials) -> None:
    found = space.walk(_QUERY, 5)
    hits = materials.run.search(_QUERY, 5, "dense")
    assert [hit["title"] for hit in found["hits"]] == [hit.title for hit in hits]
    steps = found["steps"]
    assert {hit["number"] for hit in found["hits"]} <= set(steps["numbers"])
    assert found["looked"] == len(set(steps["numbers"])) <= found["count"]
    assert steps["origins"][0] == -1
    assert len(steps["at"]) == len(steps["numbers"]) == len(steps["levels"])


def test_findings_list_every_exhibit_and_tell_those_that_ran(tiny_run: Run, tmp_path: Any) -> None:
    from seedbed.lab.runner import run_exhibit

    rows = findings(tmp_path)
    assert rows
    assert {row["verdict"] for row in rows} == {None}
    assert all(row["question"].endswith("?") and row["group"] for row in rows)
    torch.manual_seed(0)
    run_exhibit("scaled-attention", tiny_run.path, tmp_path / "lab", {}, lambda _: None)
    told = {row["name"]: row for row in findings(tmp_path)}["scaled-attention"]
    assert told["verdict"] in ("holds", "holds in part", "does not hold")
    found = finding(tmp_path, "scaled-attention")
    assert len(found["columns"]) == len(found["rows"][0]) == len(found["quantities"])
    assert found["charts"]
    for name in ("../corpus", "tokenizer-kinds", "no-such"):
        with pytest.raises(ConfigError):
            finding(tmp_path, name)
