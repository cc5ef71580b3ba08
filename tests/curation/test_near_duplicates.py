"""Near-duplicates against true Jaccard similarity; one keeper; no cluster astride two splits; repeated substrings."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed import _native
from seedbed.core.config import build
from seedbed.core.errors import ConfigError
from seedbed.curation import SPLITS, curate
from seedbed.curation.config import CurationConfig
from seedbed.curation.near_duplicates import PARAMETERS, Signatures, find_clusters
from seedbed.curation.normalize import normalize

_VERIFIED = PARAMETERS["verified"]


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))} if words else set()


def _jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("alpha Beta GAMMA delta. é É 12 a".split()), max_size=14), min_size=2, max_size=6)
)
def test_similarity_is_that_of_the_sets_of_five_words(documents: list[list[str]]) -> None:
    texts = [" ".join(words) for words in documents]
    _, shingles, offsets = _native.minhash(texts, 5, 16)
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(len(texts))], np.int64)
    expected = [_jaccard(_shingles(texts[i]), _shingles(texts[j])) for i, j in pairs]
    assert _native.shingle_similarities(shingles, offsets, pairs).tolist() == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(st.text("aB9é_- —", max_size=300))
def test_a_word_is_the_same_wherever_it_stands(text: str) -> None:
    words = re.findall(r"[^\W_]+", text.lower())
    assert _native.word_hashes([text])[0].tolist() == _native.word_hashes(words)[0].tolist()


def test_minima_are_equal_at_every_level_and_for_every_number_of_threads() -> None:
    generator = random.Random(0)
    texts = [" ".join(str(generator.randrange(500)) for _ in range(n)) for n in (0, 1, 4, 5, 6, 100, 1000)] * 40
    reference = None
    before = _native.simd_level()
    try:
        for level in ("scalar", "avx2", "avx512"):
            try:
                _native.set_simd_level(level)
            except ValueError:
                continue
            for permutations in (1, 16, 112, 130):
                one, two = (_native.minhash(texts, 5, permutations, 7, threads) for threads in (1, 2))
                assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
                if permutations == 130:
                    assert reference is None or np.array_equal(reference, one[0])
                    reference = one[0]
    finally:
        _native.set_simd_level(before)
    minima, _, offsets = _native.minhash(texts, 5, 112)
    assert (minima[0] == 2**32 - 1).all()  # nothing to take a minimum of
    assert np.diff(offsets)[:7].tolist() == [0, 1, 1, 1, 2, 96, 996]
    assert len(np.unique(minima[1])) == 112  # one shingle under as many permutations


def test_minima_estimate_the_similarity() -> None:
    generator = random.Random(1)
    base = [str(generator.randrange(10_000)) for _ in range(600)]
    texts = [" ".join(base)]
    for edits in (2, 8, 20, 50):
        words = list(base)
        for place in generator.sample(range(600), edits):
            words[place] = "edited"
        texts.append(" ".join(words))
    minima, shingles, offsets = _native.minhash(texts, 5, 4096)
    pairs = np.array([(0, i) for i in range(1, 5)], np.int64)
    estimated = (minima[:1] == minima[1:]).mean(axis=1)
    assert estimated.tolist() == pytest.approx(
        _native.shingle_similarities(shingles, offsets, pairs).tolist(), abs=0.03
    )


def _real_versions(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        texts = [normalize(archive.read(name).decode("utf-8", "replace")) for name in sorted(archive.namelist())]
    return [text for text in texts if text]


def test_recall_and_precision_on_real_versions(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    texts = _real_versions(shared_data("dedup/docs_in_five_versions.zip"))[::2]
    signatures = Signatures.write(texts, _VERIFIED, tmp_path)
    clusters = find_clusters(signatures, [len(text) for text in texts], _VERIFIED)
    upper = np.stack(np.triu_indices(len(texts), 1), axis=1)
    truth = signatures.similarity(upper)
    together = clusters.first[upper[:, 0]] == clusters.first[upper[:, 1]]
    similar = truth >= _VERIFIED.similarity
    assert similar.sum() > 100
    assert together[similar].mean() >= 0.99
    # Precision: what is together is linked by pairs that are truly similar.
    roots = np.arange(len(texts))
    for i, j in upper[similar]:
        roots[roots == max(roots[i], roots[j])] = min(roots[i], roots[j])
    assert (roots[upper[together, 0]] == roots[upper[together, 1]]).all()
    again = find_clusters(signatures, [len(text) for text in texts], _VERIFIED, threads=2)
    assert (again.first == clusters.first).all()
    for number, keeper in enumerate(clusters.keeper.tolist()):
        members = np.flatnonzero(clusters.first == clusters.first[number])
        assert keeper == max(members, key=lambda member: (len(texts[member]), -member))


def _corpus(tmp_path: Path) -> Path:
    """Sixty documents of their own, and twenty that differ from one of them in a word."""
    generator = random.Random(2)
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(60):
        words = [f"word{generator.randrange(3000)}" for _ in range(80)]
        (folder / f"{n:02d}.txt").write_text(" ".join(words))
        if n < 20:
            (folder / f"{n:02d}-again.txt").write_text(" ".join([*words[:-1], "another", "end"]))
    return folder


def test_of_a_cluster_one_document_stays_or_all_in_one_split(tmp_path: Path) -> None:
    docs = _corpus(tmp_path)
    report = curate(docs, tmp_path / "dropped", near_duplicates={"parameters": "verified"})
    rejected = pq.read_table(tmp_path / "dropped/rejected").to_pylist()
    # The longer one of each pair is the keeper.
    assert sorted(row["id"] for row in rejected) == [f"{n:02d}.txt" for n in range(20)]
    assert {row["rule"] for row in rejected} == {"near_duplicate"}
    assert all(0.8 <= row["value"] < 1 for row in rejected)
    assert rejected[0]["detail"] == "nearly the same text as 00-again.txt"
    assert report.kept == 60
    found = report.metrics["near_duplicates"]
    assert (found["clusters"], found["documents"], found["largest"]) == (20, 40, 2)
    assert [row["step"] for row in report.metrics["funnel"]] == ["came in", "near-duplicates"]
    grouped = curate(
        docs, tmp_path / "grouped", near_duplicates={"parameters": "fineweb", "action": "group"},
        split={"validation": 0.3, "test": 0.3},
    )  # fmt: skip
    assert grouped.kept == 80
    split_of = {row["id"]: name for name in SPLITS for row in grouped.corpus.rows(name)}
    assert all(split_of[f"{n:02d}.txt"] == split_of[f"{n:02d}-again.txt"] for n in range(20))
    assert len({split_of[f"{n:02d}.txt"] for n in range(20)}) == 3
    members = pq.read_table(tmp_path / "grouped/clusters").to_pylist()
    assert len(members) == 40
    assert {row["keeper"] for row in members} == {f"{n:02d}-again.txt" for n in range(20)}
    with pytest.raises(ConfigError, match="unknown parameters 'fine'"):
        build(CurationConfig, {"near_duplicates": {"parameters": "fine"}})


def test_misuse_of_the_kernels_is_refused() -> None:
    minima, shingles, offsets = _native.minhash(["a b c d e f"] * 3, 5, 16)
    for wrong in (offsets[:-1], offsets[::-1].copy(), offsets + 1):
        with pytest.raises(ValueError):
            _native.near_duplicates(minima, shingles, wrong, 4, 4, 0.8)
    with pytest.raises(ValueError):
        _native.near_duplicates(minima, shingles, offsets, 5, 4, 0.8)
    with pytest.raises(IndexError):
        _native.shingle_similarities(shingles, offsets, np.array([[0, 3]]))
    with pytest.raises(ValueError):
        _native.minhash(["a"], 0, 16)


@settings(max_examples=150, deadline=None)
@given(st.text("aabé", max_size=60))
def test_suffixes_are_in_order(text: str) -> None:
    data = text.encode()
    assert _native.suffix_array(text).tolist() == sorted(range(len(data)), key=lambda at: data[at:])


def _without_repeats(texts: list[str], length: int) -> list[str]:
    """The naive twin, for ASCII: a stretch that begins at an earlier place goes."""
    seen: set[str] = set()
    kept = []
    for text in texts:
        gone = [False] * len(text)
        for at in range(len(text) - length + 1):
            if text[at : at + length] in seen:
                gone[at : at + length] = [True] * length
            seen.add(text[at : at + length])
        kept.append("".join(character for character, is_gone in zip(text, gone, strict=True) if not is_gone))
    return kept


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", max_size=40), max_size=5), st.integers(2, 9))
def test_of_equal_stretches_the_first_stays(texts: list[str], length: int) -> None:
    assert _native.without_repeated_substrings(texts, length) == _without_repeats(texts, length)


def test_of_equal_lines_anywhere_the_first_stays(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    notice = "All rights reserved, whatever they may be, by those who put this page here."
    for number in range(40):
        own = f"Page {number:02d} has a line of its own that no other page of these forty has."
        (folder / f"{number:02d}.txt").write_text(f"Menu\n{notice}\n\n{own}\n\n  {notice}\n")
    (folder / "99.txt").write_text(f"{notice}\n{notice}\n")
    report = curate(folder, tmp_path / "out", preset="none", repeated_line_characters=20)
    texts = {row["id"]: row["text"] for name in SPLITS for row in report.corpus.rows(name)}
    first = texts.pop("00.txt")
    assert first.count(notice) == 1
    assert sorted(texts.values()) == [
        f"Menu\n\nPage {number:02d} has a line of its own that no other page of these forty has."
        for number in range(1, 40)
    ]
    assert report.metrics["repeated_lines"] == 1 + 39 * 2 + 2
    (gone,) = pq.read_table(tmp_path / "out/rejected").to_pylist()
    assert (gone["id"], gone["rule"], gone["text"].count(notice)) == ("99.txt", "repeated_lines", 2)


def test_characters_stay_whole_and_emptied_documents_are_accounted_for(tmp_path: Path) -> None:
    found = _native.without_repeated_substrings(["é" * 3 + "xyz", "ü" + "é" * 3 + "abc", "日本語日本語日本語"], 4)
    assert "�" not in "".join(found)
    docs = _corpus(tmp_path)
    report = curate(docs, tmp_path / "out", repeated_substring_bytes=200)
    assert report.read == 80
    again = {row["id"]: row["text"] for name in SPLITS for row in report.corpus.rows(name)}
    # "00-again.txt" comes before "00.txt", which then holds nothing new but its last word.
    assert max(len(again.get(f"{n:02d}.txt", "")) for n in range(20)) < 20
    assert all(len(again[f"{n:02d}-again.txt"]) > 500 for n in range(20))
