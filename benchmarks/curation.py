"""Our curation beside datatrove, rensa and datasketch, and how well near-duplicates are found.

    python -m benchmarks.curation [PART...] [--rounds 5] [--documents 100000] [--json FILE]

Speeds are of one thread. Rounds are interleaved and ratios are taken within a round. All measure the same texts:

- rules: Gopher's, C4's and FineWeb's, as FineWeb applies them. datatrove is timed with its own words (spaCy's English
  tokenizer, where that is installed) and with words between white space, which are ours.
- signatures: 112 permutations of runs of five words, from texts. rensa and datasketch take runs made by Python, whose
  making counts, and once more without it.
- near: texts to clusters. The pairs of rensa and of datatrove, whose four steps work through files, are not verified.
- extraction: main text of the pages of two crawls, beside trafilatura, by speed; and on pages whose main text is known
  (gold_pages) by F1 as well, trafilatura also with its other settings.
- warc: the whole of FineWeb's recipe, from the two crawls, ten times over, to signatures of what is kept. Ours is what
  a worker does, and writes texts, scores and what was refused; datatrove writes nothing, and reads with our library, as
  its own is not at hand. Both tell languages by the same model. Its words are spaCy's, where that is installed.
- decontamination: how many of an evaluation set's questions are found that were planted in news, as they are, re-cased,
  re-punctuated and with one word in ten replaced; and how much of what holds none is taken for them.
- languages: how often the language of a text is found, by language and length.
- recall: against the true similarity of all pairs of one documentation in five releases.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import statistics
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import texts as corpora
from benchmarks.curation_peers import (
    datatrove_clusters,
    datatrove_fineweb,
    datatrove_rules,
    datatrove_signatures,
    rensa_clusters,
    runs_of,
    trafilatura_text,
)
from benchmarks.gold_pages import GoldPage, f1, gold_pages
from benchmarks.measuring import circumstances, grown_by, interleaved, ratios, spread, write_results
from seedbed import _native
from seedbed.core.console import show, table
from seedbed.curation.config import CurationConfig
from seedbed.curation.decontamination import DecontaminationConfig, Decontaminator
from seedbed.curation.extraction import html as html_text
from seedbed.curation.filters import FAMILIES, decide, measure
from seedbed.curation.language import detect_language
from seedbed.curation.near_duplicates import PARAMETERS, Parameters, Signatures, find_clusters
from seedbed.curation.normalize import normalize
from seedbed.curation.presets import PRESETS
from seedbed.curation.storage import read_tables
from seedbed.curation.units import plan_units
from seedbed.curation.work import judge_unit, result_of, task_of

PERMUTATIONS = 112


def documents(most_megabytes: float, size: int = 3000) -> list[str]:
    found = [normalize(part) for text in corpora.english() for part in corpora.documents(text, size)]
    found = [text for text in found if text.strip()]
    return corpora.about(found, most_megabytes * 1e6)


def compare(works: dict[str, Callable[[], object]], megabytes: float, count: int, rounds: int) -> list[dict[str, Any]]:
    times = interleaved(works, rounds)
    ours = times["seedbed"]
    return [
        {
            "library": name,
            "megabytes_per_second": megabytes / statistics.median(seconds),
            "documents_per_second": count / statistics.median(seconds),
            "times_as_fast": "" if name == "seedbed" else spread(ratios(ours, seconds)),
        }
        for name, seconds in times.items()
    ]


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    table(tuple(rows[0]), [tuple(row.values()) for row in rows], title=title)


def rules(rounds: int) -> list[dict[str, Any]]:
    texts = documents(0.5)
    size = corpora.size_of(texts) / 1e6
    bounds = PRESETS["fineweb"].rules
    families = FAMILIES["gopher"] | FAMILIES["repetition"] | FAMILIES["fineweb"]
    works: dict[str, Callable[[], object]] = {
        "seedbed": lambda: decide(measure(texts, "fineweb", 1, families).scores, bounds)
    }
    for name, words in {"datatrove, words between white space": False, "datatrove, its own words": True}.items():
        if find_spec("datatrove") and (not words or find_spec("spacy")):
            works[name] = datatrove_rules(texts, own_words=words)
    rows = compare(works, size, len(texts), rounds)
    print_rows("Gopher + C4 + FineWeb rules", rows)
    return rows


def signatures(rounds: int) -> list[dict[str, Any]]:
    texts = documents(2)
    size = corpora.size_of(texts) / 1e6
    works: dict[str, Callable[[], object]] = {"seedbed": lambda: _native.minhash(texts, 5, PERMUTATIONS)}
    made = runs_of(texts)
    if find_spec("rensa"):
        from rensa import RMinHash

        works["rensa"] = lambda: RMinHash.digest_matrix_from_token_sets(runs_of(texts), PERMUTATIONS, 0)
        works["rensa, runs given"] = lambda: RMinHash.digest_matrix_from_token_sets(made, PERMUTATIONS, 0)
    if find_spec("datasketch"):
        from datasketch import MinHash

        works["datasketch"] = lambda: list(
            MinHash.generator(([run.encode() for run in runs] for runs in runs_of(texts)), num_perm=PERMUTATIONS)
        )
    if find_spec("datatrove"):
        works["datatrove, words between white space"] = datatrove_signatures(texts)
    rows = compare(works, size, len(texts), rounds)
    print_rows(f"MinHash signatures, {PERMUTATIONS} permutations", rows)
    return rows


def copies(count: int) -> list[str]:
    """`count` documents: a fifth are earlier ones with a few words changed."""
    generator = random.Random(0)
    words = sorted({word for text in documents(4) for word in text.split()})
    made: list[str] = []
    for number in range(count):
        if number % 5 == 4:
            edited = made[generator.randrange(len(made))].split()
            for _ in range(generator.randrange(1, 6)):
                edited[generator.randrange(len(edited))] = generator.choice(words)
            made.append(" ".join(edited))
        else:
            made.append(" ".join(generator.choices(words, k=generator.randrange(60, 240))))
    return made


def near(rounds: int, count: int) -> list[dict[str, Any]]:
    texts = copies(count)
    size = corpora.size_of(texts) / 1e6
    parameters = PARAMETERS["fineweb"]
    found: dict[str, int] = {}

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            signed = Signatures.write(texts, parameters, Path(folder))
            found["seedbed"] = int(find_clusters(signed, [len(text) for text in texts], parameters).dropped.sum())

    works: dict[str, Callable[[], object]] = {"seedbed": ours}
    if find_spec("rensa"):
        works["rensa and union-find"] = lambda: found.update(rensa=rensa_clusters(texts, parameters))
    if find_spec("datatrove"):
        works["datatrove, words between white space"] = lambda: found.update(datatrove=datatrove_clusters(texts))
    grown: dict[str, float] = {}

    def noted(name: str, work: Callable[[], object]) -> Callable[[], object]:
        return lambda: grown.update({name: grown_by(work)})

    rows = compare({name: noted(name, work) for name, work in works.items()}, size, count, rounds)
    for row in rows:
        row["grown_megabytes"] = round(grown[row["library"]])
    print_rows(f"Near-duplicates of {count:,} documents, texts to clusters", rows)
    show(f"dropped: {found}")
    return rows


def recall() -> list[dict[str, Any]]:
    with zipfile.ZipFile(corpora.SHARED / "dedup" / "docs_in_five_versions.zip") as archive:
        texts = [normalize(archive.read(name).decode("utf-8", "replace")) for name in sorted(archive.namelist())]
    texts = [text for text in texts if text]
    rows = []
    for name in ("verified", "fineweb", "text-dedup", "duplodocus"):
        chosen = PARAMETERS[name]
        parameters = Parameters(chosen.bands, chosen.rows, 0.8)
        with tempfile.TemporaryDirectory() as folder:
            signed = Signatures.write(texts, parameters, Path(folder))
            first = find_clusters(signed, [len(text) for text in texts], parameters).first
            pairs = np.stack(np.triu_indices(len(texts), 1), axis=1)
            truth = signed.similarity(pairs)
        together = first[pairs[:, 0]] == first[pairs[:, 1]]
        row: dict[str, Any] = {"parameters": name, "bands x rows": f"{chosen.bands} x {chosen.rows}"}
        for low in (0.7, 0.8, 0.85, 0.9, 0.95):
            high = 0.8 if low == 0.7 else low + 0.05 if low < 0.95 else 1.01
            band = (truth >= low) & (truth < high)
            row[f"{low} to {min(high, 1):.2f}"] = f"{together[band].mean():.3f} of {band.sum()}"
        row["recall"] = float(together[truth >= 0.8].mean())
        row["precision of links"] = _linked(first, pairs[truth >= 0.8], pairs[together])
        rows.append(row)
    print_rows(
        f"Pairs of {len(texts)} documents that are put together, by true similarity; links verified at 0.8", rows
    )
    return rows


def _linked(first: Any, similar: Any, together: Any) -> float:
    """The share of pairs put together that chains of truly similar pairs link."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(similar)), (similar[:, 0], similar[:, 1])), shape=(len(first), len(first)))
    labels = connected_components(graph, directed=False)[1]
    return float((labels[together[:, 0]] == labels[together[:, 1]]).mean())


