"""Counting words: equal to a Counter whatever the threads and the memory; files are exact, merge, and are checked."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError, FormatError
from seedbed.tokenizers import train_bpe, word_counts
from seedbed.tokenizers.bpe import train_bpe_on_counts
from seedbed.tokenizers.pretokenizers import split
from seedbed.tokenizers.word_counts import WordCounts, count_words, is_counts_file, merge, pattern_cut

CUT = pattern_cut("gpt2")


def _naive(texts: list[str]) -> list[tuple[bytes, int]]:
    return sorted(Counter(piece.encode() for text in texts for piece in split(text, "gpt2")).items())


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab é\n中1", min_size=1, max_size=40), min_size=1, max_size=30),
    threads=st.integers(1, 3),
    memory=st.sampled_from([0, 20_000, 1 << 30]),
)
def test_equals_a_counter(texts: list[str], threads: int, memory: int) -> None:
    counts = count_words(texts, CUT, threads, memory_bytes=memory)
    naive = _naive(texts)
    assert counts.words.items() == naive
    assert (len(counts), counts.total) == (len(naive), sum(count for _, count in naive))
    for at in (0, len(texts) // 2):
        parts = [count_words(half, CUT) for half in (texts[:at], texts[at:]) if half]
        assert merge(parts, memory_bytes=memory).words.items() == naive
    assert merge([counts], min_count=2).words.items() == [(word, count) for word, count in naive if count > 1]


def test_words_longer_than_all_before_them() -> None:
    texts = [
        letter * length
        for letter, length in zip("abcdefg", (10, 30_000, 40_000, 200_000, 100, 1_000_000, 9), strict=True)
    ]
    assert count_words(texts, CUT).words.items() == _naive(texts)


def test_little_memory_many_threads_and_another_order_change_nothing(
    languages: list[str], tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    """Each way spills another number of times, past the number of files that may be open at once."""
    texts = [*languages, *shared_data("text/tinyshakespeare.txt").read_text()[:200_000].split("\n\n")]
    whole = count_words(texts, CUT, 1)
    assert whole.words.items() == _naive(texts)
    word_counts.write(tmp_path / "whole.counts", whole)
    written = (tmp_path / "whole.counts").read_bytes()
    random.Random(5).shuffle(texts)
    for threads, memory in ((1, 30_000), (2, 400_000), (5, 1 << 30)):
        counts = count_words(iter(texts), CUT, threads, memory_bytes=memory, directory=tmp_path)
        word_counts.write(tmp_path / "again.counts", counts)
        assert (tmp_path / "again.counts").read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.counts", "whole.counts"]


def test_files_merge_and_train_as_their_texts_together(languages: list[str], tmp_path: Path) -> None:
    together = count_words(languages, CUT)
    paths = [tmp_path / f"{part}.counts" for part in range(3)]
    for part, path in enumerate(paths):
        word_counts.write(path, count_words(languages[part::3], CUT))
        assert is_counts_file(path)
    merged = merge([word_counts.read(path) for path in paths], memory_bytes=1)
    assert merged.words.items() == together.words.items()
    trained = train_bpe_on_counts(merged, 2000)
    assert trained.fingerprint == train_bpe(languages, 2000, "gpt2").fingerprint
    pruned = merge([merged], min_count=3)
    word_counts.write(paths[0], pruned)
    assert word_counts.read(paths[0]).min_count == 3
    assert merge([word_counts.read(paths[0]), merged]).min_count == 3


def test_words_of_over_a_million_bytes_are_left_out_and_counted(tmp_path: Path) -> None:
    longest = "x" * (1 << 20)
    counts = count_words([longest, "y" + longest, "ab ab"], CUT, memory_bytes=0)
    assert [word for word, _ in counts.words.items()] == [b" ab", b"ab", longest.encode()]
    assert counts.skipped == 1
    word_counts.write(tmp_path / "long.counts", counts)
    again = word_counts.read(tmp_path / "long.counts")
    assert again.words.items() == counts.words.items()
    assert again.skipped == 1
    with pytest.raises(DataError, match="nothing but 1 unbroken"):
        count_words(["y" + longest], CUT)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.counts"
    word_counts.write(path, count_words(["the then they there a an and", "the " * 200], CUT))
    return path


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut off or added anywhere, with the checksum left alone or made anew."""
    good = sound.read_bytes()
    body = bytearray(good[:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    bad = tmp_path / "bad.counts"
    if data.draw(st.booleans()):
        bad.write_bytes(b"".join(word_counts._checked([bytes(body)])))
    else:
        bad.write_bytes(bytes(body) + good[-32:])
    try:
        counts = word_counts.read(bad)
    except FormatError as error:
        named = "bad.counts" in str(error)
    else:  # another sound file
        items = counts.words.items()
        named = items == sorted(items) and sum(count for _, count in items) == counts.total
    assert named


def _rewritten(path: Path, words: bytes, header: dict) -> Path:
    document = {"cut": {"pattern": "gpt2"}, "words": 1, "total": 1, "min_count": 1, "skipped": 0} | header
    encoded = json.dumps(document).encode()
    start = word_counts._START.pack(b"SEEDWORD", 1, len(encoded))
    path.write_bytes(b"".join(word_counts._checked([start, encoded, words])))
    return path


@pytest.mark.parametrize(
    ("words", "header", "message"),
    [
        (b"\x00\x01a\x01", {"words": 1 << 50}, "claims 1,125,899,906,842,624 words in 4 bytes"),
        (b"\x00\xff\xff\xff\x7fa\x01", {}, "out of range"),
        (b"\x00\x02a\x01", {}, "cut off"),
        (b"\x00\x01a\x00", {}, "no count"),
        (b"\x00\x01a\x01more", {}, "more follows"),
        (b"\x00\x01b\x01\x00\x01a\x01", {"words": 2, "total": 2}, "out of order"),
        (b"\x00\x01a\x01\x01\x00\x01\x01", {"words": 2, "total": 2}, "repeated"),
        (b"\x00\x01a\x02", {}, "'total' is 1"),
        (b"\x00\x01a" + b"\xff" * 8 + b"\x7f", {}, "out of range"),
        (b"\x00\x01a\x01", {"words": -1}, "'words'"),
        (b"\x00\x01a\x01", {"cut": None}, "'cut'"),
    ],
)
def test_what_is_wrong_is_named(words: bytes, header: dict, message: str, tmp_path: Path) -> None:
    path = _rewritten(tmp_path / "wrong.counts", words, header)
    with pytest.raises(FormatError, match=message):
        word_counts.read(path)


def test_counts_that_do_not_fit_together(tmp_path: Path) -> None:
    gpt2, llama3 = (count_words(["a b"], pattern_cut(name)) for name in ("gpt2", "llama3"))
    with pytest.raises(ConfigError, match="different cuts: pattern 'gpt2' and pattern 'llama3'"):
        merge([gpt2, llama3])
    with pytest.raises(ConfigError, match="not made for BPE"):
        train_bpe_on_counts(WordCounts(gpt2.words, {"normalizer": None}), 300)
    with pytest.raises(ConfigError, match="no counts"):
        merge([])
    with pytest.raises(FormatError, match="cannot be read"):
        word_counts.read(tmp_path / "missing.counts")
    (tmp_path / "text.txt").write_text("no counts")
    assert not is_counts_file(tmp_path / "text.txt")
    with pytest.raises(FormatError, match="no counts file"):
        word_counts.read(tmp_path / "text.txt")
    huge = b"\x00\x01a" + b"\x80" * 8 + b"\x40"  # 2^62 times
    half = word_counts.read(_rewritten(tmp_path / "huge.counts", huge, {"total": 1 << 62}))
    with pytest.raises(DataError, match="more than 2\\^62"):
        merge([half, half])
    pair = word_counts.read(_rewritten(tmp_path / "pair.counts", b"\x00\x02ab" + huge[3:], {"total": 1 << 62}))
    with pytest.raises(DataError, match="more than 2\\^62"):
        train_bpe_on_counts(pair, 300)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing: there is no such folder"):
        count_words(["a b c"], CUT, memory_bytes=0, directory=tmp_path / "missing")
