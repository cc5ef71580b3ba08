"""What the benchmark of serving serves, and who: our server, transformers' and llama.cpp's, on the same weights."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import seedbed  # noqa: F401  (how threads wait is settled before torch comes)

# isort: split
import torch

from benchmarks import texts as corpora
from benchmarks.generation import MODELS
from benchmarks.generation_peers import GGUF_TYPES
from seedbed.core.artifacts import Workspace, build_artifact
from seedbed.core.config import build
from seedbed.core.console import show
from seedbed.core.randomness import torch_generator
from seedbed.embeddings import SentenceEncoder
from seedbed.embeddings.chunking import Passage
from seedbed.embeddings.contrastive import ContrastiveConfig
from seedbed.embeddings.indexing import IndexConfig, new_indexes
from seedbed.embeddings.passages import write_passages
from seedbed.embeddings.search import BM25, DENSE, PASSAGES, SearchSettings, write_settings
from seedbed.embeddings.starts import new_encoder
from seedbed.generation.export import export_gguf
from seedbed.models import Decoder, ModelConfig, load_model, save_model
from seedbed.run import RUN_FILE
from seedbed.tokenizers import CHATML, CHATML_TOKENS, Tokenizer, train_bpe

CONTEXT = 1024
_WAIT = 120.0  # seconds for a server to come up


@dataclass(frozen=True)
class Served:
    """A server that listens. model: the name that requests give. wishes: what they have to say for greedy answers."""

    name: str
    port: int
    model: str
    process: subprocess.Popen[bytes]
    wishes: dict[str, float]


def make_run(folder: Path, size: str) -> Path:
    """A run with one chat model of random weights, made once. Its head is its own, or it would repeat what it read, and
    sharp, so that greedy answers do not hang on rounding."""
    path = folder / size
    path.mkdir(parents=True, exist_ok=True)
    config = build(ModelConfig, MODELS[size] | {"context_length": CONTEXT, "tie_embeddings": False})
    (path / RUN_FILE).write_text(json.dumps({"sources": [], "recipe": {}}))

    def produce(work: Workspace) -> dict[str, object]:
        tokenizer = train_bpe(
            corpora.english()[:200], MODELS[size]["vocab_size"], pattern="llama3", special_tokens=CHATML_TOKENS,
            eos_token=CHATML_TOKENS[0], pad_token=CHATML_TOKENS[1], chat_template=CHATML,
        )  # fmt: skip
        model = Decoder(config, torch_generator(0, "serving")).eval()
        assert model.lm_head is not None
        with torch.no_grad():
            model.lm_head.weight.mul_(20)
        save_model(model, work.path, tokenizer)
        return {}

    build_artifact(path / "policy", "policy", config, {}, produce)
    return path


def export(run: Path, precision: str) -> Path:
    """The run's model as a file for llama.cpp."""
    file = run / f"{precision}.gguf"
    if not file.exists():
        model = load_model(run / "policy")
        assert isinstance(model, Decoder)
        export_gguf(model, Tokenizer.load(run / "policy"), file, GGUF_TYPES[precision])
    return file


def add_index(run: Path, documents: int) -> None:
    """An index of so many pieces of English, with an encoder of the demo's size and random weights, made once."""
    config = ContrastiveConfig(cooccurrence_window=0)
    tokenizer = Tokenizer.load(run / "policy")

    def encoder(work: Workspace) -> dict[str, object]:
        SentenceEncoder(new_encoder(config, tokenizer, []), tokenizer, config.max_length).save(work.path)
        return {}

    built = build_artifact(run / "encoder", "encoder", config, {}, encoder)

    def index(work: Workspace) -> dict[str, object]:
        pieces = list(english_pieces(documents))
        passages = [Passage(f"{n}#0", str(n), "", f"text/{n}", text) for n, text in enumerate(pieces)]
        reader = SentenceEncoder.load(run / "encoder")
        bm25, dense = new_indexes(IndexConfig(threads=2), reader.dim)
        bm25.add(pieces)
        dense.add(reader.encode(pieces, normalize=True))
        bm25.save(work.path / BM25)
        dense.save(work.path / DENSE)
        write_passages(work.path / PASSAGES, passages)
        write_settings(work.path, SearchSettings(encoder_fingerprint=reader.fingerprint))
        return {"documents": len(pieces)}

    started = time.perf_counter()
    found = build_artifact(run / "index", "index", IndexConfig(threads=2), {"encoder": built}, index)
    show(f"an index of {found.metrics['documents']:,} documents ({time.perf_counter() - started:.0f} s)")


def english_pieces(most: int, size: int = 180) -> Iterator[str]:
    """So many pieces of English, of about `size` characters, cut between words."""
    for text in corpora.english():
        words = re.split(r"\s+", text)
        piece: list[str] = []
        for word in words:
            piece.append(word)
            if sum(map(len, piece)) + len(piece) > size:
                yield " ".join(piece)
                piece = []
                most -= 1
                if not most:
                    return


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def served(
    name: str, run: Path, precision: str, threads: int, log: Path, options: Sequence[str] = ()
) -> Iterator[Served]:
    """A server of `run`'s model: "seedbed", "transformers" or "llama.cpp". Its output goes to `log`."""
    port, folder = free_port(), run / "policy"
    python = [sys.executable, "-m"]
    commands = {
        "seedbed": [
            *python, "seedbed", "serve", str(run), "--port", str(port), "--threads", str(threads), "--dtype", precision,
            "--rate", "100000", "--quiet", *options,
        ],
        "transformers": [
            *python, "transformers.cli.transformers", "serve", str(folder), "--port", str(port), "--device", "cpu",
            "--dtype", precision, "--continuous-batching", *options,
        ],
        "llama.cpp": [
            *python, "llama_cpp.server", "--port", str(port), "--n_threads", str(threads), "--n_threads_batch",
            str(threads), "--n_ctx", str(CONTEXT), "--interrupt_requests", "false", "--verbose", "false", *options,
        ],
    }  # fmt: skip
    command, model = commands[name], "policy"
    if name == "llama.cpp":
        command += ["--model", str(export(run, precision)), "--model_alias", model]
        if precision == "float32":
            command += ["--type_k", "0", "--type_v", "0"]
    elif name == "transformers":
        model = str(folder)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        _wait_for(process, port, "/v1/models" if name == "llama.cpp" else "/health", log)
        # llama.cpp's server of Python punishes repetition unless it is told not to.
        yield Served(name, port, model, process, {"repeat_penalty": 1.0} if name == "llama.cpp" else {})
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start; see {log}")