def crawl() -> list[Path]:
    return sorted((corpora.SHARED / "warc").glob("*.warc.gz"))


def pages() -> list[str]:
    """The HTML of two small real crawls."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    found = []
    for path in crawl():
        with gzip.open(path) as stream:
            records = ArchiveIterator(io.BytesIO(stream.read()), record_types=WarcRecordType.response)
            found += [record.reader.read().decode("utf-8", "replace") for record in records]
    return found


def extraction(rounds: int) -> list[dict[str, Any]]:
    crawled, gold = pages(), gold_pages(documents(4), 12)
    rows = []
    for name, html in (("two crawls", crawled), ("known", [one.page for one in gold])):
        works: dict[str, Callable[[], object]] = {"seedbed": _each(html_text, html)}
        if find_spec("trafilatura"):
            works["trafilatura"] = _each(trafilatura_text, html)
        found = compare(works, corpora.size_of(html) / 1e6, len(html), rounds)
        print_rows(f"Main text of {len(html)} pages: {name}", found)
        rows += [{"pages": name, **row} for row in found]
    return [*rows, *_extraction_quality(gold)]


def _each(work: Callable[[str], object], texts: Sequence[str]) -> Callable[[], object]:
    return lambda: [work(text) for text in texts]


def _extraction_quality(gold: Sequence[GoldPage]) -> list[dict[str, Any]]:
    extractors: dict[str, Callable[[str], str]] = {"seedbed": lambda page: html_text(page)[1]}
    if find_spec("trafilatura"):
        from trafilatura import extract

        extractors["trafilatura, as datatrove calls it"] = trafilatura_text
        extractors["trafilatura, its defaults"] = lambda page: extract(page) or ""
        extractors["trafilatura, favor_recall"] = lambda page: extract(page, favor_recall=True) or ""
    rows = []
    for name, extractor in extractors.items():
        by_layout: dict[str, list[float]] = {}
        for one in gold:
            by_layout.setdefault(one.layout, []).append(f1(extractor(one.page), one.text))
        means = {layout: statistics.mean(values) for layout, values in by_layout.items()}
        rows.append(
            {"library": name, "F1": f"{statistics.mean(means.values()):.3f}"}
            | {layout: f"{mean:.3f}" for layout, mean in means.items()}
        )
    print_rows(f"F1 of runs of four words on {len(gold)} pages of known main text, by layout", rows)
    return rows


def warc(rounds: int) -> list[dict[str, Any]]:
    """The whole of `fineweb`, from archives to signatures."""
    times = 10
    sources = [str(path) for path in crawl()] * times
    count, size = times * len(pages()), times * corpora.size_of(pages()) / 1e6
    config = CurationConfig(preset="fineweb", languages=("en",))
    kept: dict[str, int] = {}

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            task = task_of(config, Path(folder), 1)
            parts = [
                Path(folder) / result_of(judge_unit(task, unit.to_json()))[1]
                for unit in plan_units(sources, config.reading.archives)
            ]
            rows = [row for table in read_tables(parts, ["text", "kept", "rule"]) for row in table.to_pylist()]
        texts = [row["text"] if row["kept"] is None else row["kept"] for row in rows if row["rule"] is None]
        _native.minhash(texts, 5, PERMUTATIONS)
        kept["seedbed"] = len(texts)

    works: dict[str, Callable[[], object]] = {"seedbed": ours}
    if all(map(find_spec, ("datatrove", "trafilatura"))):
        theirs = datatrove_fineweb(pages, times, own_words=find_spec("spacy") is not None)
        works["datatrove"] = lambda: kept.update(datatrove=theirs())
    rows = compare(works, size, count, rounds)
    print_rows("The preset fineweb, from WARC to signatures", rows)
    show(f"kept of {count} pages: {kept}")
    return rows


def decontamination() -> list[dict[str, Any]]:
    """What is found of planted evaluation items, and what is found where there is none."""
    generator = random.Random(0)
    with open(corpora.SHARED / "instructions" / "gsm8k-test.jsonl", encoding="utf-8") as file:
        items = [next(value for value in json.loads(line).values() if isinstance(value, str)) for line in file]
    with zipfile.ZipFile(corpora.SHARED / "text" / "abc.zip") as archive:
        news = "".join(archive.read(f"abc/{name}.txt").decode("utf-8", "replace") for name in ("rural", "science"))
    hosts = [news[at : at + 3000] for at in range(0, len(news) - 3000, 3000)]
    finder = Decontaminator(((str(n), item) for n, item in enumerate(items)), DecontaminationConfig())

    def edited(item: str) -> str:
        words = item.split()
        for place in generator.sample(range(len(words)), max(1, len(words) // 10)):
            words[place] = "something"
        return " ".join(words)

    changes: dict[str, Callable[[str], str]] = {
        "as they are": str,
        "re-cased": str.upper,
        "re-punctuated": lambda item: item.replace(",", " --").replace(".", " ;\n").replace("'", "’"),
        "one word in ten replaced": edited,
    }
    known = {int(name) for name in finder.names}
    rows = []
    for change, apply in changes.items():
        planted = [
            f"{hosts[n % len(hosts)][:1500]} {apply(items[n])} {hosts[n % len(hosts)][1500:]}" for n in sorted(known)
        ]
        found = sum(one is not None for one in finder.find(planted))
        rows.append({"texts": f"questions planted, {change}", "found": f"{found} of {len(planted)}"})
    with open(corpora.SHARED / "instructions" / "gsm8k-train.jsonl", encoding="utf-8") as file:
        siblings = [json.loads(line)["question"] for line in file]
    clean = {"news": hosts, "English of all kinds": documents(8), "questions of the training set": siblings}
    for name, texts in clean.items():
        rows.append({"texts": name, "found": f"{sum(one is not None for one in finder.find(texts))} of {len(texts)}"})
    print_rows(f"Of {len(known)} questions of gsm8k's test set", rows)
    return rows


# Languages that are written about as they are named: ISO 639-3, as the files are called, and 639-1, as found.
LANGUAGES = {
    "eng": "en", "fra": "fr", "deu": "de", "spa": "es", "ita": "it", "nld": "nl", "por_PT": "pt", "rus": "ru",
    "pol": "pl", "fin": "fi", "swe": "sv", "dan": "da", "nob": "no", "jpn": "ja", "kor": "ko", "cmn_hans": "zh",
    "arb": "ar", "heb": "he", "tur": "tr", "ces": "cs", "hun": "hu", "vie": "vi", "tha": "th", "est": "et", "cat": "ca",
    "ind": "id", "ukr": "uk", "ell_monotonic": "el", "ron_1993": "ro", "bul": "bg", "hin": "hi", "lit": "lt",
}  # fmt: skip


def languages() -> list[dict[str, Any]]:
    """How often the language of a stretch of text is found, by length; what is not told is neither right nor wrong."""
    rows = []
    with zipfile.ZipFile(corpora.SHARED / "text" / "udhr2.zip") as archive:
        names = {Path(name).stem: name for name in archive.namelist() if name.endswith(".txt")}
        texts = {
            code: normalize(archive.read(names[stem]).decode("utf-8", "replace"))[500:]
            for stem, code in LANGUAGES.items()
            if stem in names
        }
    for code, text in texts.items():
        row: dict[str, Any] = {"language": code}
        for length in (150, 300, 600, 1200):
            found = [detect_language(text[at : at + length]) for at in range(0, len(text) - length, length)]
            told = [one for one in found if one]
            right = sum(one == code for one in told)
            row[f"{length} characters"] = f"{right}/{len(told)} of {len(found)}"
        rows.append(row)
    print_rows("Language identification: right / told of all, on the Universal Declaration of Human Rights", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "rules, signatures, near, recall, decontamination, languages, extraction, warc"
    parser.add_argument("parts", nargs="*", help=f"{names}; all when none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    works: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "rules": lambda: rules(options.rounds),
        "signatures": lambda: signatures(options.rounds),
        "near": lambda: near(options.rounds, options.documents),
        "recall": recall,
        "decontamination": decontamination,
        "languages": languages,
        "extraction": lambda: extraction(options.rounds),
        "warc": lambda: warc(options.rounds),
    }
    results = {part: works[part]() for part in (options.parts or works)}
    if options.json:
        packages = [name for name in ("datatrove", "datasketch", "rensa", "spacy") if find_spec(name)]
        write_results(options.json, {**circumstances(packages), **results})


if __name__ == "__main__":
    main()
