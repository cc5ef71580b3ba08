"""What a tokenizer costs: the formulas against values by hand, and premiums on real parallel text."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.core.errors import ConfigError, DataError
from seedbed.tokenizers import Tokenizer, train_bpe
from seedbed.tokenizers.audit import fertility, gini, has_spaced_words, parity, renyi_efficiency, token_kinds


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """A token a byte, but for "aa"."""
    return train_bpe(["aa"] * 3, 258, "gpt2", ())


def test_fertility_by_hand(bytewise: Tokenizer) -> None:
    found = fertility(bytewise, ["aa é", "aa aa"])
    assert found["words"] == 4
    assert found["tokens"] == (1 + 1 + 2) + (1 + 1 + 1)  # the space before a word is a token of its own
    assert found["tokens_per_word"] == 7 / 4
    assert found["bytes"] == 10
    assert found["bytes_per_token"] == 10 / 7
    assert found["continued_words"] == 1.0
    assert found["unknown_share"] == 0.0
    p = np.array([3, 2, 1, 1]) / 7
    assert found["renyi_efficiency"] == pytest.approx(math.log((p**2.5).sum()) / -1.5 / math.log(257))
    assert found["unused_tokens"] == 257 - 4
    with pytest.raises(DataError, match="no word"):
        fertility(bytewise, ["  ", "\n"])


def test_renyi_efficiency() -> None:
    assert renyi_efficiency([5, 5, 5, 5]) == pytest.approx(1.0)
    assert renyi_efficiency([7, 0, 0]) == 0.0
    assert renyi_efficiency([3, 1], alpha=1) == pytest.approx(2 - 0.75 * math.log2(3))
    assert renyi_efficiency([3, 1], alpha=2) == pytest.approx(-math.log2(9 / 16 + 1 / 16))
    with pytest.raises(DataError, match="no id occurs"):
        renyi_efficiency([0, 0])


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_gini_is_half_the_mean_difference_over_the_mean(values: list[int]) -> None:
    x = np.array(values, dtype=float)
    assert gini(values) == pytest.approx(np.abs(x[:, None] - x).mean() / 2 / x.mean(), abs=1e-12)


def test_words_are_found_where_spaces_part_them() -> None:
    assert has_spaced_words({"Whereas": 1, "recognition": 2})
    assert has_spaced_words({"한국어는": 1, "띄어쓰기가": 1})
    assert not has_spaced_words({"世界人权宣言": 1, "A": 1})
    assert not has_spaced_words({"ရေ": 1})
    assert not has_spaced_words({"ሁሉን፡አቀፍ፡የሰብአዊ፡መብቶች፡መግለጫ": 1})
    assert not has_spaced_words({})


def test_parity_by_hand(bytewise: Tokenizer) -> None:
    found = parity(bytewise, {"English": ["aaaa", "b"], "Long": ["bbbb", "bb"], "Greek": ["ββ", "β"], "Gone": ["", ""]})
    assert [(one.language, one.tokens, one.premium) for one in found.languages] == [
        ("Greek", 6, 2.0), ("Long", 6, 2.0), ("English", 3, 1.0)
    ]  # fmt: skip
    assert found.languages[0].bytes_per_token == 1.0
    assert found.languages[0].characters_per_token == 0.5
    assert found.gini == pytest.approx(gini([3, 6, 6]))
    assert "too few" in found.left_out["Gone"]


@pytest.mark.parametrize(
    ("parallel", "error", "message"),
    [
        ({"German": "a"}, ConfigError, "'English' is not among the languages. There are: German"),
        ({"English": ["a", "b"], "German": ["a"]}, DataError, "German has 1 passages where English has 2"),
        ({"English": " ", "German": "a"}, DataError, "English is empty"),
    ],
)
def test_parallel_text_that_cannot_be_used(
    bytewise: Tokenizer, parallel: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        parity(bytewise, parallel)


def test_premiums_on_the_declaration_of_human_rights(shared_data: Callable[[str], Path]) -> None:
    with zipfile.ZipFile(shared_data("text/udhr2.zip")) as archive:
        texts = {
            name.removeprefix("udhr2/").removesuffix(".txt"): archive.read(name).decode("utf-8-sig")
            for name in archive.namelist()
            if name.endswith(".txt")
        }
    english = shared_data("text/tinyshakespeare.txt").read_text()[:300_000].split("\n\n")
    found = parity(train_bpe(english, 3000), texts, reference="eng")
    premium = {one.language: one.premium for one in found.languages}
    assert premium["eng"] == 1
    # Scripts that the training never met pay for every byte; languages written as English is pay little.
    assert premium["mya"] > premium["tha"] > premium["rus"] > premium["deu"] > 1
    assert [one.language for one in found.languages] == sorted(premium, key=lambda one: (-premium[one], one))
    unspaced = {one.language for one in found.languages if one.tokens_per_word is None}
    assert unspaced == {"mya", "bod", "khm", "lao", "tha", "amh", "jpn", "iii", "cmn_hans", "cmn_hant"}
    assert len(found.left_out) == 8
    assert 0.2 < found.gini < 0.35
    # A vocabulary for all of them levels the costs.
    shared = parity(train_bpe([text[:4000] for text in texts.values()], 8000), texts, reference="eng")
    assert shared.gini < 0.6 * found.gini


def test_premiums_and_ids_of_a_real_vocabulary(shared_data: Callable[[str], Path]) -> None:
    tokenizer = Tokenizer.from_gpt2(
        shared_data("tokenizers/gpt2.encoder.json"), shared_data("tokenizers/gpt2.vocab.bpe")
    )
    with zipfile.ZipFile(shared_data("text/udhr2.zip")) as archive:
        texts = {
            name: "\n".join(map(str.strip, archive.read(f"udhr2/{name}.txt").decode("utf-8-sig").splitlines()))
            for name in ("eng", "por_BR", "jpn", "mya")
        }
    premium = {one.language: one.premium for one in parity(tokenizer, texts, reference="eng").languages}
    assert 1.8 < premium["por_BR"] < 2.2 < premium["jpn"] < 4
    assert premium["mya"] > 15
    counts = token_kinds(tokenizer).counts()
    assert counts["byte"] == 128
    assert counts["unreachable"] == counts["unreachable, split"] == 0
