"""Twice the load that a server can bear: what it still does, and what becomes of the rest.

Its peak is measured in a closed loop, then requests come at twice that rate, then the peak again:
what a machine does changes over minutes, so useful throughput is compared with the mean of both.
The server keeps no answers (`--cache-mb 0`): each text is new, and a cache that fills would look
like a leak. Memory is PSS, every few seconds; its level is the median of the second tenth (of ten
minutes: the second minute), and what comes later is compared with it. The fates that clients saw
are compared with what the server counted in the same time, status by status.

Takes --seconds and at most 130 more. The exit code is 1 where a verdict is "false".

    .venv/bin/python bench/overload.py BUNDLE --seconds 600 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from machine import machine, versions
from serving import ASKED, Request, Running, closed, mixed_texts, open_loop

STATUSES = ("unmask_requests_total", "status", ASKED)


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--clients", type=int, default=16, help="of the closed loop")
    parser.add_argument("--timeout", default="2", help="seconds: the bound of the server")
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    own = ["--workers", options.workers, "--timeout", options.timeout, "--cache-mb", "0"]
    with Running([options.bundle], *own) as server:
        found = asyncio.run(_overload(server, options))
    result = {**found, "machine": machine(), "versions": versions()}
    print(json.dumps(result, indent=None if options.json else 2))
    if not all(found["verdicts"].values()):
        raise SystemExit(1)


async def _overload(server: Running, options: argparse.Namespace) -> dict[str, Any]:
    texts = mixed_texts()
    seconds, bound_ms = options.seconds, 1e3 * float(options.timeout)
    measured = max(5.0, min(60.0, seconds / 4))

    async def peak(start: int) -> dict[str, Any]:
        def request(i: int) -> Request:
            return "/embed", {"inputs": f"{start + i} {texts[i % len(texts)]}"}

        await closed(server.url, request, options.clients, 3)  # what is slow only once
        return (await closed(server.url, request, options.clients, measured)).summary()

    def request(i: int) -> Request:
        return "/embed", {"inputs": f"over {i} {texts[i % len(texts)]}"}

    before = await peak(10**6)
    rate = 2 * before["per_second"]
    counted = server.counted(*STATUSES)
    watching = asyncio.create_task(_watch(server, seconds))
    tally = await open_loop(server.url, request, rate, seconds)
    memory = await watching
    later = server.counted(*STATUSES)
    after = await peak(2 * 10**6)
    over = tally.summary()
    served = {key: int(later[key] - counted.get(key, 0)) for key in later}
    served = {key: value for key, value in served.items() if value}
    peaks = [before["per_second"], after["per_second"]]
    ratio = over["per_second"] / statistics.mean(peaks)
    drift = _drift(memory, seconds)
    return {
        "ours": over["per_second"],
        "ratio": ratio,
        "ratios": [over["per_second"] / one for one in peaks],
        "unit": "requests answered a second at twice the peak's rate, against the peak",
        "verdicts": {
            "useful throughput at least 0.95 of the peak": ratio >= 0.95,
            "the rest is 429": set(over["fates"]) <= {"200", "429"},
            f"p99 of accepted within {bound_ms:.0f} ms": over.get("p99_ms", 1e9) <= bound_ms,
            "memory within 5 % of its level": drift["largest_difference"] <= 0.05,
            "none lost or answered twice": served == over["fates"],
        },
        "rate": rate,
        "seconds": seconds,
        "peak_before": before,
        "peak_after": after,
        "overload": over,
        "server_counted": served,
        "memory": drift,
        "memory_mb": memory,
    }


async def _watch(server: Running, seconds: float) -> list[tuple[float, float]]:
    """Seconds since the load began, and megabytes: 120 times, or once a second."""
    found, began = [], time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        found.append((now, await asyncio.to_thread(server.memory_mb)))
        await asyncio.sleep(max(1.0, seconds / 120))
    return found


def _drift(memory: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """The level in the second tenth, at the end, and the largest relative difference between."""
    level = statistics.median(mb for at, mb in memory if seconds / 10 <= at <= seconds / 5)
    late = [mb for at, mb in memory if at > seconds / 5]
    return {
        "level_mb": level,
        "end_mb": late[-1],
        "end_difference": late[-1] / level - 1,
        "largest_difference": max(abs(mb / level - 1) for mb in late),
    }


if __name__ == "__main__":
    main()
