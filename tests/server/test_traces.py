"""Spans of requests: in the trace that the client names, with figures and without its text."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from unmask.server.guard import Guard
from unmask.server.keys import Keys
from unmask.server.metrics import Metrics
from unmask.server.settings import Settings


def test_a_request_is_a_span() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"said": {"model": "tiny", "tokens": 6}}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> dict[str, Any]:
        if asked:
            await asyncio.Event().wait()
        asked.append(1)
        return {"type": "http.request", "body": b"secret"}

    async def send(message: Any) -> None:
        sent.append(message)

    asked: list[int] = []
    sent: list[Any] = []
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/embed",
        "headers": [(b"traceparent", parent)],
    }
    asyncio.run(Guard(app, Settings(), Keys({}), Metrics(), lambda: None)(scope, receive, send))  # type: ignore[arg-type]
    (span,) = kept.get_finished_spans()
    assert span.attributes["http.response.status_code"] == sent[0]["status"] == 200
    assert span.attributes["unmask.tokens"] == 6
    assert f"{span.context.trace_id:032x}" == parent.decode().split("-")[1]
    assert "secret" not in span.to_json()
