"""What is served: a run's voices, each driven by a thread of its own, its encoder and its search engine."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.artifacts import MANIFEST, open_artifact
from ..core.devices import set_threads
from ..core.errors import ArtifactError, ConfigError, ResourceError
from .config import STAGES, ServeConfig
from .driver import Driver
from .keys import KeyRing
from .metrics import Metrics

if TYPE_CHECKING:
    from ..embeddings import SentenceEncoder
    from ..embeddings.search import Searcher
    from ..generation.voice import Voice
    from ..run import Run
    from ..tokenizers import Tokenizer

T = TypeVar("T")


class Service:
    """A run, opened for clients.

    Attributes:
        voices: stage to its model with its engine; drivers: stage to what runs that engine.
        encoder, searcher: None where the run has none. keys: None where it takes none.
        draining: set once the server was told to stop: nothing new is taken on.
    """

    def __init__(self, run: Run, config: ServeConfig) -> None:
        """Raises: ArtifactError: the run has not what is asked for, or nothing to serve. ConfigError: the file of keys
        cannot be used."""
        self.run, self.config = run, config
        self.keys = None if config.keys is None else KeyRing(config.keys)
        self.threads = set_threads(config.threads)
        options: dict[str, Any] = {"batch_size": config.rows, "queue": config.queue, "dtype": config.dtype}
        stages = config.stages or [stage for stage in STAGES if self._has(stage)]
        self.voices: dict[str, Voice] = {stage: run.voice(stage, **options) for stage in stages}
        self.searcher: Searcher | None = run.searcher() if self._has("index") and self._has("encoder") else None
        self.encoder: SentenceEncoder | None = self._open_encoder()
        if not self.voices and self.encoder is None:
            raise ArtifactError(
                "the run has no model to serve", where=run.path, hint="Go on growing it: seedbed grow, or its stages."
            )
        self.drivers: dict[str, Driver] = {}
        self.metrics = Metrics(self.drivers)
        for stage, voice in self.voices.items():
            self.drivers[stage] = Driver(stage, voice.engine, self.threads, self.metrics.generated)
        self.fingerprints = {stage: f"fp_{open_artifact(run.path / stage).fingerprint[:16]}" for stage in self.voices}
        self.created = int(time.time())
        self.draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._at_work = 0

    def start(self) -> None:
        """Start the threads. Called in the event loop that clients are served in."""
        import torch

        loop = self._loop = asyncio.get_running_loop()
        self._workers = ThreadPoolExecutor(
            self.config.workers,
            "worker",
            initializer=torch.set_num_threads,
            initargs=(max(1, self.threads // self.config.workers),),
        )
        for driver in self.drivers.values():
            driver.start(loop)

    def stop(self) -> None:
        """Cancel what runs, and end the threads."""
        self.draining = True
        for driver in self.drivers.values():
            driver.stop()
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)

    def drain(self) -> None:
        """Take nothing new on, and cancel what still runs when the time for it is up. From any thread."""
        if not self.draining and self._loop is not None:
            self.draining = True
            self._loop.call_soon_threadsafe(self._loop.call_later, self.config.grace, self._cancel_all)

    def _cancel_all(self) -> None:
        for driver in self.drivers.values():
            driver.cancel_all()

    @property
    def ready(self) -> bool:
        return not self.draining and all(driver.alive for driver in self.drivers.values())

    @property
    def at_work(self) -> int:
        """Calls that the workers run or have before them."""
        return self._at_work

    async def work(self, function: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """Run what computes in one of the worker threads, and wait for it.

        Raises:
            ResourceError: too much waits for them already.
        """
        assert self._workers is not None, "it was not started"
        if self._at_work >= self.config.workers + self.config.queue:
            raise ResourceError(f"{self._at_work} requests are waiting already", where="queue", hint="Try later.")
        self._at_work += 1
        future = self._workers.submit(functools.partial(function, *args, **keywords))
        future.add_done_callback(functools.partial(self._worked, asyncio.get_running_loop()))
        async with asyncio.timeout(self.config.deadline):
            return await asyncio.wrap_future(future)

    def _worked(self, loop: asyncio.AbstractEventLoop, _: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._at_work -= 1

    def voice(self, stage: str) -> Voice:
        """Raises: ConfigError: no such model generates here."""
        if stage not in self.voices:
            known = ", ".join(self.voices) or "none"
            raise ConfigError(f"there is no model '{stage:.80}' that generates (there are: {known})", where="model")
        return self.voices[stage]

    def tokenizer(self, model: str) -> tuple[Tokenizer, int]:
        """A model's tokenizer, and how many tokens the model reads.

        Raises:
            ConfigError: there is no such model.
        """
        if model == "encoder" and self.encoder is not None:
            return self.encoder.tokenizer, self.encoder.max_length
        voice = self.voice(model)
        return voice.tokenizer, voice.engine.max_length

    def _has(self, stage: str) -> bool:
        return (self.run.path / stage / MANIFEST).exists()

    def _open_encoder(self) -> SentenceEncoder | None:
        if self.searcher is not None:
            return self.searcher.encoder
        if not self._has("encoder"):
            return None
        from ..embeddings import SentenceEncoder

        return SentenceEncoder.load(self.run.path / "encoder")
