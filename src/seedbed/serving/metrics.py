"""Metrics for Prometheus: requests, queues, tokens, how long the first and each further token took, caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from ..generation.requests import Request
    from .driver import Driver

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


class Metrics:
    """Of one server; a registry of its own, so that several may live in one process."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Loads(drivers))
        by_path, by_model = ("path", "method", "status"), ("model",)
        self._answered = Counter("seedbed_requests", "Answers", by_path, registry=self.registry)
        self._seconds = Histogram(
            "seedbed_request_seconds", "Until an answer was complete", ("path",), buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._prompt = Counter("seedbed_prompt_tokens", "Tokens of prompts", by_model, registry=self.registry)
        self._new = Counter("seedbed_new_tokens", "Tokens that were generated", by_model, registry=self.registry)
        self._ended = Counter(
            "seedbed_generations", "Generations by how they ended", ("model", "reason"), registry=self.registry
        )
        self._first = Histogram(
            "seedbed_first_token_seconds", "From the request to its first token", by_model, buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._each = Histogram(
            "seedbed_token_seconds", "Each token behind the first, a request's mean", by_model,
            buckets=_TOKEN_SECONDS, registry=self.registry,
        )  # fmt: skip

    def answered(self, path: str, method: str, status: int, seconds: float) -> None:
        self._answered.labels(path, method if path != "-" else "-", str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def generated(self, model: str, request: Request) -> None:
        """From any thread, once the request is done."""
        self._prompt.labels(model).inc(len(request.prompt.ids))
        self._new.labels(model).inc(len(request.ids))
        self._ended.labels(model, request.finish_reason or "error").inc()
        if request.started is not None and request.finished is not None:
            self._first.labels(model).observe(request.started - request.submitted)
            if len(request.ids) > 1:
                self._each.labels(model).observe((request.finished - request.started) / (len(request.ids) - 1))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Loads(Collector):
    """What is under way at the moment of asking."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = drivers

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = [
            GaugeMetricFamily("seedbed_waiting", "Generations that wait for a row", labels=("model",)),
            GaugeMetricFamily("seedbed_running", "Generations that have a row", labels=("model",)),
            GaugeMetricFamily("seedbed_cache_bytes", "Of keys and values that are held", labels=("model",)),
        ]
        for name, driver in self._drivers.items():
            for family, value in zip(families, driver.engine.load, strict=True):
                family.add_metric((name,), value)
        return families
