"""The reward model: a language model's body with a scalar head, trained on preference pairs. B sequences, T tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError, DataError, FormatError
from ..datasets.preferences import PairBatch, pad_right
from ..models import Decoder, SequenceClassifier, load_model, save_model
from . import losses

if TYPE_CHECKING:
    from ..tokenizers import Tokenizer
    from .rollouts import Answer

_OFFSET_FILE = "reward.json"
_ROWS_AT_A_TIME = 64


class RewardModel(nn.Module):
    """Scores of whole sequences at their last token, `classifier(ids) + offset`.

    Saved, the classifier is a `Qwen3ForSequenceClassification` with one label, whose logits are these scores up to the
    offset: that layout has no bias, so the offset lies beside it in `reward.json`.
    """

    def __init__(self, classifier: SequenceClassifier, offset: float = 0.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.offset = offset

    @classmethod
    def from_decoder(cls, decoder: Decoder, generator: torch.Generator) -> Self:
        """A new reward model on a language model's body; the head is drawn with deviation 1/sqrt(C + 1)."""
        classifier = SequenceClassifier(decoder)
        nn.init.normal_(classifier.score.weight, std=(decoder.config.hidden_size + 1) ** -0.5, generator=generator)
        return cls(classifier)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Scores (B,) of right-padded sequences."""
        return self.classifier(ids_BT)[:, 0] + self.offset

    @torch.no_grad()
    def score(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Scores float32 (n,) of token sequences of any lengths."""
        pad_id, device = self.classifier.config.pad_token_id, self.classifier.score.weight.device
        assert pad_id is not None
        order = np.argsort([len(ids) for ids in sequences], kind="stable")
        scores = np.zeros(len(sequences), np.float32)
        for start in range(0, len(order), _ROWS_AT_A_TIME):
            rows = order[start : start + _ROWS_AT_A_TIME]
            scores[rows] = self(pad_right([sequences[row] for row in rows], pad_id).to(device)).cpu().numpy()
        return scores

    def reward(self, answers: Sequence[Answer]) -> np.ndarray:
        """Scores of whole answers, as what reinforcement learning trains on."""
        return self.score([one.sequence for one in answers])

    @torch.no_grad()
    def normalise(self, sequences: Sequence[np.ndarray]) -> tuple[float, float]:
        """Make the scores of `sequences` (the reference policy's samples) mean 0 and deviation 1 (Ziegler et al. 2019).

        The gain goes into the head's weights, the bias into `offset`. Returns mean and deviation found before.
        """
        scores = self.score(sequences).astype(np.float64)
        mean, deviation = float(scores.mean()), float(scores.std())
        if not deviation > 1e-6:
            raise DataError("the reward model scores all samples alike", hint="Train it longer or on more pairs.")
        self.classifier.score.weight /= deviation
        self.offset = (self.offset - mean) / deviation
        return mean, deviation

    def save(self, directory: Path, tokenizer: Tokenizer | None = None) -> None:
        save_model(self.classifier, directory, tokenizer)
        write_atomically(directory / _OFFSET_FILE, (json.dumps({"offset": self.offset}) + "\n").encode())

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a saved reward model; a sequence classifier without `reward.json` has offset 0.

        Raises:
            FormatError: the directory holds no sequence classifier with one label.
        """
        directory = Path(directory)
        classifier = load_model(directory)
        if not isinstance(classifier, SequenceClassifier) or classifier.labels != 1:
            raise FormatError("not a sequence classifier with one label", where=directory)
        offset = directory / _OFFSET_FILE
        try:
            return cls(classifier, float(json.loads(offset.read_text())["offset"]) if offset.exists() else 0.0)
        except (ValueError, KeyError, TypeError):
            raise FormatError("does not hold the reward's offset", where=offset) from None


class Ensemble:
    """Several reward models: their mean score, less so many deviations of their scores (Coste et al. 2023).

    What one of them has come to like by accident the others do not: where they disagree, the answer is worth less.
    """

    def __init__(self, members: Sequence[RewardModel], disagreement: float = 1.0) -> None:
        if len(members) < 2:
            raise ConfigError("an ensemble has at least two members", where="members")
        self._members, self._disagreement = list(members), disagreement

    def score(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Scores float32 (n,)."""
        scores = np.stack([member.score(sequences) for member in self._members])
        return scores.mean(axis=0) - self._disagreement * scores.std(axis=0)

    def reward(self, answers: Sequence[Answer]) -> np.ndarray:
        return self.score([one.sequence for one in answers])


class BradleyTerry:
    """The trainer's objective for reward models: Bradley-Terry loss, in sums over pairs."""

    def __init__(self, centring: float = 0.0) -> None:
        self._centring = centring

    def loss(self, model: nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        # One pass over both sides: they share a width.
        chosen_B, rejected_B = model(torch.cat([batch.chosen_BT, batch.rejected_BT])).chunk(2)
        total = losses.bradley_terry(chosen_B, rejected_B, batch.margins_B, self._centring, denominator=1)
        with torch.no_grad():
            extra = {"accuracy": (chosen_B > rejected_B).float().sum(), "margin": (chosen_B - rejected_B).sum()}
        return total, torch.tensor(float(len(chosen_B))), extra


def preference_metrics(margins: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Accuracy, loss and calibration of score differences chosen - rejected.

    The model's belief in its choice is sigmoid(|margin|); the expected calibration error is the mean distance, over
    equal-width bins of belief weighted by their pairs, between belief and the share of right choices (Guo et al. 2017).
    """
    margins = margins.astype(np.float64)
    right, belief = margins > 0, 1 / (1 + np.exp(-np.abs(margins)))
    bin_of = np.minimum(((belief - 0.5) * 2 * bins).astype(int), bins - 1)
    curve = [
        {"belief": belief[chosen].mean(), "accuracy": right[chosen].mean(), "pairs": int(chosen.sum())}
        for chosen in (bin_of == one for one in range(bins))
        if chosen.any()
    ]
    error = sum(one["pairs"] * abs(one["belief"] - one["accuracy"]) for one in curve) / len(margins)
    return {
        "pairs": len(margins),
        "accuracy": float(right.mean()),
        "loss": float(np.logaddexp(0, -margins).mean()),
        "margin": float(margins.mean()),
        "calibration_error": float(error),
        "calibration": [{key: round(float(value), 6) for key, value in one.items()} for one in curve],
    }
