"""`seedbed tokenizer count`, `merge` and `train`: from texts to counts of words, and from these to a tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.console import progress, show
from ..core.errors import ConfigError

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer
    from ..tokenizers.word_counts import Cut, WordCounts

ALGORITHMS = ("bpe", "wordpiece", "unigram")

_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", help="Corpora that `curate` made, or folders and files of text as it reads them."
    ),
]
_Algorithm = Annotated[str, typer.Option(help=f"The algorithm to train: {', '.join(ALGORITHMS)}.")]
_Pattern = Annotated[
    str, typer.Option(help="How text is cut into words for bpe: gpt2, cl100k, llama3, o200k or qwen2.")
]
_Cased = Annotated[bool, typer.Option("--cased", help="Keep upper case and accents (wordpiece).")]
_Memory = Annotated[str, typer.Option(help="What counting may take (512MB, 2GB); past it words go to temporary files.")]
_Temporary = Annotated[
    Path | None, typer.Option("--temporary", help="Folder for those files.", show_default="the system's")
]
_Threads = Annotated[int, typer.Option(min=0, help="0: all processors. The result does not depend on it.")]


def register(app: typer.Typer) -> None:
    for command in (count, merge, train):
        app.command()(command)


def count(
    sources: _Sources,
    out: Annotated[Path, typer.Option("--out", help="The file of counts to write.")],
    algorithm: _Algorithm = "bpe",
    pattern: _Pattern = "llama3",
    cased: _Cased = False,
    min_count: Annotated[int, typer.Option(min=1, help="Leave out words that are rarer than this.")] = 1,
    memory: _Memory = "1GB",
    temporary: _Temporary = None,
    threads: _Threads = 0,
) -> None:
    """Count the words of texts, in bounded memory: all that training needs of them, in one file."""
    from ..tokenizers import word_counts

    counts = word_counts.count_words(
        _texts(sources),
        _cut(algorithm, pattern, cased),
        threads or None,
        memory_bytes=parse_memory(memory),
        min_count=min_count,
        directory=temporary,
    )
    word_counts.write(out, counts)
    _report(counts)
    show(f"Written to {out}. Train on it: seedbed tokenizer train {out} --vocab-size 32768 --out DIR")


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="COUNTS...", help="Files that `count` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The file of counts to write.")],
    min_count: Annotated[int, typer.Option(min=1, help="Leave out words that are rarer than this in all.")] = 1,
    memory: _Memory = "1GB",
    temporary: _Temporary = None,
) -> None:
    """Add counts up: the same as counting all their texts together."""
    from ..tokenizers import word_counts

    parts = [word_counts.read(path) for path in files]
    counts = word_counts.merge(parts, min_count, memory_bytes=parse_memory(memory), directory=temporary)
    word_counts.write(out, counts)
    _report(counts)
    show(f"Written to {out}.")


def train(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE_OR_COUNTS...", help="Files that `count` wrote, corpora, or folders and files of text."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for tokenizer.json, or the path of one.")],
    vocab_size: Annotated[int, typer.Option(min=1, help="Tokens, with the alphabet and the special tokens.")] = 32768,
    algorithm: _Algorithm = "bpe",
    pattern: _Pattern = "llama3",
    cased: _Cased = False,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", help="A special token; give it often.", show_default="the algorithm's"),
    ] = None,
    min_frequency: Annotated[
        int, typer.Option(min=0, help="A pair must occur this often to become a token (bpe, wordpiece).")
    ] = 2,
    memory: _Memory = "1GB",
    temporary: _Temporary = None,
    threads: _Threads = 0,
) -> None:
    """Train a tokenizer on texts, on counts of words, or on both together."""
    from ..tokenizers import word_counts

    trainer = _trainer(algorithm)
    budget = parse_memory(memory)
    counted = [source for source in sources if word_counts.is_counts_file(source)]
    texts = [source for source in sources if source not in counted]
    parts = [word_counts.read(path) for path in counted]
    if texts:
        cut = _cut(algorithm, pattern, cased)
        parts.append(
            word_counts.count_words(_texts(texts), cut, threads or None, memory_bytes=budget, directory=temporary)
        )
    counts = parts[0] if len(parts) == 1 else word_counts.merge(parts, memory_bytes=budget, directory=temporary)
    _report(counts)
    options: dict[str, Any] = {} if special is None else {"special_tokens": tuple(special)}
    options |= {"threads": threads or None} if algorithm == "unigram" else {"min_frequency": min_frequency}
    tokenizer = trainer(counts, vocab_size, **options)
    tokenizer.save(out)
    show(f"{tokenizer.vocab_size:,} tokens, written to {out}.")
    if tokenizer.vocab_size < vocab_size:
        why = (
            "the texts yield no more pieces"
            if algorithm == "unigram"
            else f"no further pair occurs {min_frequency} times"
        )
        show(f"That is less than {vocab_size:,}: {why}.")


def parse_memory(text: str) -> int:
    """Bytes of a size such as "512MB" or "1.5 GB" (powers of 1024).

    Raises:
        ConfigError: it is none, or too little to work in.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise ConfigError(f"'{text}' is no amount of memory", hint="Write it as 512MB or 2GB.")
    size = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
    if size < 1 << 20:
        raise ConfigError(f"{text} of memory is too little to work in", hint="Give 1MB or more.")
    return size


