"""What a server allows, and how it runs its models."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from ..core.config import Config

Stage = Literal["base", "sft", "policy"]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
STAGES: tuple[Stage, ...] = get_args(Stage)


class ServeConfig(Config):
    """Where a server listens, whom it lets in, how much it takes on, and how its models are run."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    keys: Path | None = None
    """A file of API keys (`seedbed keys new`), needed beyond loopback."""
    allow_origins: tuple[str, ...] = ()
    """Origins of other pages that may call the API, as browsers write them: https://example.org."""
    allow_hosts: tuple[str, ...] = ()
    """Further names under which clients may address this server."""

    stages: tuple[Stage, ...] | None = None
    """Models that generate; None: those that the run has."""
    dtype: str | None = None
    """Weights as they are read: float32, bfloat16, int8 or int4; None: as they lie."""
    rows: Count = 32
    """Requests of one model that run together."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Of PyTorch and of native code; 0: one per processor."""
    workers: Count = 2
    """Threads that encode, search and prepare requests."""

    queue: Count = 256
    """Requests of one model, or of the workers, that may wait; more are answered 503."""
    connections: Count = 1024
    requests_per_second: Annotated[float, Field(gt=0)] = 50
    """Of one key, or of one address where there are no keys."""
    burst: Count = 200
    """Requests that may come at once before that rate counts."""
    max_tokens: Count = 4096
    """Of one answer, at most."""
    max_choices: Count = 64
    """Answers of one request together."""
    max_inputs: Count = 1024
    """Texts of one request to embed or to rank."""
    max_body_bytes: Count = 4 << 20
    max_depth: Count = 64
    """Of nested lists and objects in a body."""
    max_unread_tokens: Count = 8192
    """That a client may leave unread before it is given up."""
    deadline: Seconds = 120
    """Seconds until a request ends, whether it is done or not."""
    patience: Seconds = 30
    """Seconds that a client may take to send its request, or to read a piece of the answer."""
    grace: Seconds = 20
    """Seconds that running requests get when the server is told to stop."""

    @model_validator(mode="after")
    def _check(self) -> ServeConfig:
        if self.keys is None and not self.loopback:
            raise ValueError(
                f"whoever reaches {self.host} could use this server; give a file of keys (seedbed keys new, then"
                " --keys FILE), or serve on 127.0.0.1"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
