"""Thousands of generated requests at a server: no 5xx, no hang, and its memory stays where it was.

Schemathesis makes requests, right and wrong ones, from the server's own OpenAPI document.

    .venv/bin/python bench/hostile.py BUNDLE --requests 20000 --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from machine import machine, versions
from schemathesis.core.result import Ok
from serving import Running

SKIPPED = ("/admin/reload",)
SLOW = 30.0  # seconds after which an answer counts as a hang


def main() -> None:
    """Send the requests, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    with Running([options.bundle], "--workers", "1") as server:
        found = _attack(server, options.requests)
    result = {**found, "machine": machine(), "versions": versions()}
    print(json.dumps(result, indent=None if options.json else 2))
    if found["server_errors"] or found["hangs"] or not found["healthy"]:
        raise SystemExit(1)


def _attack(server: Running, requests: int) -> dict[str, Any]:
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    operations = [one for one in found if one.path not in SKIPPED]
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    ]
    statuses: Counter[int] = Counter()
    slowest, hangs = 0.0, 0
    memory: list[float] = []

    @given(case=st.one_of(strategies))
    @settings(
        max_examples=requests,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        nonlocal slowest, hangs
        began = time.perf_counter()
        status = case.call(base_url=server.url, timeout=2 * SLOW).status_code
        seconds = time.perf_counter() - began
        statuses[status] += 1
        slowest, hangs = max(slowest, seconds), hangs + (seconds > SLOW)
        if statuses.total() % max(requests // 10, 1) == 0:
            memory.append(server.memory_mb())

    send()
    healthy = server.get("/health").status_code == 200
    return {
        "requests": statuses.total(),
        "operations": len(operations),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "server_errors": sum(count for status, count in statuses.items() if status >= 500),
        "hangs": hangs,
        "slowest_seconds": slowest,
        "memory_mb": memory,
        "healthy": healthy,
    }


if __name__ == "__main__":
    main()
