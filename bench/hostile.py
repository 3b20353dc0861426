"""Thousands of generated requests at a server: no 5xx, no hang, and its memory stays where it was.

Schemathesis makes requests, right and wrong ones, from the server's own OpenAPI document, where
the names of tasks and models are those that are served: a random name would only be looked for.
(The hand-made set of what strangers send is tests/server/test_hostile.py.) Memory is PSS, a hundred
times; its level is what it was after the first tenth, and the most after that is compared with it.
Making a request costs more than answering it. The exit code is 1 where a verdict is "false".

    .venv/bin/python bench/hostile.py BUNDLE --requests 20000 --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from machine import machine, versions
from schemathesis.core.result import Ok
from serving import Running

SKIPPED = ("/admin/reload",)
SLOW = 30.0  # seconds after which an answer counts as a hang
GROWTH = 0.10  # of memory, from the first tenth of the requests to any later moment


def main() -> None:
    """Send the requests, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    with Running([options.bundle], "--workers", "1", "--cache-mb", "0") as server:
        found = _attack(server, options.requests)
    result = {**found, "machine": machine(), "versions": versions()}
    print(json.dumps(result, indent=None if options.json else 2))
    if not all(found["verdicts"].values()):
        raise SystemExit(1)


def _document(server: Running) -> dict[str, Any]:
    """The OpenAPI document, in which tasks and models have the names that are served."""
    info = server.get("/info").json()
    names = {"model": info["models"], "models": info["models"]}
    if info["tasks"]:
        tasks = [one["name"] for one in info["tasks"]]
        names |= {"task": tasks, "tasks": tasks}
    document: dict[str, Any] = server.get("/openapi.json").json()
    for name, schema in _named(document):
        _restrict(schema, names.get(name, []))
    return document


def _named(part: Any) -> Iterator[tuple[str, Any]]:
    """Each parameter and property below, by name, with its schema."""
    if isinstance(part, dict):
        if "schema" in part and "name" in part:
            yield part["name"], part["schema"]
        if isinstance(own := part.get("properties"), dict):
            yield from own.items()
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from _named(one)


def _restrict(schema: dict[str, Any], names: list[str]) -> None:
    """Let texts in it be one of these names, and so the keys of its mappings."""
    for one in (schema, *schema.get("anyOf", ())) if names else ():
        if one.get("type") == "string":
            one["enum"] = names
        elif one.get("type") == "array":
            _restrict(one["items"], names)
        elif one.get("type") == "object":
            one["propertyNames"] = {"enum": names}


def _attack(server: Running, requests: int) -> dict[str, Any]:
    schema = schemathesis.openapi.from_dict(_document(server))
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
        if statuses.total() % max(requests // 100, 1) == 0:
            memory.append(server.memory_mb())

    send()
    healthy = server.get("/health").status_code == 200
    errors = sum(count for status, count in statuses.items() if status >= 500)
    level, largest = memory[len(memory) // 10], max(memory[len(memory) // 10 :])
    return {
        "verdicts": {
            "no 5xx": not errors,
            "no hang": not hangs,
            f"memory within {GROWTH:.0%} of its level": largest <= level * (1 + GROWTH),
            "healthy": healthy,
            "as many as asked for": statuses.total() >= requests,
        },
        "requests": statuses.total(),
        "operations": len(operations),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "server_errors": errors,
        "hangs": hangs,
        "slowest_seconds": slowest,
        "memory": {"level_mb": level, "end_mb": memory[-1], "largest_mb": largest},
        "memory_mb": memory,
    }


if __name__ == "__main__":
    main()
