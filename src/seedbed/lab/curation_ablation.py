"""What a step of curation is worth: the same small model trained on the corpus with the step and without it.

Both are scored, in bits per byte, on text that is known to be good. One tokenizer, made from the corpus with all steps,
serves all, and every model sees the same number of tokens, so that only the text differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.artifacts import Workspace, build_artifact, open_artifact
from ..core.config import build
from ..core.console import show
from ..core.devices import best_device
from ..core.errors import ConfigError
from ..core.randomness import torch_generator
from ..curation import Corpus, CurationConfig, corpus_inputs, curate_corpus
from ..curation.filters import rules_of
from ..datasets.loader import PackedBatches
from ..datasets.shards import TokenShards, shard_corpus
from ..evaluation.likelihood import likelihood
from ..models import Decoder
from ..recipes import PretrainingConfig
from ..tokenizers import Tokenizer, train_bpe
from ..tokenizers.chat import CHATML_TOKENS, END_OF_TEXT, PAD
from ..training import NextToken, Trainer

# Each step and how a configuration looks without it.
WITHOUT: dict[str, Callable[[CurationConfig], Mapping[str, Any]]] = {
    "rules": lambda config: {"rules": dict.fromkeys(rules_of(config.preset, config.rules))},
    "languages": lambda config: {"languages": None},
    "quality-model": lambda config: {"quality_model": None},
    "exact-duplicates": lambda config: {"deduplicate": False},
    "near-duplicates": lambda config: {"near_duplicates": {"parameters": "none"}},
    "repeated-lines": lambda config: {"repeated_line_characters": None},
    "repeated-substrings": lambda config: {"repeated_substring_bytes": None},
    "personal-data": lambda config: {"personal_data": {"kinds": []}},
    "banned-words": lambda config: {"banned_words": None},
    "banned-addresses": lambda config: {"banned_addresses": None},
    "evaluation-sets": lambda config: {"decontamination": {"sets": []}},
}
_GOOD_SECTION = 2_000  # characters, so that one good file is documents enough


@dataclass(frozen=True)
class Ablated:
    """
    Attributes:
        without: the step that was left out, "" for none.
        documents, tokens: of the training split.
        epochs: how often training saw it.
        bits_per_byte: on the good text.
    """

    without: str
    documents: int
    tokens: int
    epochs: float
    bits_per_byte: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ablate(
    config: CurationConfig,
    sources: Sequence[str],
    good: Sequence[str],
    steps: Sequence[str],
    pretraining: PretrainingConfig,
    out: str | Path,
    vocab_size: int = 2048,
) -> list[Ablated]:
    """Train with all steps, then without each of `steps`; corpora and shards stay in the folder `out`.

    Raises:
        ConfigError: an unknown step.
    """
    for step in steps:
        if step not in WITHOUT:
            raise ConfigError(f"unknown step '{step}'", hint=f"There are: {', '.join(WITHOUT)}.")
    out = Path(out)
    variants = {"": config} | {step: config.replace(**WITHOUT[step](config)) for step in steps}
    folders = {step: out / (f"without-{step}" if step else "all") for step in variants}
    for step, variant in variants.items():
        _curate(variant, sources, folders[step])
    corpus = Corpus.open(folders[""])
    tokenizer = train_bpe(
        corpus.texts("train"), vocab_size, "llama3", CHATML_TOKENS, 2, None, eos_token=END_OF_TEXT, pad_token=PAD
    )
    held_out = {"preset": "none", "max_document_characters": _GOOD_SECTION}
    _curate(build(CurationConfig, held_out), good, out / "good")
    shard_corpus(out / "good", tokenizer, out / "good-tokens")
    target = TokenShards.open(out / "good-tokens" / "train", tokenizer.fingerprint)
    results = []
    for step, folder in folders.items():
        results.append(_train(step, folder, tokenizer, target, pretraining))
        show(f"without {step or 'nothing'}: {results[-1].bits_per_byte:.4f} bits per byte")
    return results


def _curate(config: CurationConfig, sources: Sequence[str], folder: Path) -> None:
    def produce(work: Workspace) -> dict[str, Any]:
        return curate_corpus(config, sources, work)

    build_artifact(folder, "corpus", config, corpus_inputs(config, sources), produce)


def _train(step: str, corpus: Path, tokenizer: Tokenizer, target: TokenShards, config: PretrainingConfig) -> Ablated:
    shards = corpus.with_name(f"{corpus.name}-tokens")
    shard_corpus(corpus, tokenizer, shards)
    train = TokenShards.open(shards / "train", tokenizer.fingerprint)
    seed = config.training.seed
    model = Decoder(config.model(tokenizer.vocab_size), torch_generator(seed, "weights")).to(best_device())
    scratch = corpus.with_name(f".{corpus.name}-training")
    scratch.mkdir(exist_ok=True)
    trainer = Trainer(
        config.training, model, NextToken(),
        PackedBatches(train, config.training.batch_size, config.context_length, seed),
        scratch=scratch, metrics_path=scratch / "metrics.jsonl", name=f"without {step or 'nothing'}",
        evaluate=lambda trained: {},
    )  # fmt: skip
    trained = trainer.run()
    found = likelihood(model, target, config.context_length, max_tokens=config.evaluation_tokens)
    documents = open_artifact(corpus, "corpus").metrics["kept"]["train"]["documents"]
    return Ablated(step, documents, len(train), trained.metrics["counted"] / len(train), found.bits_per_byte)
