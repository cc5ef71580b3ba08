"""Masked-token training on documents of real lengths: packed without padding, beside transformers with padding.

    python -m benchmarks.training_masked [--rounds 5] [--threads 2] [--documents 64] [--length 256] [--clock wall]
                                         [--precision float32] [--save]

Documents are the paragraphs of 19 MB of English, cut off at `--length` tokens of a BPE of 8,192. Each step takes the
same documents, the same masked tokens and the same weights (an encoder of BERT's shape, 10M parameters): ours packs
them into rows in which they do not see each other; transformers' `BertForMaskedLM` pads them to the longest, as its
collator does. Both must find the same loss. AdamW and clipping as in `benchmarks.training`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.core.ragged import Ragged
from seedbed.core.randomness import numpy_generator, torch_generator
from seedbed.datasets.corruption import MaskTokens
from seedbed.datasets.loader import Batch
from seedbed.datasets.packing import pack
from seedbed.models import Encoder, MaskedLanguageModel, ModelConfig, save_model
from seedbed.tokenizers import train_bpe
from seedbed.training import MaskedTokens

import torch  # isort: skip
from torch import Tensor  # isort: skip

from benchmarks.measuring import CLOCKS, circumstances, interleaved, ratios, spread, write_results
from benchmarks.texts import english
from benchmarks.training_peers import plain_loop, trainer_step

_SHAPE = ModelConfig(kind="encoder", vocab_size=8192, hidden_size=320, layers=6, heads=5, context_length=256)
_RESULTS = Path(__file__).parent / "results" / "training-masked.json"
_PAD, _MASK = 0, 1
Example = tuple[np.ndarray, np.ndarray, np.ndarray]  # what is seen, what is told, weights


def main() -> None:
    parser = argparse.ArgumentParser(description="Masked tokens: packed documents beside padded ones.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoded = documents(options.length)
    model = MaskedLanguageModel(Encoder(_SHAPE, torch_generator(0, "encoder")))
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        theirs = _transformers(folder, options.precision)
    ours = trainer_step(model, MaskedTokens(), options.precision)
    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    real, padded, packed = [], [], []
    for step in range(options.rounds + 1):
        examples = masked(encoded, options.documents, step)
        one, other = together(examples, options.length), apart(examples)
        if step == 0:
            losses = ours(one), theirs(other)
            assert abs(losses[0] - losses[1]) < 1e-2 * losses[0], losses
            continue
        works = {"ours": partial(ours, one), "transformers": partial(theirs, other)}
        for name, values in interleaved(works, 1, CLOCKS[options.clock]).items():
            times[name] += values
        real.append(sum(len(seen) for seen, _, _ in examples))
        padded.append(other[0].numel())
        packed.append(one.ids_BT.numel())
    faster = ratios(times["ours"], times["transformers"])
    print(f"{sum(real) / sum(padded):.0%} of padded and {sum(real) / sum(packed):.0%} of packed positions are tokens")
    for name, values in times.items():
        rate = statistics.median(tokens / value for tokens, value in zip(real, values, strict=True))
        print(f"  {name:<14} {rate:8,.0f} tokens/s")
    print(f"  packed is {spread(faster, 2)} times as fast ({options.precision}, {options.clock} clock)")
    if options.save:
        about = circumstances(["torch", "transformers"]) | vars(options)
        write_results(_RESULTS, {"about": about, "seconds": times, "tokens": real, "padded": padded, "packed": packed})


def documents(length: int) -> list[np.ndarray]:
    """Paragraphs as tokens, two of the vocabulary kept for padding and mask."""
    texts = [part for text in english() for part in text.split("\n\n") if len(part) > 20]
    special = ("<|endoftext|>", "<|mask|>")
    tokenizer = train_bpe(texts, vocab_size=8192, pattern="llama3", special_tokens=special)
    found: Ragged = tokenizer.encode_batch(texts[::7])
    return [found[row][:length].astype(np.int64) for row in range(len(found))]


def masked(encoded: list[np.ndarray], count: int, step: int) -> list[Example]:
    random = numpy_generator(0, "documents", step)
    mask = MaskTokens(_MASK, 8192, special_ids=(_PAD,))
    found = []
    for row in random.choice(len(encoded), count, replace=False):
        ids = torch.from_numpy(encoded[row])[None]
        one = mask(Batch(ids, ids, torch.ones(ids.shape)), random)
        found.append(tuple(x[0].numpy() for x in (one.ids_BT, one.targets_BT, one.weights_BT)))
    return found  # type: ignore[return-value]


def together(examples: list[Example], length: int) -> Batch:
    rows = pack(np.array([len(seen) for seen, _, _ in examples]), length)
    ids, targets = (np.full((len(rows), length), _PAD, np.int64) for _ in range(2))
    weights, numbers = np.zeros(ids.shape, np.float32), np.zeros(ids.shape, np.int64)
    for place, row in enumerate(rows):
        end = 0
        for number, document in enumerate(row):
            start, end = end, end + len(examples[document][0])
            ids[place, start:end], targets[place, start:end], weights[place, start:end] = examples[document]
            numbers[place, start:end] = number
        numbers[place, end:] = len(row)
    return Batch(*(torch.from_numpy(one) for one in (ids, targets, weights, numbers)))


def apart(examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, attention mask, labels), as transformers' collator makes them."""
    longest = -(-max(len(seen) for seen, _, _ in examples) // 8) * 8
    ids, mask, labels = (np.full((len(examples), longest), fill, np.int64) for fill in (_PAD, 0, -100))
    for place, (seen, told, weights) in enumerate(examples):
        ids[place, : len(seen)], mask[place, : len(seen)] = seen, 1
        labels[place, : len(seen)] = np.where(weights > 0, told, -100)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels)


def _transformers(folder: str, precision: str) -> Any:
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()

    def loss(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        found: Tensor = model(input_ids=batch[0], attention_mask=batch[1], labels=batch[2]).loss
        return found

    for module in model.modules():  # ours has no dropout
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.config.attention_probs_dropout_prob = 0.0
    return plain_loop(model, loss, precision)


if __name__ == "__main__":
    main()
