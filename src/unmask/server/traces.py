"""A span for each request, where OpenTelemetry is installed (the extra `otel`) and set up.

The server makes spans and leaves where they go to the environment, as `opentelemetry-instrument`
sets it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def span(headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Around a request, as a part of the trace that its `traceparent` names.

    What is put into the dictionary becomes the span's attributes, and `route` its name.
    """
    said: dict[str, Any] = {}
    try:
        from opentelemetry import propagate, trace
    except ModuleNotFoundError:
        yield said
        return
    context = propagate.extract(headers)
    tracer = trace.get_tracer("unmask.server")
    with tracer.start_as_current_span("request", context, trace.SpanKind.SERVER) as current:
        yield said
        route = said.pop("route", "other")
        current.update_name(f"{said.get('method')} {route}")
        current.set_attribute("http.route", route)
        for name, value in said.items():
            if value is not None:
                current.set_attribute(_NAMES.get(name, f"unmask.{name}"), value)
        if said.get("status", 0) >= 500:
            current.set_status(trace.StatusCode.ERROR)


_NAMES = {
    "method": "http.request.method",
    "status": "http.response.status_code",
}
