"""A server under test, and load for it: what the benchmarks of serving share."""

from __future__ import annotations

import asyncio
import json
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
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families
from wire import Client

Request = tuple[str, Any]  # path, and the body's value
Check = Callable[[int, Any], bool]  # is this the right answer to the request of this number?
ASKED = ("/embed", "other")  # the door refuses before it knows a route: these are under "other"
REFUSED = ConnectionRefusedError.__name__  # the fate of what nobody listened to


class Running:
    """`unmask serve`, or any command that says where it listens, until the end of a `with`."""

    def __init__(
        self, sources: Sequence[str], *options: str, command: Sequence[str] | None = None
    ) -> None:
        ours = [sys.executable, "-m", "unmask", "serve", *sources, "--port", "0", *options]
        self.process = subprocess.Popen(
            command or ours,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
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
        """SIGTERM, and the code that it ends with; what does not end with it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:  # some peers leave processes behind, which would disturb the next
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def get(self, path: str) -> httpx.Response:
        """One request."""
        return httpx.get(self.url + path, timeout=60)

    def counted(self, sample: str, label: str, routes: Sequence[str] = ()) -> dict[str, float]:
        """A figure of /metrics, summed for each value of a label (of some routes only)."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for one in family.samples:
                if one.name == sample and (not routes or one.labels["route"] in routes):
                    key = one.labels[label]
                    found[key] = found.get(key, 0.0) + one.value
        return found

    def processes(self) -> list[int]:
        """The server's process id, and its children's."""
        own = self.process.pid
        children = [one.read_text() for one in Path(f"/proc/{own}/task").glob("*/children")]
        return [own, *map(int, " ".join(children).split())]

    def cpu_seconds(self) -> list[float]:
        """Processor time so far: of the server, and of each of its workers."""
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        for one in self.processes():
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            found.append((int(fields[11]) + int(fields[12])) / ticks)
        return found

    def memory_mb(self) -> float:
        """Memory of the server and its workers; what they share is counted once (PSS)."""
        total = 0
        for one in self.processes():
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 2**10


class Fate(NamedTuple):
    """What became of one request."""

    due: float  # when it was to be sent, on the monotonic clock
    seconds: float  # from then until it was answered, or failed
    fate: str  # the status, or the name of the error
    right: bool  # what was answered, as far as it was checked


class Tally:
    """The fate of every request of a load of so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.seconds = seconds
        self.all: list[Fate] = []

    @property
    def fates(self) -> Counter[str]:
        """How often each fate was."""
        return Counter(one.fate for one in self.all)

    def summary(self) -> dict[str, Any]:
        """What was answered a second before time was up, and all latencies in milliseconds."""
        answered = [one for one in self.all if one.fate == "200"]
        end = self.began + self.seconds
        found = {
            "sent": len(self.all),
            "fates": dict(self.fates),
            "wrong_answers": sum(not one.right for one in answered),
            "per_second": sum(one.due + one.seconds <= end for one in answered) / self.seconds,
        }
        if len(answered) > 1:
            cuts = statistics.quantiles(
                (one.seconds for one in answered), n=100, method="inclusive"
            )
            found |= {"p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}
        return found


async def closed(
    url: str,
    requests: Callable[[int], Request],
    clients: int,
    seconds: float,
    check: Check | None = None,
) -> Tally:
    """So many clients, each of which asks again when it was answered."""
    tally = Tally(seconds)

    async def one(number: int) -> None:
        async with Client(url) as client:
            i = number
            while (now := time.monotonic()) < tally.began + seconds:
                await _ask(client, i, requests(i), now, tally, check)
                if tally.all[-1].fate == REFUSED:
                    await asyncio.sleep(0.05)  # nobody is there: no need to ask all the time
                i += clients

    await asyncio.gather(*(one(i) for i in range(clients)))
    return tally


async def open_loop(
    url: str, requests: Callable[[int], Request], rate: float, seconds: float, seed: int = 0
) -> Tally:
    """So many requests a second at times of chance, whether earlier ones were answered or not.

    The number is exact and only the times are of chance, so that runs compare. Latency begins
    when a request was due, even where the client was late.
    """
    rng = random.Random(seed)
    dues = sorted(rng.uniform(0, seconds) for _ in range(round(rate * seconds)))
    async with Client(url) as client:
        asked, tally = [], Tally(seconds)
        for number, after in enumerate(dues):
            due = tally.began + after
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(_ask(client, number, requests(number), due, tally, None))
            asked.append(task)
        await asyncio.gather(*asked)
    return tally


async def _ask(
    client: Client,
    number: int,
    request: Request,
    due: float,
    tally: Tally,
    check: Check | None,
) -> None:
    path, value = request
    right = True
    try:
        status, body = await client.post(path, value)
        fate = str(status)
    except (OSError, EOFError, TimeoutError) as error:
        fate = type(error).__name__
    seconds = time.monotonic() - due
    if fate == "200" and check:
        right = check(number, json.loads(body))
    tally.all.append(Fate(due, seconds, fate, right))


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
