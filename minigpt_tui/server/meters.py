"""What the server counts, for Prometheus: requests, texts, tokens, the line, and what both processes take. It uses
Prometheus' own client, which has no dependencies: the format's rules are its business, and it knows what a process
takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.worker.protocol import Done

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Meters:
    """The figures of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # when each label was first seen would be half of the page
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "minigpt_requests", "Requests answered.", ("endpoint", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "minigpt_request_seconds",
            "From a request to the end of its answer.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._texts = Counter(
            "minigpt_texts", "Texts written to their ends.", ("model", "finish_reason"), registry=self._registry
        )
        self._prompt_tokens = Counter("minigpt_prompt_tokens", "Tokens read.", ("model",), registry=self._registry)
        self._new_tokens = Counter("minigpt_new_tokens", "Tokens written.", ("model",), registry=self._registry)
        self._first_token = Histogram(
            "minigpt_time_to_first_token_seconds",
            "From a text's turn to its first token.",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def follow(
        self,
        *,
        running: Callable[[], int],
        waiting: Callable[[], int],
        ready: Callable[[], bool],
        deaths: Callable[[], int],
        engine_pid: Callable[[], int | None],
    ) -> None:
        """Say where the figures that others keep are read."""
        for name, what, read in (
            ("minigpt_running_texts", "Texts that are being written.", running),
            ("minigpt_waiting_texts", "Texts that wait for their turn.", waiting),
            ("minigpt_engine_up", "1 while the engine is ready.", ready),
            ("minigpt_engine_deaths", "How often the engine has died.", deaths),
        ):
            Gauge(name, what, registry=self._registry).set_function(read)
        self._registry.register(_EngineProcess(engine_pid))

    def ended(self, model: str, done: Done) -> None:
        """Count a text."""
        self._texts.labels(model, done.finish_reason).inc()
        self._prompt_tokens.labels(model).inc(done.prompt_tokens)
        self._new_tokens.labels(model).inc(done.new_tokens)
        if done.new_tokens:
            self._first_token.labels(model).observe(done.time_to_first_token)

    def left(self, model: str) -> None:
        """Count a text that nobody waited for any more."""
        self._texts.labels(model, "cancelled").inc()

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineProcess(Collector):
    """What the engine's process takes; another one may stand in its place the next time."""

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid

    def collect(self) -> Iterable[Metric]:
        """Read it."""
        pid = self._pid()
        return [] if pid is None else ProcessCollector("minigpt_engine", lambda: pid, registry=None).collect()


class Counting:
    """Counts every request with its endpoint, its status and its time, as ASGI middleware."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._meters.answered(_endpoint(scope), status, time.monotonic() - began)


def _endpoint(scope: Scope) -> str:
    """The path as it was declared: what people make up must not become labels."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else "other"
