"""A tiny fine-tuned model in a directory, as the stages read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

from seedbed.datasets.instructions import instruction_rows
from seedbed.datasets.jsonl import write_rows
from seedbed.finetuning.instruct import HELD_OUT_ROWS, TRAIN_ROWS, load_decoder
from seedbed.models import Decoder, ModelConfig, save_model
from seedbed.tokenizers import train_bpe
from seedbed.tokenizers.chat import CHATML, CHATML_TOKENS
from seedbed.training import Trainer


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"m.{verb}{thing}" for verb in ("get", "set", "add", "pop") for thing in ("one", "two", "all", "key")]
    documents = [{"id": name, "title": name, "text": f"{name}(a, b)\n\nReturn the {name[2:]} of a."} for name in names]
    tokenizer = train_bpe([one["text"] for one in documents], vocab_size=320, special_tokens=CHATML_TOKENS)
    tokenizer = tokenizer.with_roles(eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHATML)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=1,
        heads=2,
        context_length=96,
        eos_token_id=3,
        pad_token_id=1,
    )
    path = tmp_path_factory.mktemp("sft")
    save_model(Decoder(config), path, tokenizer)
    rows = instruction_rows(documents)
    (path / TRAIN_ROWS).parent.mkdir()
    write_rows(path / TRAIN_ROWS, rows[:24])
    write_rows(path / HELD_OUT_ROWS, rows[24:])
    return path


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with killed_after(5):` training within it ends after five steps, as by Ctrl-C."""

    @contextmanager
    def kill(steps: int) -> Iterator[None]:
        train_step, left = Trainer.train_step, iter(range(steps))

        def dies(self: Trainer) -> dict[str, float]:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return train_step(self)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "train_step", dies)
            yield

    return kill


@pytest.fixture
def of_four_tokens(sft: Path) -> Decoder:
    """A policy that says tokens 100 to 103, hardly ever another."""
    untied = Decoder(load_decoder(sft).config.replace(tie_embeddings=False))
    assert untied.lm_head is not None
    with torch.no_grad():
        untied.embedding.weight[:, 0] = 1.0
        untied.lm_head.weight.zero_()[100:104, 0] = 3.0
    return untied
