"""Exhibits of tokenizers: their numbers against counts made here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from seedbed.evaluation.parallel import read_parallel
from seedbed.lab.bench import Bench
from seedbed.lab.exhibit import Finding
from seedbed.lab.parallel_sentences import SENTENCES
from seedbed.tokenizers import Tokenizer, train_bpe

Measure = Callable[..., Finding]


def test_bytes_per_token_of_bpe_against_a_merge_by_hand(measure: Measure, bench: Bench) -> None:
    """The rows of BPE again, by replaying the merges of a tokenizer trained alike on each word."""
    found = measure("tokenizer-kinds", vocab_sizes=(300, 350), held_out=20)
    texts = [" ".join(text.split()) for text in bench.texts("validation", 20)]
    tokenizer = train_bpe([" ".join(text.split()) for text in bench.texts("train")], 350)
    tokens = sum(len(_merged(tokenizer, word)) for text in texts for word in _words(text))
    expected = sum(len(text.encode()) for text in texts) / tokens
    assert found.numbers["bpe_bytes_per_token"] == pytest.approx(expected, rel=0.02)
    cheaper = [np.diff(_of(found, name)) for name in ("BPE", "WordPiece", "Unigram")]
    assert all(np.all(step > 0) for step in cheaper)  # a larger vocabulary makes longer tokens
    share = float(re.findall(r"Unigram needs ([+−][\d.]+)%", found.sentences[0])[0].replace("−", "-"))
    assert share / 100 == pytest.approx(found.numbers["Unigram more"], abs=1e-3)


def _of(finding: Finding, name: str) -> list[float]:
    return [float(row[2]) for row in finding.rows if row[0] == name]


def _words(text: str) -> list[str]:
    """GPT-4's cut, near enough for English prose: a space goes with the word, punctuation and digits apart."""
    return re.findall(r" ?[^\W\d_]+|\d{1,3}| ?[^\s\w]+[\r\n]*|_+|\s+(?!\S)|\s+| ?_", text)


def _merged(tokenizer: Tokenizer, word: str) -> list[bytes]:
    """Pieces of a word: the pair whose joined bytes have the lowest id is joined until none has one."""
    ids = {tokenizer.decode_bytes([number]): number for number in range(tokenizer.vocab_size)}
    pieces = [bytes([one]) for one in word.encode()]
    while len(pieces) > 1:
        ranks = [ids.get(pieces[at] + pieces[at + 1], 1 << 30) for at in range(len(pieces) - 1)]
        at = int(np.argmin(ranks))
        if ranks[at] == 1 << 30:
            break
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def test_gaps_between_languages(measure: Measure, bench: Bench) -> None:
    found = measure("fertility-gaps")
    costs = {name: len(bench.tokenizer.encode(text)) for name, text in SENTENCES.items()}
    least = min(costs.values())
    assert found.numbers["largest"] == max(costs.values()) / least
    assert found.numbers["median"] == np.median([cost / least for cost in costs.values()])
    assert found.verdict == "holds"


def test_built_in_sentences_rank_languages_as_a_long_text_does(
    measure: Measure, bench: Bench, shared_data: Callable[[str], Path]
) -> None:
    """The Universal Declaration of Human Rights, a hundred times as long."""
    declaration = read_parallel(shared_data("text/udhr2.zip"))
    named = {name.split(" (")[0]: text for name, text in reversed(declaration.items())}
    common = [name for name in SENTENCES if name in named]
    assert len(common) > 12
    costs = [[len(bench.tokenizer.encode(texts[name])) for name in common] for texts in (SENTENCES, named)]
    assert spearmanr(*costs).statistic > 0.9


def test_glitch_tokens_against_a_rank_test(measure: Measure, bench: Bench) -> None:
    found = measure("glitch-tokens", share=0.05)
    counts = Counter(bench.tokens("train").tokens.tolist())
    tokenizer = bench.tokenizer
    rows = bench.decoder().embedding.weight.detach().numpy().astype(np.float64)
    unused = [number for number in range(len(rows)) if _never_in_text(tokenizer, number)]
    mean = rows[unused].mean(axis=0)
    distance = 1 - rows @ mean / np.linalg.norm(rows, axis=1) / np.linalg.norm(mean)
    special = set(tokenizer.special_tokens.values())
    ranked = [n for n in range(len(rows)) if n not in special and _is_text(tokenizer.decode_bytes([n]))]
    low, high = ([distance[n] for n in ranked if (counts[n] == 0) == never] for never in (True, False))
    assert found.numbers["never"] == len(low) > 0
    auroc = mannwhitneyu(high, low).statistic / (len(high) * len(low))
    assert found.numbers["auroc"] == pytest.approx(auroc, abs=1e-3)
    assert [row[2] for row in found.rows] == pytest.approx(sorted(distance[n] for n in ranked)[: len(found.rows)])


def _is_text(data: bytes) -> bool:
    """Not a single byte of a character of several."""
    return len(data) > 1 or data < b"\x80"


def _never_in_text(tokenizer: Tokenizer, number: int) -> bool:
    data = tokenizer.decode_bytes([number])
    return len(data) == 1 and data[0] in (0xC0, 0xC1, *range(0xF5, 0x100))