def _cut(algorithm: str, pattern: str, cased: bool) -> Cut:
    from ..tokenizers.normalizers import BertNormalizer
    from ..tokenizers.unigram import metaspace_cut
    from ..tokenizers.word_counts import pattern_cut
    from ..tokenizers.wordpiece import bert_cut

    _trainer(algorithm)
    if algorithm == "unigram":
        return metaspace_cut()
    return pattern_cut(pattern) if algorithm == "bpe" else bert_cut(BertNormalizer(lowercase=not cased))


def _trainer(algorithm: str) -> Callable[..., Tokenizer]:
    from ..tokenizers.bpe import train_bpe_on_counts
    from ..tokenizers.unigram import train_unigram_on_counts
    from ..tokenizers.wordpiece import train_wordpiece_on_counts

    trainers: dict[str, Callable[..., Tokenizer]] = dict(
        zip(ALGORITHMS, (train_bpe_on_counts, train_wordpiece_on_counts, train_unigram_on_counts), strict=True)
    )
    if algorithm not in trainers:
        raise ConfigError(f"unknown algorithm '{algorithm}'", hint=f"Known: {', '.join(trainers)}.")
    return trainers[algorithm]


def _texts(sources: Sequence[str]) -> Iterator[str]:
    """The training split of corpora, and all documents of other sources; says what cannot be read."""
    from ..curation import Corpus
    from ..curation.blobs import ReadingConfig
    from ..curation.documents import Document
    from ..curation.sources import check_sources, read_sources

    corpora = [source for source in sources if (Path(source) / "train").is_dir()]
    others = [source for source in sources if source not in corpora]
    if others:
        check_sources(others)
    refused: Counter[str] = Counter()
    with progress("documents") as task:
        for source in corpora:
            for text in Corpus.open(source).texts("train"):
                task.advance()
                yield text
        for piece in read_sources(others, ReadingConfig()) if others else ():
            if isinstance(piece, Document):
                task.advance()
                yield piece.text
            else:
                refused[piece.rule] += 1
    if refused:
        reasons = ", ".join(f"{rule} ({number:,})" for rule, number in sorted(refused.items()))
        show(f"Not read: {reasons}.", style="yellow")


def _report(counts: WordCounts) -> None:
    left_out = f", without those that occur less than {counts.min_count} times" if counts.min_count > 1 else ""
    show(f"{len(counts):,} words that occur {counts.total:,} times{left_out}.")
    if counts.skipped:
        show(f"Left out: {counts.skipped:,} unbroken stretches of over a million bytes.", style="yellow")
