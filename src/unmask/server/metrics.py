"""Figures for Prometheus; none holds a user's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from unmask.server.asks import Answered
from unmask.server.errors import Refusal

if TYPE_CHECKING:
    from unmask.server.served import Served

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """The server's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, said: str, labels: Sequence[str], buckets: object) -> Histogram:
            return Histogram(name, said, labels, buckets=buckets, registry=self.registry)  # type: ignore[arg-type]

        def counter(name: str, said: str, *labels: str) -> Counter:
            return Counter(name, said, labels, registry=self.registry)

        def gauge(name: str, said: str, *labels: str) -> Gauge:
            return Gauge(name, said, labels, registry=self.registry)

        self.requests = counter(
            "unmask_requests", "Requests by route and status", "route", "status"
        )
        self.duration = histogram(
            "unmask_request_seconds", "From the first byte to the last", ["route"], _SECONDS
        )
        self.stage = histogram(
            "unmask_stage_seconds",
            "Of tokenise, queue, model, explain",
            ["model", "stage"],
            _SECONDS,
        )
        self.batch_tokens = histogram(
            "unmask_batch_tokens", "Tokens of a batch", ["model"], _TOKENS
        )
        self.batch_size = histogram("unmask_batch_units", "Texts of a batch", ["model"], _TOKENS)
        self.padding = counter(
            "unmask_padding_tokens", "Positions a batch would pad if each text had a row", "model"
        )
        self.tokens = counter("unmask_tokens", "Tokens that were read", "model")
        self.dropped = counter("unmask_truncated_tokens", "Tokens that were cut", "model")
        self.truncated = counter("unmask_truncated_inputs", "Texts that were cut", "model")
        self.cache = counter("unmask_cache", "Answers, known or not", "model", "result")
        self.errors = counter("unmask_errors", "Items by what was wrong with them", "code")
        self.events = counter("unmask_events", "Of workers and clients", "model", "event")
        self.queue_tokens = gauge("unmask_queue_tokens", "Tokens that wait", "model")
        self.queue_units = gauge("unmask_queue_units", "Texts that wait", "model")
        self.running_tokens = gauge("unmask_running_tokens", "Tokens being computed", "model")
        self.pace = gauge("unmask_tokens_per_second", "Of one worker, a moving mean", "model")
        self.explanations = gauge(
            "unmask_explanations_waiting", "Explanations that wait for their turn", "model"
        )
        self.workers = gauge("unmask_workers_ready", "Workers that are ready", "model")
        self.cache_bytes = gauge("unmask_cache_bytes", "Bytes of answers that are kept", "model")

    def count(self, model: str, outcomes: Sequence[Answered | Refusal]) -> None:
        """Take in the outcomes of a request."""
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                self.errors.labels(outcome.code).inc()
                continue
            self.cache.labels(model, "hit" if outcome.cached else "miss").inc()
            self.tokens.labels(model).inc(outcome.tokens)
            if outcome.dropped:
                self.dropped.labels(model).inc(outcome.dropped)
                self.truncated.labels(model).inc()

    def of(self, model: str) -> ModelMetrics:
        """Those that the workers of one model add to."""
        return ModelMetrics(self, model)

    def text(self, models: Sequence[Served]) -> bytes:
        """All figures in Prometheus's format."""
        for one in models:
            queue = one.queue
            self.queue_tokens.labels(one.name).set(queue.tokens)
            self.queue_units.labels(one.name).set(len(queue))
            self.running_tokens.labels(one.name).set(queue.running)
            self.pace.labels(one.name).set(queue.pace.rate or 0)
            self.explanations.labels(one.name).set(len(one.explanations))
            self.workers.labels(one.name).set(len(one.pool.ready))
            self.cache_bytes.labels(one.name).set(one.cache.bytes)
        return generate_latest(self.registry)


@dataclass(frozen=True)
class ModelMetrics:
    """What happens to one model's workers."""

    all: Metrics
    model: str

    def event(self, name: str) -> None:
        """Count what happened."""
        self.all.events.labels(self.model, name).inc()

    def explained(self, seconds: float) -> None:
        """Take in an explanation: the seconds that it took, without others' turns in between."""
        self.all.stage.labels(self.model, "explain").observe(seconds)

    def batch(self, lengths: Sequence[int], seconds: float) -> None:
        """Take in a batch: the tokens of its units, and the seconds that it took."""
        self.all.stage.labels(self.model, "model").observe(seconds)
        self.all.batch_tokens.labels(self.model).observe(sum(lengths))
        self.all.batch_size.labels(self.model).observe(len(lengths))
        self.all.padding.labels(self.model).inc(len(lengths) * max(lengths) - sum(lengths))
