"""What went in: the corpus and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..curation.storage import read_rows
from . import charts, numbers
from .evidence import Evidence
from .page import Block, Figure, Pieces, Quotes, Section, Table

_EXCERPT = 280
_EXAMPLES = 6
_LANGUAGES = 5
_SPLITS = ("train", "validation", "test")


def corpus(run: Evidence) -> Section | None:
    if "corpus" not in run.artifacts:
        return None
    metrics = run.metrics["corpus"]
    read, drops, languages = metrics["read"], metrics["drops"], metrics["languages"]
    kept = sum(split["documents"] for split in metrics["kept"].values())
    lead = (
        f"{numbers.count(read['documents'], 'document')} ({numbers.size(read['bytes'])}) came from "
        f"{numbers.count(metrics['sources'], 'source')}, and {numbers.count(kept)} of them "
        f"({numbers.percent(kept / max(read['documents'], 1))}) were kept. "
    )
    if drops:
        lead += (
            f"The other {numbers.count(read['documents'] - kept)} are not lost: they lie in corpus/rejected with the "
            f"rule that refused each of them, most often “{drops[0]['rule']}”."
        )
    else:
        lead += "Nothing was refused."
    blocks: list[Block] = []
    if drops:
        rows = [{"rule": drop["rule"], "documents": drop["documents"]} for drop in drops]
        blocks.append(Figure(
            "What was refused, by rule", [("", charts.bars(rows, "rule", "documents", "documents", numbers.count))],
            "A document is refused by the first rule that it breaks.",
        ))  # fmt: skip
    blocks.append(_splits(metrics, kept))
    if len(languages) > 1:
        blocks.append(Figure(
            "Languages",
            [("", charts.bars(_languages(languages), "language", "documents", "kept documents", numbers.count))],
            "As detected, document by document; of short texts and of code it often cannot be told.",
        ))  # fmt: skip
    if drops:
        blocks.append(_refused(run, [drop["rule"] for drop in drops]))
    return Section("corpus", "Text", lead, blocks, run.stamp("corpus"))


def _languages(found: dict[str, int]) -> list[dict[str, Any]]:
    """The commonest languages, the rest together."""
    counts = list(found.items())
    shown, rest = counts[:_LANGUAGES], counts[_LANGUAGES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(number for _, number in rest)))
    return [{"language": code or "not detected", "documents": number} for code, number in shown]


def _splits(metrics: dict[str, Any], kept: int) -> Table:
    rows = [
        (name, split["documents"], numbers.percent(split["documents"] / max(kept, 1)), numbers.size(split["bytes"]))
        for name, split in metrics["kept"].items()
    ]
    caption = (
        "Training sees the first split alone. Choices are made on validation; what this page says of held-out "
        "text and search is measured on validation or test, as it is named there."
    )
    return Table("What was kept, by split", ("Split", "Documents", "Share", "Text"), rows, caption)


def _refused(run: Evidence, rules: list[str]) -> Quotes:
    """The first document that each rule refused, for the rules that refused most."""
    wanted = rules[:_EXAMPLES]
    found: dict[str, dict[str, Any]] = {}
    for row in read_rows(run.path / "corpus" / "rejected"):
        if row["rule"] in wanted:
            found.setdefault(row["rule"], row)
        if len(found) == len(wanted):
            break
    items = [(_reason(found[rule]), _excerpt(found[rule]["text"])) for rule in wanted if rule in found]
    return Quotes(
        "Examples of what was refused",
        items,
        "The first of each rule, with what was measured and the bound.",
        wide=True,
    )


def _reason(row: dict[str, Any]) -> str:
    parts = [f"{row['rule']} · {row['id']}"]
    if row["value"] is not None:
        bound = f", bound {numbers.value(row['threshold'])}" if row["threshold"] is not None else ""
        parts.append(f"measured {numbers.value(row['value'])}{bound}")
    elif row.get("detail"):
        parts.append(row["detail"])
    return " · ".join(parts)


def _excerpt(text: str) -> str:
    if not text.strip():
        return "(no text)"
    return text if len(text) <= _EXCERPT else text[:_EXCERPT].rstrip() + " …"


def tokenizer(run: Evidence) -> Section | None:
    if "tokenizer" not in run.artifacts:
        return None
    metrics = run.metrics["tokenizer"]
    found = metrics["fertility"]
    held, train = found["validation"], found["train"]
    lead = (
        f"A byte-level BPE of {numbers.count(metrics['vocab_size'], 'token')}, learned from the training documents. On "
        f"text that it has not seen {_cost(held, 'a token carries', 'and a word costs')}; on its own training text "
        f"{_cost(train)}."
    )
    blocks: list[Block] = [fertility_table({name: found[name] for name in _SPLITS if name in found})]
    if "tokens" in run.artifacts:
        blocks.append(_shards(run.metrics["tokens"]))
    sample = _cut_sentences(run)
    if sample.items:
        blocks.append(sample)
    return Section("tokenizer", "Tokenizer", lead, blocks, run.stamp("tokenizer", "tokens"))


def _cost(found: dict[str, Any], token: str = "", word: str = "and") -> str:
    """ "3.1 bytes and 1.5 tokens", without the tokens where white space parts no words."""
    text = f"{token} {numbers.fixed(found['bytes_per_token'])} bytes"
    if found["tokens_per_word"] is not None:
        text += f" {word} {numbers.fixed(found['tokens_per_word'])} tokens"
    return text.strip()


def fertility_table(found: Mapping[str, Mapping[str, Any]], *, wide: bool = False) -> Table:
    """What `fertility` found, a column for each of the texts."""
    names = list(found)
    measures = (
        ("Tokens per word (fertility)", "tokens_per_word", numbers.fixed),
        ("Bytes per token", "bytes_per_token", numbers.fixed),
        ("Characters per token", "characters_per_token", numbers.fixed),
        ("Words cut into several tokens", "continued_words", numbers.percent),
        ("Unknown tokens", "unknown_share", numbers.percent),
        ("Rényi efficiency", "renyi_efficiency", numbers.percent),
        ("Tokens never used", "unused_tokens", numbers.count),
    )
    rows = [
        (title, *(show(found[name][key]) for name in names))
        for title, key, show in measures
        if all(found[name].get(key) is not None for name in names)
    ]
    return Table(
        "What text costs", ("Measure", *(name[:1].upper() + name[1:] for name in names)), rows,
        "Words stand between white space. Rényi efficiency is 100% when all tokens are equally frequent. The nearer "
        "the columns, the less the vocabulary is fitted to its own text.",
        wide=wide,
    )  # fmt: skip


def _shards(metrics: dict[str, Any]) -> Table:
    rows = [
        (name, metrics[name]["documents"], metrics[name]["tokens"], numbers.size(metrics[name]["text_bytes"]))
        for name in _SPLITS
        if name in metrics
    ]
    return Table(
        "Tokens by split", ("Split", "Documents", "Tokens", "Text"), rows,
        "Each document ends with a token of its own, which is counted here.",
    )  # fmt: skip


def _cut_sentences(run: Evidence) -> Pieces:
    from ..tokenizers import Tokenizer

    tokenizer = Tokenizer.load(run.path / "tokenizer")
    items = []
    for split in ("train", "validation"):
        sentence = _sentence(run, split)
        if sentence:
            ids = tokenizer.encode(sentence, parse_special=False)
            pieces = [tokenizer.decode_bytes([int(one)]).decode("utf-8", "replace") for one in ids]
            words, tokens = numbers.count(len(sentence.split()), "word"), numbers.count(len(ids), "token")
            items.append((f"{split}: {words}, {tokens}", pieces))
    return Pieces(
        "How a sentence is cut", items, "Each colour is one token; a space belongs to the word after it.", wide=True
    )


def _sentence(run: Evidence, split: str) -> str:
    """The first sentence of prose in the split that is long enough to show something and fits in a few lines."""
    if "corpus" not in run.artifacts:
        return ""
    for row in read_rows(run.path / "corpus" / split, ["text"]):
        for line in row["text"].splitlines():
            sentence = str(line.strip())
            words = sum(word.strip("().,:;'\"").isalpha() for word in sentence.split())
            if 70 <= len(sentence) <= 220 and sentence.endswith(".") and words >= 0.8 * len(sentence.split()):
                return sentence
    return ""
