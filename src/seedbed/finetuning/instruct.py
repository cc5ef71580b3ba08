"""Instruction tuning: full and by LoRA, on the shared trainer, with the loss on the answers alone.

B sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from ..core.artifacts import Workspace
from ..core.config import Config
from ..core.errors import ConfigError, DataError, FormatError
from ..core.ragged import Ragged
from ..core.randomness import numpy_generator, torch_generator
from ..datasets.instructions import (
    EncodedInstructions,
    InstructionConfig,
    encode_instructions,
    encode_prompt,
    hold_out,
    question_of,
    read_instructions,
)
from ..datasets.jsonl import Row, say_left_out, usable_rows, write_rows
from ..datasets.loader import Batch, PaddedBatches
from ..models import Decoder, load_model, save_model
from ..tokenizers.chat import END_OF_TURN
from ..training import Trainer, TrainerConfig, TrainResult
from ..training.objectives import token_nats
from .adapter_files import save_adapter
from .adapters import add_adapter, merge_adapter
from .comparison import Comparison, ComparisonConfig, TuningMethod, compare
from .lora import LoRAConfig
from .packing import AnswerTokens, ExampleBatches
from .quantization import quantize_nf4
from .quantized_files import is_quantized, load_quantized

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer

TRAIN_ROWS, HELD_OUT_ROWS = "instructions/train.jsonl", "instructions/validation.jsonl"

# (model, tokenizer, prompts as ids, most new tokens) -> the greedy answers as ids, with the end token if they ended
Respond = Callable[[Decoder, "Tokenizer", list[np.ndarray], int], Sequence[np.ndarray]]


class InstructConfig(Config):
    """How a base model learns to answer."""

    instructions: InstructionConfig = InstructionConfig()
    full: TrainerConfig | None = Field(
        TrainerConfig(steps=150, batch_size=32, learning_rate=2e-3, checkpoint_every=50, best_by="answer_loss"),
        description="training of all weights; none: the adapter's merged weights become the model",
    )
    adapter: TrainerConfig | None = Field(
        TrainerConfig(
            steps=60, batch_size=32, learning_rate=5e-3, optimizer="adamw", checkpoint_every=50, best_by="answer_loss"
        ),
        description="training of the LoRA adapter; none: no adapter is made",
    )
    lora: LoRAConfig = LoRAConfig()
    quantized: bool = Field(False, description="the adapter's base lies in four bits (QLoRA)")
    noise: float = Field(0.0, ge=0, description="NEFTune's noise on embeddings while training; 0: none")
    replay: float = Field(0.0, ge=0, lt=1, description="share of examples that are plain text of the corpus")
    held_out_rows: int = Field(256, ge=1, description="validation rows that the loss is measured on")
    sampled_rows: int = Field(32, ge=0, description="held-out questions answered greedily, to see whether answers end")
    max_new_tokens: int = Field(64, ge=1, description="longest of these answers")
    seed: int = 0

    def by_method(self, method: str) -> InstructConfig:
        """This config for one method alone: "full", "lora", "dora" or "qlora".

        Raises: ConfigError for another.
        """
        if method not in get_args(TuningMethod):
            raise ConfigError(f"there is no method '{method}'", hint="Take full, lora, dora or qlora.")
        if method == "full":
            return self.replace(adapter=None)
        lora = self.lora.replace(magnitudes=True) if method == "dora" else self.lora
        return self.replace(full=None, lora=lora, quantized=method == "qlora" or self.quantized)

    @model_validator(mode="after")
    def _something_to_do(self) -> InstructConfig:
        if self.full is None and self.adapter is None:
            raise ValueError("full and adapter are both none: there is nothing to train")
        return self


def compare_on_files(
    config: ComparisonConfig, base: Path, data: Path, texts: Mapping[str, str], scratch: Path
) -> Comparison:
    """`compare` of the model in `base` on a JSONL of instructions, a tenth of whose rows is held out."""
    from ..tokenizers import Tokenizer

    tokenizer = Tokenizer.load(base)

    def load() -> Decoder:
        return for_chat(load_decoder(base), tokenizer)

    sides, context = hold_out(usable_rows(read_instructions(data)), 0.1, config.seed), load().config.context_length
    train, spared = (encode_instructions(some, tokenizer, context) for some in sides)
    say_left_out(train.left_out + spared.left_out)
    return compare(config, load, tokenizer, train, spared, texts, scratch)


def finetune(
    config: InstructConfig,
    base: Path,
    train_rows: Sequence[Row],
    held_out_rows: Sequence[Row],
    workspace: Workspace,
    *,
    texts: Iterable[str] = (),
    respond: Respond | None = None,
) -> dict[str, Any]:
    """Fine-tune the base model in `base`, fully and by LoRA; write the model, `lora/` (PEFT's format) and the rows.

    Both begin at the base model; the fully tuned one goes on along the road, and the rows with it.

    Args:
        train_rows, held_out_rows: as `instruction_rows` or `read_instructions` give them.
        texts: documents to replay, needed if `config.replay` is not 0.
        respond: greedy generation, from the floor above; without it `ended_share` is not measured.

    Returns:
        `rows`, `too_long`, `without_answer`, `held_out_rows`, and for `full` and `lora` each: `answer_loss_before`,
        `answer_loss` (nats per answer token, held out), `steps`, `loss`, `trainable_parameters`, `ended_share`.

    Raises:
        DataError: no row can be used.
    """
    from ..tokenizers import Tokenizer

    if config.full is not None and is_quantized(base):
        raise ConfigError("weights in four bits do not train", where=base, hint="Train an adapter: method qlora.")
    tokenizer = Tokenizer.load(base)
    model = for_chat(load_decoder(base), tokenizer)
    context, pad_id = model.config.context_length, _pad_id(model)
    train = encode_instructions(train_rows, tokenizer, context)
    held_out = encode_instructions(_subset(held_out_rows, config), tokenizer, context)
    say_left_out(train.left_out + held_out.left_out)
    examples = _with_replay(train, texts, tokenizer, context, config)
    for name, rows in ((TRAIN_ROWS, train_rows), (HELD_OUT_ROWS, held_out_rows)):
        (workspace.path / name).parent.mkdir(exist_ok=True)
        write_rows(workspace.path / name, rows)

    def evaluate(trained: nn.Module) -> dict[str, float]:
        batches = PaddedBatches(held_out.ids, held_out.answers, 64, context, pad_id)
        return {"answer_loss": answer_loss(trained, batches.once())}

    def train_on(trained: Decoder, trainer: TrainerConfig, name: str, metrics: Path) -> dict[str, Any]:
        batches = ExampleBatches(*examples, trainer.batch_size, trainer.seed)
        before = evaluate(trained)["answer_loss"]
        result = Trainer(
            trainer, trained, AnswerTokens(config.noise), batches,
            scratch=workspace.scratch / name, metrics_path=metrics, evaluate=evaluate, name=f"fine-tune ({name})",
            accept_changes=workspace.accept_changes,
        ).run()  # fmt: skip
        workspace.measurements[name] = result.measurements
        return _summary(result, trained, before) | _ended(trained, tokenizer, held_out_rows, config, respond)

    metrics: dict[str, Any] = {
        "rows": len(train), "held_out_rows": len(held_out), "replayed_rows": len(examples[0]) - len(train),
        "too_long": train.too_long, "without_answer": train.without_answer,
    }  # fmt: skip
    if config.full is not None:
        metrics["full"] = train_on(model, config.full, "full", workspace.path / "metrics.jsonl")
    if config.adapter is not None:
        adapted = for_chat(load_decoder(base), tokenizer)
        if config.quantized and not is_quantized(base):
            quantize_nf4(adapted)
        add_adapter(adapted, config.lora, generator=torch_generator(config.seed, "lora"))
        metrics["lora"] = train_on(adapted, config.adapter, "lora", workspace.path / "metrics-lora.jsonl")
        save_adapter(adapted, workspace.path / "lora")
        model = merge_adapter(adapted, dequantize=True) if config.full is None else model
    save_model(model, workspace.path, tokenizer.with_roles(eos_token=END_OF_TURN))
    return metrics


@torch.no_grad()
def answer_loss(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Mean cross-entropy of the weighted tokens, in nats."""
    total = count = 0.0
    for batch in batches:
        losses_BT = token_nats(model, batch.ids_BT, batch.targets_BT)
        total += float((losses_BT * batch.weights_BT).sum())
        count += float(batch.weights_BT.sum())
    return total / count


def load_decoder(directory: Path) -> Decoder:
    """The decoder of a directory, which may lie in four bits."""
    model = load_quantized(directory) if is_quantized(directory) else load_model(directory)
    if not isinstance(model, Decoder):
        raise FormatError(f"holds a {type(model).__name__}, not a decoder", where=directory)
    return model


def for_chat(model: Decoder, tokenizer: Tokenizer) -> Decoder:
    """The same model, whose answers end with the end of the turn instead of the end of the text."""
    end_id = tokenizer.token_to_id(END_OF_TURN)
    if end_id is None:
        raise DataError(f"the tokenizer has no {END_OF_TURN}", hint="Train it with the chat's special tokens.")
    model.config = model.config.replace(eos_token_id=end_id)
    return model


def _pad_id(model: Decoder) -> int:
    config = model.config
    if config.pad_token_id is None or config.pad_token_id == config.eos_token_id:
        raise DataError("padding needs a token of its own, or the model never learns to end", where="pad_token_id")
    return config.pad_token_id


def _subset(rows: Sequence[Row], config: InstructConfig) -> list[Row]:
    order = numpy_generator(config.seed, "held-out").permutation(len(rows))
    return [rows[int(index)] for index in sorted(order[: config.held_out_rows])]


def _with_replay(
    train: EncodedInstructions, texts: Iterable[str], tokenizer: Tokenizer, context: int, config: InstructConfig
) -> tuple[Ragged, Ragged]:
    """Training examples and their weights; among them windows of plain text as `config.replay` says."""
    if not config.replay:
        return train.ids, train.answers
    wanted = math.ceil(len(train) * config.replay / (1 - config.replay))
    documents = list(texts)
    windows = []
    for index in numpy_generator(config.seed, "replay").permutation(len(documents)):
        window = tokenizer.encode(documents[int(index)], parse_special=False)[: context + 1]
        if len(window) >= 2:
            windows.append(window)
        if len(windows) == wanted:
            break
    if not windows:
        raise DataError("there is no text to replay", hint="Set replay to 0.")
    ids = Ragged.from_rows([*train.ids, *windows])
    weights = Ragged.from_rows([*train.answers, *(np.ones(len(one), bool) for one in windows)], np.bool_)
    return ids, weights


def _summary(result: TrainResult, model: nn.Module, before: float) -> dict[str, Any]:
    trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return {"answer_loss_before": before, **result.metrics, "trainable_parameters": trainable}


def _ended(
    model: Decoder, tokenizer: Tokenizer, rows: Sequence[Row], config: InstructConfig, respond: Respond | None
) -> dict[str, float]:
    """Share of greedy answers to held-out questions that end by themselves."""
    questions = [question for row in _subset(rows, config) if (question := question_of(row))][: config.sampled_rows]
    if respond is None or not questions:
        return {}
    room = model.config.context_length - config.max_new_tokens
    prompts = [encode_prompt(tokenizer, question)[-room:] for question in questions]
    answers = respond(model.eval(), tokenizer, prompts, config.max_new_tokens)
    return {"ended_share": sum(ids[-1] == model.config.eos_token_id for ids in answers) / len(answers)}
