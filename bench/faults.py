"""Workers killed, bundles loaded anew, clients that vanish, SIGTERM: every request's fate counted.

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
from typing import Any

from machine import machine, versions
from serving import Request, Running, Tally, closed, mixed_texts


def main() -> None:
    """One server, one fault after the other under load; print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=float, default=60, help="of each fault")
    parser.add_argument("--every", type=float, default=10, help="seconds between two faults")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    server = Running([options.bundle], "--workers", "2")
    faults = {
        "none": lambda: None,
        "a worker is killed": lambda: os.kill(
            random.choice(server.processes()[1:]), signal.SIGKILL
        ),
        "all is loaded anew": lambda: os.kill(server.process.pid, signal.SIGHUP),
    }
    found: dict[str, Any] = {}
    for number, (name, fault) in enumerate(faults.items()):
        found[name] = asyncio.run(_with(server, fault, options, number))
    found["clients vanish"] = asyncio.run(_vanishing(server, options, len(faults)))
    healthy = server.get("/health").status_code
    found["SIGTERM"] = asyncio.run(_with(server, server.process.terminate, options, 9, once=True))
    code = server.process.wait(120)
    result = {
        "ours": sum(one["unexplained"] for one in found.values()),
        "unit": "requests whose fate is not known",
        "faults": found,
        "health_before_the_end": healthy,
        "exit_code": code,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


def _requests(number: int) -> Any:
    texts = mixed_texts(2000, seed=number)

    def request(i: int) -> Request:
        return "/embed", {"inputs": f"{number} {i} {texts[i % len(texts)]}"}

    return request


async def _with(
    server: Running, fault: Any, options: argparse.Namespace, number: int, once: bool = False
) -> dict[str, Any]:
    """Load, with the fault every few seconds."""
    count = 0

    async def strike() -> None:
        nonlocal count
        while not once or not count:
            await asyncio.sleep(min(options.every, options.seconds / 2))
            with contextlib.suppress(IndexError, ProcessLookupError):
                fault()
                count += 1

    striking = asyncio.create_task(strike())
    tally = await closed(server.url, _requests(number), 8, options.seconds)
    striking.cancel()
    return {**tally.summary(options.seconds), "strikes": count}


async def _vanishing(server: Running, options: argparse.Namespace, number: int) -> dict[str, Any]:
    """Clients that close their connection at a random moment, beside those that stay."""
    host, port = server.url.removeprefix("http://").split(":")
    vanished = Tally()
    staying = asyncio.create_task(closed(server.url, _requests(number), 4, options.seconds))
    rng = random.Random(number)
    while not staying.done():
        body = json.dumps({"inputs": f"gone {vanished.sent}"}).encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        vanished.sent += 1
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(1), rng.random() * 0.1)
        writer.close()
        vanished.fates["left"] += 1
    return {**(await staying).summary(options.seconds), "strikes": vanished.sent}


if __name__ == "__main__":
    main()
