"""From judged rows to a corpus: what only all documents together can tell, and the account of every one.

Rows pass as Arrow tables, several times, from files; what stays in memory are a few numbers a document.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.artifacts import Workspace
from ..core.devices import cpu_count
from .account import Account, source_group
from .config import CurationConfig
from .corpus import SPLITS
from .dedup import Names, first_occurrences
from .judge import DIGEST_BYTES
from .mixing import taken
from .near_duplicates import Clusters, Parameters, Signatures, find_clusters
from .presets import preset_named
from .repeats import without_repeated_lines, without_repeated_substrings
from .shuffling import ShuffledWriter
from .splits import assign_splits
from .spool import Spool, rejected_rows
from .storage import CLUSTER_COLUMNS, CORPUS_COLUMNS, REJECTED_COLUMNS, SCORE_COLUMNS, PartWriter

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDERS = (*SPLITS, "rejected", "scores", "clusters")

Judged = Callable[[Sequence[str] | None], Iterator["pa.Table"]]  # some columns of all judged rows, or all, in order
Drop = Callable[["pa.Table"], None]


def assemble(config: CurationConfig, judged: Judged, workspace: Workspace) -> dict[str, Any]:
    """Write `train/`, `validation/`, `test/`, `rejected/`, `scores/` and `clusters/`; returns pipeline's metrics."""
    for leftover in (workspace.scratch / "spools", *(workspace.path / name for name in _FOLDERS)):
        shutil.rmtree(leftover, ignore_errors=True)
    account = Account()
    with PartWriter(workspace.path / "rejected", REJECTED_COLUMNS) as rejected:

        def drop(rows: pa.Table) -> None:
            account.drop(rows)
            rejected.add_table(rows)

        spool = _compare(config, judged, workspace, account, drop)
        account.check(len(spool))
        if config.repeated_line_characters is not None:
            folder = workspace.scratch / "spools" / "unrepeated-lines"
            spool, account.repeated_lines = without_repeated_lines(spool, config, folder, drop)
            account.check(len(spool))
        if config.repeated_substring_bytes is not None:
            spool = without_repeated_substrings(spool, config, workspace.scratch / "spools" / "unrepeated", drop)
            account.check(len(spool))
        parameters = config.near_duplicates.resolve(preset_named(config.preset).near_duplicates)
        clusters = _cluster(spool, parameters, workspace) if parameters else None
        _write_splits(spool, clusters, parameters, config, workspace, account, drop)
    metrics = account.metrics()
    if clusters is not None:
        sizes = clusters.sizes()
        metrics["near_duplicates"] = {
            "clusters": len(sizes),
            "documents": int(sizes.sum()),
            "largest": int(sizes[0]) if len(sizes) else 0,
        }
        # Pairs that are linked already are not compared, so these counts hang on which thread came first.
        workspace.measurements["near_duplicates"] = {"candidates": clusters.candidates, "similar": clusters.similar}
    return metrics


def _compare(config: CurationConfig, judged: Judged, workspace: Workspace, account: Account, drop: Drop) -> Spool:
    """Everything that was judged, but for exact duplicates and what was refused; scores of all are written."""
    import pyarrow as pa
    import pyarrow.compute as pc

    spool = Spool(workspace.scratch / "spools" / "kept")
    first, names = _first_of_equals(judged, spool.folder.parent) if config.deduplicate else (None, None)
    at = 0
    with (
        PartWriter(spool.folder, CORPUS_COLUMNS, "lz4") as kept,
        PartWriter(workspace.path / "scores", SCORE_COLUMNS) as scores,
    ):
        for table in judged(None):
            account.read(table)
            scores.add_table(table.filter(table["measured"]))
            compared = pc.is_valid(table["digest"])
            if first is not None and names is not None:
                rows = np.flatnonzero(compared.to_numpy())
                mine, numbers = first[at : at + len(rows)], np.arange(at, at + len(rows))
                at += len(rows)
                table = _with_duplicates(table, rows[mine != numbers], mine[mine != numbers], names)
            for counts in table.filter(pc.is_valid(table["digest"]))["personal_data"].drop_null().to_pylist():
                account.count_personal_data(counts)
            stays = pc.and_(compared, pc.is_null(table["rule"]))
            drop(table.filter(pc.invert(stays)))
            table = table.filter(stays)
            account.dropped_lines += pc.sum(table["dropped_lines"]).as_py() or 0
            text = pc.coalesce(table["kept"], table["text"])
            table = table.set_column(table.schema.get_field_index("text"), pa.field("text", pa.string()), text)
            spool.add(kept, table, table["draw"].to_numpy())
    if names is not None:
        names.close()
    return spool


