"""Peers of our curation, as benchmarks.curation calls them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seedbed.curation.language import language_model
from seedbed.curation.near_duplicates import Parameters

_WORD = re.compile(r"[^\W_]+")


def _rules_pass(own_words: bool) -> Callable[[Any], bool]:
    """FineWeb's filters over a document of datatrove's, which they clean."""
    from datatrove.pipeline import filters
    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )
    from datatrove.utils import text as own

    steps = [
        filters.GopherRepetitionFilter(),
        filters.GopherQualityFilter(),
        filters.C4QualityFilter(filter_no_terminal_punct=False),
        filters.FineWebQualityFilter(),
    ]
    modules = (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter)

    def passes(document: Any) -> bool:
        for module in modules:
            module.split_into_words = own.split_into_words if own_words else lambda text, language: text.split()
        c4_filters.split_into_sentences = own.split_into_sentences if own_words else lambda text, language: [text]
        return all(step.filter(document) is True for step in steps)

    return passes


def datatrove_rules(texts: list[str], own_words: bool) -> Callable[[], object]:
    from datatrove.data import Document

    passes = _rules_pass(own_words)
    return lambda: [passes(Document(text=text, id="")) for text in texts]


def datatrove_fineweb(pages: Callable[[], Sequence[str]], times: int, own_words: bool) -> Callable[[], int]:
    """FineWeb's recipe over pages, `times` over, as datatrove's example puts it together: trafilatura, language, rules,
    signatures.

    The language model is the compressed one that we use too: its own is fetched. trafilatura forgets the pages each
    time, as it would drop what it has seen.
    """
    from datatrove.data import Document
    from trafilatura.meta import reset_caches

    passes = _rules_pass(own_words)
    with tempfile.TemporaryDirectory() as folder:
        signature = _signature_step(folder)

    def work() -> int:
        kept = 0
        for _ in range(times):
            reset_caches()
            for page in pages():
                document = Document(text=trafilatura_text(page), id="")
                if document.text and _is_english(document.text) and passes(document):
                    signature.get_signature(signature.get_shingles(document.text))
                    kept += 1
        return kept

    return work


def _is_english(text: str) -> bool:
    """As its filter asks, whose class wants numbers of another build of fastText."""
    labels, scores = language_model().predict(text.replace("\n", " "), k=-1)
    return dict(zip(labels, scores, strict=True)).get("__label__en", 0) > 0.65


def runs_of(texts: Sequence[str]) -> list[list[str]]:
    """Runs of five words as Python makes them."""
    found = []
    for text in texts:
        words = _WORD.findall(text.lower())
        found.append([" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))])
    return found


def _signature_step(folder: str) -> Any:
    """datatrove's first step with words between white space."""
    from datatrove.pipeline.dedup import minhash

    class Words:
        @staticmethod
        def word_tokenize(text: str) -> list[str]:
            return text.split()

    load, minhash.load_word_tokenizer = minhash.load_word_tokenizer, lambda language: Words()
    step = minhash.MinhashDedupSignature(folder, _minhash_config())
    minhash.load_word_tokenizer = load
    return step


def _minhash_config() -> Any:
    """SHA-1 as FineWeb used it; its default needs an older xxhash than the one here."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig

    return MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))


def datatrove_signatures(texts: list[str]) -> Callable[[], object]:
    with tempfile.TemporaryDirectory() as folder:
        step = _signature_step(folder)

    def work() -> None:
        for text in texts:
            shingles = step.get_shingles(text)
            if shingles.size:
                step.get_signature(shingles)

    return work


def datatrove_clusters(texts: list[str]) -> int:
    """Its four steps, through files as it works; returns how many documents they drop."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash

    minhash.logger.disable("datatrove")
    config = _minhash_config()

    def documents() -> Iterator[Document]:
        return (Document(text=text, id=str(number)) for number, text in enumerate(texts))

    with tempfile.TemporaryDirectory() as folder:
        places = {name: f"{folder}/{name}" for name in ("signatures", "buckets", "removed")}
        _signature_step(places["signatures"]).run(documents())
        for rank in range(config.num_buckets):
            step = minhash.MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)
            step.run(None, rank, config.num_buckets)
        minhash.MinhashDedupCluster(places["buckets"], places["removed"], config=config).run(None)
        kept = sum(1 for _ in minhash.MinhashDedupFilter(places["removed"]).run(documents()))
    return len(texts) - kept


def rensa_clusters(texts: list[str], parameters: Parameters) -> int:
    from rensa import RMinHash, RMinHashLSH

    hashes = RMinHash.from_token_sets(runs_of(texts), parameters.permutations, 0)
    index = RMinHashLSH(threshold=parameters.similarity, num_perm=parameters.permutations, num_bands=parameters.bands)
    index.insert_pairs(list(enumerate(hashes)))
    parents = list(range(len(texts)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = i = parents[parents[i]]
        return i

    for i, others in enumerate(index.query_all(hashes)):
        for j in others:
            parents[max(root(i), root(j))] = min(root(i), root(j))
    return sum(root(i) != i for i in range(len(texts)))


def trafilatura_text(page: str) -> str:
    """As datatrove calls it."""
    from trafilatura import extract

    return extract(page, favor_precision=True, include_comments=False, deduplicate=True) or ""
