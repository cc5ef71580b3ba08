"""What an encoder's vectors cannot do, measured on a user's own texts: how they fill their space, what a token limit
cuts off, which words they miss, how many sets of documents one vector can tell apart, and what late interaction costs.

Searches are for known items: a document's opening sentence has to find the rest of it among all others.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ..core.ragged import Ragged
from ..core.randomness import numpy_generator, torch_generator
from ..embeddings import MultiVectorEncoder, SentenceEncoder, geometry
from ..embeddings.fusion import fuse
from ..embeddings.rerank import token_vectors
from ..embeddings.sentence import TruncationWarning
from ..embeddings.token_pooling import pool_tokens
from ..indexes import BM25Index, FlatIndex, MultiVectorIndex, maxsim
from ..indexes.base import Floats, Ids
from ..models import Encoder
from .collections import Collection
from .encoder_kinds import compare_kinds
from .known_items import K, KnownItems, known_items, nearest
from .neighbourhoods import measure_neighbourhoods
from .retrieval import per_query, recall

Table = list[dict[str, Any]]

LIMITS = (16, 32, 64, 128, 256, 512)  # tokens
WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 768, 1024)  # dimensions that LIMIT is tried with
FREE_WIDTHS = (2, 4, 6, 8, 12, 16, 32)
_RARE = 2  # documents that a rare word is in, at most
_WORDS = {
    "rare words": re.compile(r"\b[a-z]{4,}\b"),
    "numbers": re.compile(r"\b\d[\d.,:]*\d\b|\b\d\b"),
    "names": re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b"),
}
_CONSTANT = 60.0  # of reciprocal-rank fusion
_CENTROIDS = 256  # of late interaction: few documents need no more, and training them is most of the time
_LOOK = 20  # steps of fitting between looks at whether it is done


@dataclass(frozen=True)
class EncoderStudy:
    """Tables, each a list of rows.

    spaces: `space` and its measures, and MRR@10 of the search for known items there.
    measures: MRR@10 by cosine, inner product and Euclidean distance, of vectors as they come and of unit length.
    limits: MRR@10 and the share of texts that are cut, by the tokens that are read.
    words: recall@10 of documents by one word that few of them hold, by its kind and the way to search.
    sets: recall@2, and the share of pairs of documents that are the two best for their query (LIMIT), by way and
        dimensions.
    free: the share of vectors that are fitted to the answers themselves.
    storage: bytes and MRR@10 of late interaction, by bits and pooling.
    kinds: encoders of several kinds, of one size and trained alike (`encoder_kinds`).
    """

    name: str
    documents: int
    queries: int
    dim: int
    max_length: int
    limit_documents: int
    spaces: Table
    measures: Table
    limits: Table
    words: Table
    sets: Table
    free: Table
    storage: Table
    kinds: Table

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def study_encoder(
    encoder: SentenceEncoder,
    documents: Sequence[Mapping[str, Any]],
    *,
    limit: Collection | None = None,
    name: str = "encoder",
    most: int = 1000,
    queries: int = 300,
    kind_steps: int = 100,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> EncoderStudy:
    """All measures of one encoder.

    Args:
        documents: with `id`, `title`, `source` and `text`.
        kind_steps: that small encoders of each kind are trained on the documents; 0: none are.
        limit: the collection that sets of documents are told apart in; None for one made as LIMIT was.
        say: is told what comes next.

    Raises:
        DataError: there are too few documents.
    """
    items = known_items(documents, most, queries, seed)
    limit = limit or limit_collection(seed=seed)
    with _cuts_are_counted():
        say("vectors of texts and queries")
        held = encoder.encode_documents(items.texts, normalize=False)
        asked = encoder.encode_queries(items.queries, normalize=False)
        say("texts cut short")
        limits = token_limits(encoder, items)
        say("rare words, numbers and names")
        words = rare_words(encoder, items.texts, held, seed=seed)
        say("sets of documents")
        sets = told_apart(encoder, limit)
        say("late interaction")
        storage = late_interaction_storage(encoder, items)
    if kind_steps:
        say("recurrence, attention and transformer at one size")
    return EncoderStudy(
        name=name,
        documents=len(items.texts),
        queries=len(items.queries),
        dim=encoder.dim,
        max_length=encoder.max_length,
        limit_documents=len(limit.documents),
        spaces=spaces(held, asked, items, seed=seed),
        measures=measures(held, asked, items),
        limits=limits,
        words=words,
        sets=sets,
        free=free_vectors(len(limit.documents), seed=seed),
        storage=storage,
        kinds=compare_kinds(documents, steps=kind_steps, seed=seed) if kind_steps else [],
    )


@contextmanager
def _cuts_are_counted() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        yield


def spaces(held: Floats, asked: Floats, items: KnownItems, *, seed: int = 0) -> Table:
    """Geometry and search of the vectors as they are, centred, without their strongest directions, and whitened; what
    straightens them is learnt from the texts alone."""
    ways = {
        "as they are": None,
        "centred": geometry.centring(held),
        "all but the top": geometry.all_but_the_top(held),
        "whitened": geometry.whitening(held),
    }
    table = []
    for name, straighten in ways.items():
        texts, queries = (held, asked) if straighten is None else (straighten(held), straighten(asked))
        near = measure_neighbourhoods(texts, k=min(100, len(texts) - 1), seed=seed).summary()
        table.append({
            "space": name,
            "mean_cosine": geometry.mean_cosine(texts),
            "partition": geometry.partition_isotropy(texts),
            "isoscore": geometry.isoscore(texts),
            "uniformity": geometry.uniformity(texts, seed=seed),
            "alignment": geometry.alignment(queries, texts[items.answers]),
            "hub_skewness": near["hub_skewness"],
            "anti_hubs": near["anti_hubs"],
            "intrinsic_dimension": near["intrinsic_dimension"],
            "mrr": items.mrr(nearest(texts, queries, "cosine")),
        })  # fmt: skip
    return table


def measures(held: Floats, asked: Floats, items: KnownItems) -> Table:
    """Whether it matters how vectors are compared. Of unit vectors all three give the same order."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (held, asked)]
    by_cosine = nearest(held, asked, "cosine")
    table = []
    for vectors, (texts, queries) in (("as they come", (held, asked)), ("of length 1", units)):
        lengths = np.linalg.norm(texts, axis=1)
        for metric in ("cosine", "dot", "l2"):
            found = nearest(texts, queries, metric)
            table.append({
                "vectors": vectors,
                "metric": metric,
                "mrr": items.mrr(found),
                "same": float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, by_cosine, strict=True)])),
                "length_deviation": float(lengths.std() / lengths.mean()),
            })  # fmt: skip
    return table


