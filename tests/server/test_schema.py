"""Requests made from the OpenAPI document: none gets a 5xx; `bench/hostile.py` sends thousands."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

_SKIPPED = ("/admin/reload", "/metrics")


def test_generated_requests(server: Any, client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [
        found.ok() for found in schema.get_all_operations() if found.ok().path not in _SKIPPED
    ]
    assert len(operations) >= 15

    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=4,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Any) -> None:
                response = case.call(base_url=server.url)
                assert response.status_code < 500, response.text
                if response.status_code >= 400:
                    assert response.json()["error"]

            with suppress(Unsatisfiable):  # nothing can be wrong where nothing is given
                ask()


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_any_bytes(client: httpx.Client, body: bytes) -> None:
    response = client.post(
        "/v1/tasks/mood", content=body, headers={"content-type": "application/json"}
    )
    assert 400 <= response.status_code < 500