def _first_of_equals(judged: Judged, folder: Path) -> tuple[NDArray[np.uint32], Names]:
    """Of each row with a digest the first whose digest is the same, and the ids of these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    names, path = Names(folder / "names"), folder / "digests"
    with open(path, "wb") as file:
        for table in judged(["id", "digest"]):
            table = table.filter(table["digest"].is_valid())
            names.extend(table["id"].to_pylist())
            file.writelines(table["digest"].to_pylist())
    count = path.stat().st_size // DIGEST_BYTES
    digests = np.memmap(path, np.uint64, "r", shape=(count, 2)) if count else np.zeros((0, 2), np.uint64)
    return first_occurrences(digests), names


def _with_duplicates(table: pa.Table, rows: NDArray[np.int64], firsts: NDArray[np.uint32], names: Names) -> pa.Table:
    """The table with `rows` refused as the same as documents `firsts`, whatever later rules said, and not compared."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(rows):
        return table
    mask = np.zeros(table.num_rows, bool)
    mask[rows] = True
    details = pa.array([f"the same text as {names[first]}" for first in firsts.tolist()], pa.string())
    new: dict[str, Any] = {
        "rule": pa.scalar("exact_duplicate"), "detail": details, "value": pa.scalar(None, pa.float64()),
        "threshold": pa.scalar(None, pa.float64()), "digest": pa.scalar(None, pa.binary(DIGEST_BYTES)),
    }  # fmt: skip
    for name, values in new.items():
        field = table.schema.get_field_index(name)
        column = pc.replace_with_mask(table[name].combine_chunks(), pa.array(mask), values)
        table = table.set_column(field, table.schema.field(field), column)
    return table


def _cluster(spool: Spool, parameters: Parameters, workspace: Workspace) -> Clusters:
    texts = (row["text"] for row in spool.rows(["text"]))
    signatures = Signatures.write(texts, parameters, workspace.scratch / "spools" / "signatures", cpu_count())
    clusters = find_clusters(signatures, spool.lengths, parameters, cpu_count())
    names = spool.names()
    with PartWriter(workspace.path / "clusters", CLUSTER_COLUMNS) as writer:
        member = np.bincount(clusters.first, minlength=len(clusters.first))[clusters.first] > 1
        for number in np.flatnonzero(member).tolist():
            keeper = names[int(clusters.keeper[number])]
            similarity, length = float(clusters.similarity[number]), float(spool.lengths[number])
            writer.add({"id": names[number], "keeper": keeper, "similarity": similarity, "characters": length})
    names.close()
    return clusters


def _write_splits(
    spool: Spool,
    clusters: Clusters | None,
    parameters: Parameters | None,
    config: CurationConfig,
    workspace: Workspace,
    account: Account,
    drop: Drop,
) -> None:
    draws = spool.draws
    dropped: NDArray[np.bool_] = np.zeros(len(draws), bool)
    if clusters is not None and config.near_duplicates.action == "drop":
        dropped = clusters.dropped
    elif clusters is not None:
        draws = draws[clusters.first]  # a cluster has one draw, and so one split
    split = np.full(len(draws), -1, np.int8)
    split[~dropped] = assign_splits(draws[~dropped], config.split)
    rates = _rates(spool, split, config)
    left_out = (split == 0) & ~taken(draws, rates)
    names = spool.names() if dropped.any() else None
    writers = [PartWriter(workspace.path / name, CORPUS_COLUMNS) for name in SPLITS]
    at = 0
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        shuffled = None
        if config.shuffle:
            buckets, characters = workspace.scratch / "spools" / "buckets", int(spool.lengths[split == 0].sum())
            shuffled = stack.enter_context(ShuffledWriter(writers[0], buckets, CORPUS_COLUMNS, characters))
        for table in spool.tables():
            here = slice(at, at + table.num_rows)
            at += table.num_rows
            if clusters is not None and parameters is not None and names is not None and dropped[here].any():
                keepers = clusters.keeper[here][dropped[here]].tolist()
                details = [f"nearly the same text as {names[keeper]}" for keeper in keepers]
                values = clusters.similarity[here][dropped[here]].tolist()
                rows = table.filter(dropped[here])
                drop(rejected_rows(rows, "near_duplicate", details, values, [parameters.similarity] * len(values)))
            if left_out[here].any():
                rows, bounds = table.filter(left_out[here]), rates[here][left_out[here]].tolist()
                details = ["left out of the mixture"] * rows.num_rows
                drop(rejected_rows(rows, "mixture", details, [None] * rows.num_rows, bounds))
            for number, name in enumerate(SPLITS):
                chosen = (split[here] == number) & ~left_out[here]
                mine = table.filter(chosen)
                if mine.num_rows:
                    if shuffled is not None and number == 0:
                        shuffled.add_table(mine, spool.draws[here][chosen])
                    else:
                        writers[number].add_table(mine)
                    account.keep(name, mine)
    if names is not None:
        names.close()


def _rates(spool: Spool, split: NDArray[np.int8], config: CurationConfig) -> NDArray[np.float64]:
    """The share of each document's group that the training split takes."""
    rates = np.ones(len(split))
    if config.mixing.is_neutral:
        return rates
    by = config.mixing.by
    codes: dict[str, int] = {}
    groups, at = np.zeros(len(split), np.int32), 0
    for table in spool.tables([by]):
        for value in table[by].to_pylist():
            groups[at] = codes.setdefault(value if by == "language" else source_group(value), len(codes))
            at += 1
    train = split == 0
    sizes = np.bincount(groups[train], weights=np.asarray(spool.lengths)[train], minlength=len(codes))
    by_group = config.mixing.rates({name: int(sizes[code]) for name, code in codes.items()})
    return np.array([by_group.get(name, 1.0) for name in codes] or [1.0])[groups]
