"""Drives an engine in a thread of its own, and hands over what it gives to those who wait in an event loop.

What a step gives is handed over at once, for all requests together: one wake-up of the loop a step, however many
clients there are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..core.errors import ResourceError, SeedbedError
from ..generation import Engine
from ..generation.requests import Request

log = logging.getLogger("seedbed.serving")

_FRAMES = 12  # of a traceback, the innermost


@dataclass
class Piece:
    """What one request got in some steps: text that is certain, and tokens from `start` to `end` of its own list."""

    text: str
    start: int
    end: int
    done: bool


class Answers:
    """The answers of some requests on their way to one client. All but `Driver` use it in the event loop alone.

    Args:
        every_step: whether pieces are wanted as they come, and not the whole at the end.
        most_unread: tokens that may lie here unread; beyond, the requests are cancelled.
    """

    def __init__(self, requests: Sequence[Request], *, every_step: bool, most_unread: int) -> None:
        self.requests, self.every_step = list(requests), every_step
        self.overrun = False
        self._most_unread, self._unread = most_unread, 0
        self._pieces: list[Piece | None] = [None] * len(self.requests)
        self._left = len(self.requests)
        self._changed: asyncio.Future[None] | None = None

    def put(self, index: int, piece: Piece) -> None:
        earlier = self._pieces[index]
        if earlier is None:
            self._pieces[index] = piece
        else:  # the client reads more slowly than the engine writes
            earlier.text, earlier.end, earlier.done = earlier.text + piece.text, piece.end, piece.done
        self._unread += piece.end - piece.start
        if self._unread > self._most_unread and self.every_step:
            self.overrun = True
            self.cancel()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def take(self) -> list[tuple[int, Piece]]:
        """What has come for each request since the last call, waiting for something; [] once all are done."""
        while self._left and not any(self._pieces):
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        found = [(index, piece) for index, piece in enumerate(self._pieces) if piece is not None]
        self._pieces = [None] * len(self.requests)
        self._left -= sum(piece.done for _, piece in found)
        self._unread = 0
        return found

    def cancel(self) -> None:
        """Free the rows of all requests."""
        for request in self.requests:
            request.cancel()


@dataclass
class Follower:
    answers: Answers
    index: int
    given: int = field(default=0)  # tokens


class Driver:
    """One engine, its thread, and those who follow its requests.

    Args:
        ended: called with the name and each request that is done, in that thread.

    Attributes:
        followers: of the requests that are not done.
    """

    def __init__(self, name: str, engine: Engine, threads: int, ended: Callable[[str, Request], None]) -> None:
        self.name, self.engine = name, engine
        self._threads, self._ended = threads, ended
        self.followers: dict[Request, Follower] = {}
        self._lock = threading.Lock()  # of the queue's length
        self._wake = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._stopping = loop, False
        self._thread = threading.Thread(target=self._run, name=f"engine {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""
        self._stopping = True
        self.cancel_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def cancel_all(self) -> None:
        for request in list(self.followers):
            request.cancel()
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        return self.engine.load.waiting

    def submit(self, groups: Sequence[Sequence[Request]], *, every_step: bool, most_unread: int) -> Answers:
        """Queue requests (those of a group go on from one prompt), all or none. From any thread.

        Raises:
            ResourceError: too many are waiting.
        """
        requests = [request for group in groups for request in group]
        answers = Answers(requests, every_step=every_step, most_unread=most_unread)
        with self._lock:
            self.engine.require_room(len(requests))
            for index, request in enumerate(requests):
                self.followers[request] = Follower(answers, index)
            for group in groups:
                self.engine.enqueue(group)
        self._wake.set()
        return answers

    def _run(self) -> None:
        import torch

        torch.set_num_threads(self._threads)
        while not self._stopping or self.engine.busy:
            if not self.engine.busy:
                self._wake.wait()
                self._wake.clear()
                continue
            try:
                changed = self.engine.step()
            except Exception as error:  # whatever it is, clients must not wait for ever, nor later ones suffer
                log.error("engine %s failed: %s\n%s", self.name, type(error).__name__, where_it_arose(error))
                changed = self._fail(ResourceError(f"the engine failed ({type(error).__name__})"))
            self._hand_over(changed)

    def _fail(self, error: SeedbedError) -> list[Request]:
        self.engine.reset()
        failed = [request for request in list(self.followers) if not request.done]
        for request in failed:
            request.fail(error)
        return failed

    def _hand_over(self, changed: list[Request]) -> None:
        batch: list[tuple[Answers, int, Piece]] = []
        for request in changed:
            follower = self.followers.get(request)
            if follower is None or not (request.done or follower.answers.every_step):
                continue
            if request.done:
                del self.followers[request]
                self._ended(self.name, request)
            given, follower.given = follower.given, len(request.ids)
            text = request.take() if request.error is None else ""
            batch.append((follower.answers, follower.index, Piece(text, given, follower.given, request.done)))
        if batch:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_deliver, batch)


def _deliver(batch: list[tuple[Answers, int, Piece]]) -> None:
    for answers, index, piece in batch:
        answers.put(index, piece)


def where_it_arose(error: BaseException) -> str:
    """Where an error arose, for the log. Its own words may hold what a client sent, so they are left out."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
