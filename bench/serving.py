"""A server under test, and load for it: what the benchmarks of serving share."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

Request = tuple[str, Any]  # path, and the body's value


class Running:
    """`unmask serve`, or any command that says where it listens, until the end of a `with`."""

    def __init__(
        self, sources: Sequence[str], *options: str, command: Sequence[str] | None = None
    ) -> None:
        ours = [sys.executable, "-m", "unmask", "serve", *sources, "--port", "0", *options]
        self.process = subprocess.Popen(
            command or ours, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self.process.stderr is not None
        self.url, said = "", []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"on (https?://\S+)", line):
                self.url = found[1]
                break
        if not self.url:
            raise SystemExit("the server did not start:\n" + "".join(said[-20:]))
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for _ in self.process.stderr:
            pass

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM, and the code that it ends with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def get(self, path: str) -> httpx.Response:
        """One request."""
        return httpx.get(self.url + path, timeout=60)

    def processes(self) -> list[int]:
        """The server's process id, and its children's."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def cpu_seconds(self) -> list[float]:
        """Processor time so far: of the server, and of each of its workers."""
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        for one in self.processes():
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12])) / ticks)
        return found

    def memory_mb(self) -> float:
        """Resident memory of the server and its workers."""
        page = os.sysconf("SC_PAGE_SIZE")
        total = 0
        for one in self.processes():
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * page
        return total / 2**20


class Tally:
    """The fate of every request, and how long those took that were answered."""

    def __init__(self) -> None:
        self.fates: Counter[str] = Counter()
        self.sent = 0
        self.seconds: list[float] = []
        self.finished: list[float] = []  # when, on the monotonic clock

    def summary(self, seconds: float) -> dict[str, Any]:
        """Throughput of what was answered, and its latencies in milliseconds."""
        answered = self.fates["200"]
        found = {
            "sent": self.sent,
            "fates": dict(self.fates),
            "unexplained": self.sent - self.fates.total(),
            "per_second": answered / seconds,
        }
        if len(self.seconds) > 1:
            cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
            found |= {"p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}
        return found


async def closed(
    url: str, requests: Callable[[int], Request], clients: int, seconds: float
) -> Tally:
    """So many clients, each of which asks again when it was answered."""
    tally, until = Tally(), time.monotonic() + seconds

    async def one(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            i = number
            while time.monotonic() < until:
                await _ask(client, requests(i), tally)
                i += clients

    await asyncio.gather(*(one(i) for i in range(clients)))
    return tally


async def open_loop(
    url: str, requests: Callable[[int], Request], rate: float, seconds: float, seed: int = 0
) -> Tally:
    """Requests at times of chance, so many a second, whether earlier ones were answered or not."""
    tally, rng, asked = Tally(), random.Random(seed), set()
    limits = httpx.Limits(max_connections=512, max_keepalive_connections=512)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        due = began = time.monotonic()
        number = 0
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(_ask(client, requests(number), tally))
            asked.add(task)
            task.add_done_callback(asked.discard)
            due += rng.expovariate(rate)
            number += 1
        await asyncio.gather(*asked)
    return tally


async def _ask(client: httpx.AsyncClient, request: Request, tally: Tally) -> None:
    path, value = request
    tally.sent += 1
    began = time.perf_counter()
    try:
        response = await client.post(path, json=value)
    except httpx.HTTPError as error:
        tally.fates[type(error).__name__] += 1
        return
    tally.fates[str(response.status_code)] += 1
    if response.status_code == 200:
        tally.seconds.append(time.perf_counter() - began)
        tally.finished.append(time.monotonic())


def mixed_texts(count: int = 20_000, seed: int = 0) -> list[str]:
    """Texts of 3 to 120 words, most of them short, no two alike."""
    rng = random.Random(seed)
    words = (
        "the of and a to in is you that it he was for on are as with his they at be this have from "
        "or one had by word but not what all were we when your can said there use an each which "
        "she do how their if will up other about out many then them these so some her would make"
    ).split()
    texts = []
    for i in range(count):
        length = min(120, 3 + int(rng.expovariate(1 / 14)))
        texts.append(f"{i} " + " ".join(rng.choices(words, k=length)))
    return texts