def token_limits(encoder: SentenceEncoder, items: KnownItems) -> Table:
    """What reading only the first tokens of the texts costs."""
    queries = encoder.encode_queries(items.queries)
    lengths = encoder.tokenizer.encode_batch(items.texts, add_special_tokens=True).lengths
    table = []
    for limit in sorted({*(one for one in LIMITS if one < encoder.max_length), encoder.max_length}):
        reader = SentenceEncoder(
            encoder.model, encoder.tokenizer, limit, pooling=encoder.pooling, prompts=encoder.prompts,
            default_prompt=encoder.default_prompt,
        )  # fmt: skip
        held = reader.encode_documents(items.texts)
        table.append({
            "tokens": limit, "cut": float((lengths > limit).mean()), "mrr": items.mrr(nearest(held, queries, "cosine"))
        })  # fmt: skip
    return table


def rare_words(
    encoder: SentenceEncoder, texts: Sequence[str], held: Floats, *, most: int = 100, seed: int = 0
) -> Table:
    """Documents by a single word that only one or two of them hold."""
    index = BM25Index()
    index.add(texts)
    table = []
    for kind, pattern in _WORDS.items():
        holders: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            for word in dict.fromkeys(pattern.findall(text)):
                holders.setdefault(word, []).append(place)
        folded = Counter(word.lower() for text in texts for word in set(re.findall(r"\w+", text)))
        rare = [word for word, places in holders.items() if len(places) <= _RARE and folded[word.lower()] <= _RARE]
        if not rare:
            continue
        chosen = numpy_generator(seed, kind).choice(len(rare), min(most, len(rare)), replace=False)
        queries = [rare[place] for place in chosen]
        right = [holders[word] for word in queries]
        vectors = encoder.encode_queries(queries)
        dense = FlatIndex(held.shape[1], "cosine")
        dense.add(held)
        found = {"BM25": index.search(queries, 100)[1], "dense": dense.search(vectors, 100)[1]}
        found["hybrid"] = fuse(list(found.values()), [0.5, 0.5], _CONSTANT, 100)[1]
        table += [
            {"kind": kind, "way": way, "queries": len(queries), "recall": recall(ids[:, :K], right, K)}
            for way, ids in found.items()
        ]
    return table


def limit_collection(documents: int = 46, attributes: int = 50, *, seed: int = 0) -> Collection:
    """Every pair of documents is the answer to one query, as in LIMIT (Weller et al. 2025): people who like things, two
    of whom like the thing that is asked for, among things that nobody is asked about."""
    draws = numpy_generator(seed, "limit")
    pairs = list(combinations(range(documents), 2))
    likes: list[list[str]] = [[] for _ in range(documents)]
    names = _names(documents + len(pairs) + 400, draws)
    people, things = names[:documents], names[documents : documents + len(pairs)]
    for thing, pair in zip(things, pairs, strict=True):
        for person in pair:
            likes[person].append(thing)
    texts = {}
    for name, own in zip(people, likes, strict=True):
        others = draws.choice(names[documents + len(pairs) :], max(0, attributes - len(own)), replace=False).tolist()
        texts[name] = f"{name} likes {', '.join(draws.permutation([*own, *others]).tolist())}."
    judgements = {thing: {people[a]: 1.0, people[b]: 1.0} for thing, (a, b) in zip(things, pairs, strict=True)}
    return Collection(texts, {thing: f"Who likes {thing}?" for thing in things}, judgements)


