"""The stage that makes a reward model, from answers ranked by the gold reward or from people's preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ..core.artifacts import Workspace
from ..core.config import Config
from ..core.errors import DataError
from ..core.randomness import derive_seed, numpy_generator, torch_generator
from ..datasets.instructions import Turns, question_of
from ..datasets.jsonl import Row, say_left_out, write_rows
from ..datasets.preferences import (
    Candidate,
    EncodedPreferences,
    PreferenceBatches,
    encode_preferences,
    prompt_of,
    rank_candidates,
)
from ..finetuning.instruct import HELD_OUT_ROWS, TRAIN_ROWS, load_decoder
from ..models import Decoder
from ..training import Trainer, TrainerConfig, TrainResult
from .questions import drawn, questions_of, rows_of, split_by_prompt
from .reward_model import BradleyTerry, RewardModel, preference_metrics
from .rewards import GoldConfig, gold_parts, gold_reward
from .rollouts import Answer, mean_of, sample_answers

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer


class RewardConfig(Config):
    """How preferences are made and a reward model is trained on them."""

    prompts: int = Field(600, ge=1, description="training questions answered by the fine-tuned model")
    held_out_prompts: int = Field(150, ge=1, description="validation questions, for the accuracy")
    samples: int = Field(4, ge=2, description="answers to each question")
    pairs: int = Field(3, ge=1, description="preference pairs per question")
    minimum_gap: float = Field(0.08, ge=0, description="smallest difference in gold reward that makes a preference")
    label_noise: float = Field(0.0, ge=0, lt=0.5, description="share of pairs that are labelled wrongly, on purpose")
    own_answers: bool = Field(False, description="let the documents' own answers compete with the samples")
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(48, ge=1)
    held_out_share: float = Field(0.1, gt=0, lt=1, description="of a user's own preferences, by prompt")
    training: TrainerConfig = TrainerConfig(
        steps=45, batch_size=32, learning_rate=3e-4, optimizer="adamw", weight_decay=0.01, checkpoint_every=30
    )
    centring: float = Field(0.01, ge=0, description="weight of (chosen + rejected)^2")
    gold: GoldConfig = GoldConfig()
    seed: int = 0


def train_reward_model(
    config: RewardConfig, sft: Path, workspace: Workspace, *, preferences: Sequence[Row] | None = None
) -> dict[str, Any]:
    """Train a reward model with the body of the fine-tuned model in `sft`; write it, its preferences and its metrics.

    Preferences are answers sampled from that model and ranked by the gold reward, or a user's own (`read_preferences`).
    Questions come from the rows that fine-tuning left beside the model; held-out pairs are of other prompts than the
    training pairs.

    Returns:
        `train_pairs`, `too_long`, `steps`, `loss`, `accuracy` (held out), `train_accuracy`, `margin`,
        `calibration_error`, `calibration`, `score_mean` and `score_deviation` before normalisation, `candidates` (the
        gold reward of the sampled answers and its parts).

    Raises:
        DataError: there are no preferences to learn from.
    """
    from ..tokenizers import Tokenizer

    tokenizer, policy = Tokenizer.load(sft), load_decoder(sft)
    end_id = policy.config.eos_token_id
    assert end_id is not None
    if preferences is None:
        rows, held_out_rows = rows_of(sft, TRAIN_ROWS), rows_of(sft, HELD_OUT_ROWS)
        samples = _candidates(config, policy, tokenizer, questions_of(rows), config.prompts, "train")
        held_out = _candidates(
            config, policy, tokenizer, questions_of(held_out_rows), config.held_out_prompts, "held-out"
        )
        pairs = {
            "train": _ranked(config, samples, rows, "train"),
            "validation": _ranked(config, held_out, held_out_rows, "held-out"),
        }
    else:
        pairs = split_by_prompt(preferences, config.held_out_share, config.seed)
        asked = list(dict.fromkeys(prompt_of(row) for row in pairs["train"]))
        samples = _candidates(config, policy, tokenizer, asked, config.prompts, "train")
    (workspace.path / "preferences").mkdir(exist_ok=True)
    for name, made in pairs.items():
        if not made:
            raise DataError(f"there are no preferences to {'learn from' if name == 'train' else 'measure with'}")
        write_rows(workspace.path / "preferences" / f"{name}.jsonl", made)
    context = policy.config.context_length
    train, validation = (
        encode_preferences(pairs[name], tokenizer, context, end_id) for name in ("train", "validation")
    )
    say_left_out(train.left_out + validation.left_out)
    model, result = fit_reward_model(
        config, policy, train, workspace.scratch, workspace.path / "metrics.jsonl", workspace.accept_changes
    )
    workspace.measurements.update(result.measurements)
    held = preference_metrics(pair_margins(model.score, validation))
    mean, deviation = model.normalise([answer.sequence for answers in samples for answer in answers])
    model.save(workspace.path, tokenizer)
    flat = [answer for answers in samples for answer in answers]
    return {
        **result.metrics, **held, "held_out_pairs": held["pairs"], "train_pairs": len(train),
        "too_long": train.too_long + validation.too_long,
        "train_accuracy": float((pair_margins(model.score, train) > 0).mean()),
        "score_mean": mean, "score_deviation": deviation,
        "candidates": mean_of([answer.gold(config.gold) for answer in flat]),
    }  # fmt: skip


def fit_reward_model(
    config: RewardConfig,
    decoder: Decoder,
    train: EncodedPreferences,
    scratch: Path,
    metrics_path: Path,
    accept_changes: bool = False,
) -> tuple[RewardModel, TrainResult]:
    """A reward model on the body of `decoder`, trained on pairs; in evaluation mode."""
    pad_id = decoder.config.pad_token_id
    if pad_id is None:
        raise DataError("a reward model reads scores before the padding, and the model has none", where="pad_token_id")
    model = RewardModel.from_decoder(decoder, torch_generator(config.seed, "reward head"))
    batches = PreferenceBatches(train, config.training.batch_size, pad_id, config.training.seed)
    result = Trainer(
        config.training, model, BradleyTerry(config.centring), batches, scratch=scratch, metrics_path=metrics_path,
        name="reward model", accept_changes=accept_changes,
    ).run()  # fmt: skip
    return model.eval(), result


def _candidates(
    config: RewardConfig, policy: Decoder, tokenizer: Tokenizer, questions: Sequence[str | Turns], most: int, name: str
) -> list[list[Answer]]:
    """`samples` answers to each of up to `most` of `questions`."""
    questions = drawn(questions, most, numpy_generator(config.seed, "candidates", name))
    answers = sample_answers(
        policy, tokenizer, [question for question in questions for _ in range(config.samples)],
        temperature=config.temperature, max_new_tokens=config.max_new_tokens,
        seed=derive_seed(config.seed, "candidates", name),
    )  # fmt: skip
    return [answers[start : start + config.samples] for start in range(0, len(answers), config.samples)]


def _ranked(config: RewardConfig, candidates: Sequence[Sequence[Answer]], rows: Sequence[Row], name: str) -> list[Row]:
    """Preference rows from each question's answers; with `own_answers`, the documents' own compete."""
    own = {question_of(row): row["messages"][1]["content"] for row in rows} if config.own_answers else {}
    generator = numpy_generator(config.seed, "pairs", name)
    pairs: list[Row] = []
    for answers in candidates:
        prompt = answers[0].question
        scored = [Candidate(one.text, one.ended, one.gold(config.gold)["gold"]) for one in answers]
        if prompt in own:
            scored.append(Candidate(own[prompt], True, gold_reward(gold_parts(prompt, own[prompt], True, config.gold))))
        pairs += rank_candidates(
            prompt,
            scored,
            generator,
            pairs=config.pairs,
            minimum_gap=config.minimum_gap,
            label_noise=config.label_noise,
        )
    return pairs


def pair_margins(score: Callable[[Sequence[np.ndarray]], np.ndarray], pairs: EncodedPreferences) -> np.ndarray:
    """Score of the chosen minus score of the rejected, for every pair."""
    chosen, rejected = ([pairs.sequence(side, row) for row in range(len(pairs))] for side in ("chosen", "rejected"))
    return score(chosen) - score(rejected)
