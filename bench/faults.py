"""Workers killed, bundles loaded anew, clients that vanish, SIGTERM: every request's fate counted.

Each answer is compared with its text's vector, which is asked for in a quiet moment first. What
needs an explanation: anything but 200 and 429, and under SIGTERM anything but 200 for what was sent
before it, and but 200 and a refused connection for what was sent after. Of clients that vanish the
server must have counted each once. Takes five times --seconds and a minute or two; the exit code
is 1 where anything was unexplained or wrong. The server keeps no answers, so that each is computed.

    .venv/bin/python bench/faults.py BUNDLE --seconds 60 --json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import machine, versions
from serving import ASKED, REFUSED, Request, Running, Tally, closed, mixed_texts
from wire import Client

STATUSES = ("unmask_requests_total", "status", ASKED)
EVENTS = ("unmask_events_total", "event")
SAME = 0.9999  # cosine: the same text in another batch, in fp32


class Texts:
    """Texts and their true vectors, asked for one by one."""

    def __init__(self, url: str, count: int) -> None:
        self.texts = mixed_texts(count)
        self.vectors = asyncio.run(self._true(url))
        near = self.vectors @ self.vectors.T - 2 * np.eye(count)
        if near.max() > SAME:
            raise SystemExit("two texts have the same vector: a mix-up would not show")

    async def _true(self, url: str) -> np.ndarray[Any, Any]:
        async with Client(url) as client:
            answers = [(await client.post(*self.request(i)))[1] for i in range(len(self.texts))]
        return np.stack([_vector(json.loads(one)) for one in answers])

    def request(self, i: int) -> Request:
        """What asks for a text's vector."""
        return "/embed", {"inputs": self.texts[i % len(self.texts)]}

    def check(self, i: int, answer: Any) -> bool:
        """Is it this text's vector, and no other's?"""
        return float(_vector(answer) @ self.vectors[i % len(self.texts)]) > SAME


def _vector(answer: Any) -> np.ndarray[Any, Any]:
    vector = np.asarray(answer[0], dtype=np.float64)
    return vector / np.linalg.norm(vector)


def main() -> None:
    """One server, one fault after the other under load; print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=float, default=60, help="of each fault")
    parser.add_argument("--every", type=float, default=10, help="seconds between two faults")
    parser.add_argument("--texts", type=int, default=500, help="whose vectors are known")
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    server = Running([options.bundle], "--workers", "2", "--cache-mb", "0")
    texts = Texts(server.url, options.texts)
    faults: dict[str, Callable[[], None]] = {
        "none": lambda: None,
        "a worker is killed": lambda: _kill(server),
        "all is loaded anew": lambda: os.kill(server.process.pid, signal.SIGHUP),
    }
    found: dict[str, Any] = {}
    for name, fault in faults.items():
        found[name] = asyncio.run(_struck(server, texts, fault, options))
    found["clients vanish"] = asyncio.run(_vanishing(server, texts, options))
    healthy = server.get("/health").status_code
    events = server.counted(*EVENTS)
    found["SIGTERM"] = asyncio.run(_ended(server, texts, options))
    code = server.process.wait(120)
    unexplained = sum(sum(one["unexplained"].values()) for one in found.values())
    wrong = sum(one["wrong_answers"] for one in found.values())
    result = {
        "ours": unexplained,
        "unit": "requests whose fate is not explained",
        "wrong_answers": wrong,
        "faults": found,
        "events": events,
        "health_before_the_end": healthy,
        "exit_code": code,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))
    if unexplained or wrong or code or healthy != 200:
        raise SystemExit(1)


def _kill(server: Running) -> None:
    os.kill(random.choice(server.processes()[1:]), signal.SIGKILL)


def _said(tally: Tally, explained: tuple[str, ...] = ("200", "429")) -> dict[str, Any]:
    unexplained = {key: n for key, n in tally.fates.items() if key not in explained}
    return {**tally.summary(), "unexplained": unexplained}


async def _struck(
    server: Running, texts: Texts, fault: Callable[[], None], options: argparse.Namespace
) -> dict[str, Any]:
    """Load, with the fault every few seconds."""
    count, events = 0, server.counted(*EVENTS)

    async def strike() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(min(options.every, options.seconds / 2))
            with contextlib.suppress(IndexError, ProcessLookupError):
                fault()
                count += 1

    striking = asyncio.create_task(strike())
    tally = await closed(server.url, texts.request, 8, options.seconds, texts.check)
    striking.cancel()
    await _settle(server)
    saw = _more(server.counted(*EVENTS), events)
    return {**_said(tally), "strikes": count, "server_events": saw}


async def _settle(server: Running) -> None:
    """Wait until the server has had its two workers, and no others, for five seconds."""
    calm = 0
    for _ in range(120):
        calm = calm + 1 if len(server.processes()) == 3 else 0
        if calm == 5:
            return
        await asyncio.sleep(1)


async def _ended(server: Running, texts: Texts, options: argparse.Namespace) -> dict[str, Any]:
    """Load, with SIGTERM in the middle: the fates of what was sent before it and after."""
    loading = asyncio.create_task(
        closed(server.url, texts.request, 8, options.seconds, texts.check)
    )
    await asyncio.sleep(options.seconds / 2)
    server.process.terminate()
    then = time.monotonic()
    tally = await loading
    before = Counter(one.fate for one in tally.all if one.due < then)
    after = Counter(one.fate for one in tally.all if one.due >= then)
    unexplained = {f"{key}, sent before": n for key, n in before.items() if key != "200"}
    unexplained |= {
        f"{key}, sent after": n for key, n in after.items() if key not in ("200", REFUSED)
    }
    fates = {"sent_before": dict(before), "sent_after": dict(after), "unexplained": unexplained}
    return {**tally.summary(), **fates, "strikes": 1}


async def _vanishing(server: Running, texts: Texts, options: argparse.Namespace) -> dict[str, Any]:
    """Clients that close their connection at a random moment, beside those that stay.

    The server counts 200 where it had answered before it saw that they left, else 499.
    """
    host, port = server.url.removeprefix("http://").split(":")
    counted, events = server.counted(*STATUSES), server.counted(*EVENTS)
    staying = asyncio.create_task(
        closed(server.url, texts.request, 4, options.seconds, texts.check)
    )
    rng, vanished = random.Random(0), 0
    while not staying.done():
        path, value = texts.request(rng.randrange(10**6))
        body = json.dumps(value).encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        vanished += 1
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(1), rng.random() * 0.1)
        writer.close()
    tally = await staying
    await asyncio.sleep(2)  # until the server has seen the last ones leave
    saw = _more(server.counted(*STATUSES), counted)
    saw = {key: n - tally.fates.get(key, 0) for key, n in saw.items()}  # of those that vanished
    found = _said(tally)
    if missed := vanished - sum(saw.values()):
        found["unexplained"]["vanished, not counted once each"] = abs(missed)
    return {
        **found,
        "strikes": vanished,
        "server_counted_of_the_vanished": saw,
        "server_events": _more(server.counted(*EVENTS), events),
    }


def _more(later: dict[str, float], before: dict[str, float]) -> dict[str, int]:
    """What was added to figures in between, by label."""
    return {key: int(n - before.get(key, 0)) for key, n in later.items() if n != before.get(key)}


if __name__ == "__main__":
    main()