def _names(count: int, draws: np.random.Generator) -> list[str]:
    """Distinct words that can be said: three syllables each."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault("".join(draws.choice(syllables, 3)).capitalize())
    return list(found)


def told_apart(encoder: SentenceEncoder, collection: Collection) -> Table:
    """Recall@2, and the share of queries whose two documents come first: by one vector a document, at several widths
    (its first dimensions), by BM25, and by MaxSim of the encoder's own tokens."""
    ids, texts = list(collection.documents), list(collection.documents.values())
    queries = [collection.queries[query] for query in collection.asked]
    places = {name: place for place, name in enumerate(ids)}
    right = [[places[name] for name, gain in row.items() if gain > 0] for row in collection.relevant]
    words = BM25Index()
    words.add(texts)
    held, asked = encoder.encode_documents(texts), encoder.encode_queries(queries)

    def row(way: str, width: int | None, found: Ids) -> dict[str, Any]:
        shares = per_query("recall", found[:, :2], right, 2)
        return {
            "way": way,
            "dimensions": width,
            "recall": float(shares.mean()),
            "told_apart": float((shares == 1).mean()),
        }

    table = [row("BM25", None, words.search(queries, 2)[1])]
    for width in sorted({*(one for one in WIDTHS if one < encoder.dim), encoder.dim}):
        index = FlatIndex(width, "cosine")
        index.add(held[:, :width])
        table.append(row("one vector", width, index.search(asked[:, :width], 2)[1]))
    if isinstance(encoder.model, Encoder):
        tokens = token_vectors(encoder)
        scores = maxsim(tokens.encode_queries(queries), tokens.encode_documents(texts))
        table.append(row("late interaction", None, np.argsort(-scores, axis=1, kind="stable")))
    return table


def free_vectors(documents: int, *, widths: Sequence[int] | None = None, steps: int = 400, seed: int = 0) -> Table:
    """Share of all pairs of documents that vectors of few dimensions can make the two best of a query, when vectors of
    documents and queries are fitted to just that: the most that any encoder of this width could do."""
    pairs = torch.tensor(list(combinations(range(documents), 2)))
    wanted = torch.zeros(len(pairs), documents).scatter_(1, pairs, 1.0).bool()
    table = []
    for width in widths or FREE_WIDTHS:
        generator = torch_generator(seed, f"free {width}")
        held = torch.randn(documents, width, generator=generator).requires_grad_()
        asked = (torch.randn(len(pairs), width, generator=generator) * 0.1).requires_grad_()
        optimizer = torch.optim.Adam([held, asked], lr=0.05)
        told = 0.0
        for step in range(steps):
            scores = 20 * torch.nn.functional.normalize(asked, dim=1) @ torch.nn.functional.normalize(held, dim=1).T
            least = scores.masked_fill(~wanted, torch.inf).amin(1)
            others = scores.masked_fill(wanted, -torch.inf)
            if (step + 1) % _LOOK == 0 or step == steps - 1:
                told = float((least > others.amax(1)).float().mean())
                if told == 1.0:
                    break
            loss = torch.nn.functional.softplus(torch.logsumexp(others, 1) - least).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        table.append({"dimensions": width, "told_apart": told})
    return table


def late_interaction_storage(encoder: SentenceEncoder, items: KnownItems, *, seed: int = 0) -> Table:
    """The encoder's own token vectors in a MultiVectorIndex, by the bits of a component and the tokens merged into one,
    beside the exact vectors in float16. Empty for decoders."""
    if not isinstance(encoder.model, Encoder):
        return []
    return token_storage(token_vectors(encoder), items, seed=seed)


def token_storage(
    tokens: MultiVectorEncoder, items: KnownItems, *, poolings: Sequence[int] = (1, 2, 4), seed: int = 0
) -> Table:
    """`late_interaction_storage` of an encoder that was trained for it."""
    asked, held = tokens.encode_queries(items.queries), tokens.encode_documents(items.texts)
    table = []
    for pooling in poolings:
        rows = [pool_tokens(row, pooling) for row in held] if pooling > 1 else list(held)
        merged = Ragged.from_rows(rows, np.float32)
        best = np.argsort(-maxsim(asked, merged), axis=1, kind="stable")[:, :K]
        size = 2 * merged.values.size / len(rows)
        table.append({"pooling": pooling, "bits": 16, "bytes": size, "mrr": items.mrr(best)})
        for bits in (4, 2, 1):
            index = MultiVectorIndex(tokens.dim, bits, centroids=_CENTROIDS, seed=seed)
            index.add(merged)
            found = index.search(asked, K, candidates=max(128, len(rows) // 4))[1]
            size = index.memory_bytes() / len(rows)
            table.append({"pooling": pooling, "bits": bits, "bytes": size, "mrr": items.mrr(found)})
    return table
