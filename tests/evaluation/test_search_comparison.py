"""Ways to search a collection side by side: BM25's metrics as worked out alone, and every pair told apart."""

from __future__ import annotations

import pytest
import torch

from seedbed.core.errors import DataError
from seedbed.embeddings import SentenceEncoder
from seedbed.evaluation.collections import Collection
from seedbed.evaluation.retrieval import per_query
from seedbed.evaluation.search_comparison import compare_ways
from seedbed.indexes import BM25Index
from seedbed.models import Encoder, ModelConfig
from seedbed.tokenizers import train_bpe

TOPICS = ["csv", "json", "http", "zip", "email", "queue", "socket", "thread"]


def test_ways_are_measured_and_told_apart() -> None:
    documents = {
        f"{topic}{n}": f"the {topic} module, part {n}: how to read {topic}" for topic in TOPICS for n in range(3)
    }
    queries = {topic: f"read {topic}" for topic in TOPICS} | {"unjudged": "nothing"}
    judgements = {topic: {f"{topic}{n}": 1.0 for n in range(2)} for topic in TOPICS}
    tokenizer = train_bpe(list(documents.values()), 300, special_tokens=("<|endoftext|>",), threads=1)
    shape = {"kind": "encoder", "vocab_size": 300, "hidden_size": 16, "layers": 1, "heads": 2, "context_length": 48}
    encoder = SentenceEncoder(Encoder(ModelConfig(**shape), torch.Generator().manual_seed(0)), tokenizer)
    found = compare_ways(Collection(documents, queries, judgements), encoder)
    assert [way.name for way in found.ways] == ["BM25", "dense", "hybrid", "hybrid, MaxSim again"]
    index = BM25Index()
    index.add(list(documents.values()))
    ids = list(documents)
    ranked = [[ids[place] for place in row if place >= 0] for row in index.search(list(queries.values())[:-1], 24)[1]]
    expected = per_query("ndcg", ranked, list(judgements.values()), 10)
    assert found.ways[0].ndcg.tolist() == expected.tolist()
    assert found.ways[0].metrics["ndcg@10"] == pytest.approx(expected.mean())
    assert len(found.differences) == 6
    between = found.differences["BM25", "dense"]
    assert between.mean == pytest.approx(found.ways[1].metrics["ndcg@10"] - found.ways[0].metrics["ndcg@10"])
    with pytest.raises(DataError, match="no query has a relevant document"):
        compare_ways(Collection(documents, queries, {}), encoder)
