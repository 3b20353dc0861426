"""Twice the load that a server can bear: what it still does, and what becomes of the rest.

First its peak is measured in a closed loop, then requests come at twice that rate. Useful
throughput against the peak, the fate of every request, the latency of those that were answered,
and memory minute by minute.

    .venv/bin/python bench/overload.py BUNDLE --seconds 600 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from machine import machine, versions
from serving import Request, Running, closed, mixed_texts, open_loop


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--timeout", default="2", help="seconds: the bound of the server")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    texts = mixed_texts()

    def request(i: int) -> Request:
        return "/embed", {"inputs": f"{i} {texts[i % len(texts)]}"}

    with Running(
        [options.bundle], "--workers", options.workers, "--timeout", options.timeout
    ) as server:
        found = asyncio.run(_overload(server, request, options.seconds))
        figures = server.get("/metrics").text
    counted = sum(
        float(line.split()[-1])
        for line in figures.splitlines()
        if line.startswith('unmask_requests_total{route="/embed"')
    )
    result = {
        **found,
        "server_counted": counted,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


async def _overload(server: Running, request: Any, seconds: float) -> dict[str, Any]:
    await closed(server.url, request, 16, 3)  # what is slow only once
    measured = max(5.0, min(30.0, seconds / 4))
    peak = (await closed(server.url, lambda i: request(i + 10_000), 16, measured)).summary(measured)
    memory: list[float] = []

    async def watch() -> None:
        while True:
            memory.append(server.memory_mb())
            await asyncio.sleep(min(60.0, seconds / 5))

    watching = asyncio.create_task(watch())
    rate = 2 * peak["per_second"]
    tally = await open_loop(server.url, lambda i: request(i + 100_000), rate, seconds)
    watching.cancel()
    over = tally.summary(seconds)
    return {
        "ours": over["per_second"],
        "peak": peak,
        "overload": over,
        "rate": rate,
        "ratio": over["per_second"] / peak["per_second"],
        "unit": "requests answered a second at twice the peak's rate, against the peak",
        "seconds": seconds,
        "memory_mb": memory,
    }


if __name__ == "__main__":
    main()
