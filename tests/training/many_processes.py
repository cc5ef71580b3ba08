"""Runs of several processes on this machine: imported by the tests, and run on its own as the launcher of them all.

python many_processes.py FOLDER < JSON list of runs

The launcher imports everything once and forks the processes of each run in turn, as starting Python costs more than
these runs do. A run: `name`, `count` processes, `parallel`, `config` (TrainerConfig) and `model` (ModelConfig) changes,
`resume` (the name of an earlier run whose folder it goes on in), `kill` (rank, step).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_run import VOCABULARY, shards

from seedbed.core import processes
from seedbed.core.errors import SeedbedError
from seedbed.core.randomness import torch_generator
from seedbed.datasets.loader import PackedBatches
from seedbed.models import Decoder, ModelConfig
from seedbed.training import NextToken, Trainer, TrainerConfig
from seedbed.training.parallelism import Parallel, ParallelConfig

MODEL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context_length": 16
}  # fmt: skip


class DyingAt(NextToken):
    def __init__(self, rank: int, step: int) -> None:
        super().__init__()
        self._left = step if rank == processes.rank() else -1

    def loss(self, model: Any, batch: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch)


def train(run: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(1)
    place = folder / run.get("resume", run["name"])
    place.mkdir(exist_ok=True)
    config = TrainerConfig(**{"steps": 6, "batch_size": 8, "checkpoint_every": 3, **run.get("config", {})})
    shape = ModelConfig(**{**MODEL, **run.get("model", {})})
    parallel = Parallel(ParallelConfig(**run.get("parallel", {})))
    model = Decoder(shape, torch_generator(0, "weights"))
    batches = PackedBatches(shards(folder), config.batch_size, shape.context_length)
    objective = DyingAt(*run["kill"]) if "kill" in run else NextToken()

    def evaluate(trained: Any) -> dict[str, float]:
        ids = torch.arange(shape.context_length).expand(2, -1) % VOCABULARY
        return {"validation_loss": float(trained.hidden(ids).square().mean())}

    Trainer(
        config, model, objective, batches, scratch=place, metrics_path=place / "metrics.jsonl", parallel=parallel,
        evaluate=evaluate,
    ).run()  # fmt: skip
    gathered = parallel.gather(model, lambda: Decoder(shape)).state_dict()
    if processes.is_first():
        torch.save(gathered, folder / f"{run['name']}.pt")


def launch(run: dict[str, Any], folder: Path) -> list[int]:
    """Exit statuses; negative: killed by a signal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(run["count"]):
        child = os.fork()
        if child == 0:
            os.environ |= {
                "RANK": str(rank), "WORLD_SIZE": str(run["count"]), "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            status = 0
            with open(folder / f"{run['name']}.{rank}.log", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                try:
                    train(run, folder)
                    processes.leave()
                except SeedbedError as error:
                    print(f"{type(error).__name__}: {error}", flush=True)
                    status = 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                    status = 2
                log.flush()
            os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(json.dumps({run["name"]: launch(run, place) for run in json.load(sys.stdin)}))
