"""One model being served: its reader, its cache, its queue and its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from unmask.server.asks import Answered, Ask, Read, Reader, digests
from unmask.server.cache import Cache
from unmask.server.errors import Refusal, overloaded
from unmask.server.metrics import Metrics
from unmask.server.pool import Pool
from unmask.server.scheduler import Queue, Unit
from unmask.server.settings import Settings
from unmask.server.why import MOST_READ

Outcome = Answered | Refusal


@dataclass(eq=False)
class _Flight:
    """An ask that is being computed, and how many wait for it."""

    future: asyncio.Future[Outcome]
    read: Read
    unit: Unit
    fellows: Mapping[bytes, _Flight]  # all asks of its unit, its own too
    waiters: int = 0


@dataclass
class Served:
    """A model by the name it is served under."""

    name: str
    source: str
    settings: Settings
    metrics: Metrics
    hello: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = self.settings
        self.queue = Queue(options.queue_tokens, options.batch_tokens, options.batch_seconds)
        # One by one, the oldest first; they wait apart, so that no answer waits for them.
        self.explanations = Queue(MOST_READ, batch_tokens=1, age=0.0)
        self.pool = Pool(
            self.source,
            self.queue,
            self.explanations,
            self.metrics.of(self.name),
            options.workers,
            options.threads,
        )
        self.cache: Cache[Answered] = Cache(options.cache_bytes)
        self.active = 0  # requests that are with this model
        # Strange files and books may take seconds to read; texts do not wait behind them.
        self._slow = ThreadPoolExecutor(2, "slow")
        self._flights: dict[bytes, _Flight] = {}

    async def start(self) -> None:
        """Start the workers; a UserError where the model cannot be loaded."""
        self.hello = await self.pool.start()
        self.reader = Reader(self.hello)
        self.version = f"{self.hello['sha256']} {self.form} {self.precision}"

    async def drain(self) -> None:
        """Wait until nobody is waiting for this model, then end its workers."""
        while self.active:
            await asyncio.sleep(0.02)
        await self.pool.stop()
        self._slow.shutdown(wait=False)

    @property
    def form(self) -> str:
        """What computes: torch, or a compiled form."""
        return str(self.hello["form"])

    @property
    def precision(self) -> str:
        """In which numbers."""
        return str(self.hello["precision"])

    @property
    def width(self) -> int:
        """D, the width of a text's vector."""
        return int(self.hello["encoder"]["hidden_size"])

    async def ask(self, asks: Sequence[Ask], seconds: float) -> list[Outcome]:
        """What is answered to each, in their order: what is wrong with one is its own outcome.

        A Refusal is raised where nothing of the request can be taken on. Identical asks are
        computed once, whoever asks; asks of the same tokens share a pass.
        """
        joined: dict[bytes, _Flight] = {}
        self.active += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(asks, seconds, joined)
        except TimeoutError:
            message = f"no answer within {seconds:g} s"
            wait = self._queue_of(asks[0]).wait
            if any(not one.unit.started for one in joined.values()):
                raise overloaded(f"{message}: its turn did not come", wait) from None
            raise Refusal(504, "too_late", message, max(1.0, wait)) from None
        finally:
            for flight in joined.values():
                self._leave(flight)
            self.active -= 1

    async def _ask(
        self, asks: Sequence[Ask], seconds: float, joined: dict[bytes, _Flight]
    ) -> list[Outcome]:
        rows = digests(asks)
        keys = [ask.key(self.version, row) for ask, row in zip(asks, rows, strict=True)]
        found: dict[bytes, Outcome] = {}
        new: dict[bytes, tuple[Ask, bytes]] = {}
        for key, ask, row in zip(keys, asks, rows, strict=True):
            held = self.cache.get(key)
            if held is not None:
                found[key] = replace(held, cached=True)
            elif not self._join(key, joined):
                new[key] = (ask, row)
        if new:  # under overload most are refused, and that must cost next to nothing
            self._queue_of(asks[0]).admit_any(seconds)
        read = await self._read([ask for ask, _ in new.values()])
        # From here to the next wait nobody else can change what is under way.
        fresh: dict[bytes, tuple[Ask, bytes, Read]] = {}
        for (key, (ask, row)), one in zip(new.items(), read, strict=True):
            if isinstance(one, Refusal):
                found[key] = one
            elif not self._join(key, joined):
                fresh[key] = (ask, row, one)
        if fresh:
            self._take_on(fresh, seconds)
            for key in fresh:
                self._join(key, joined)
            self.pool.feed()
        for key, flight in joined.items():
            # Shielded, since others may wait for the same.
            found[key] = await asyncio.shield(flight.future)
        outcomes = [found[key] for key in keys]
        self.metrics.count(self.name, outcomes)
        return outcomes

    async def write(self, ask: Ask, seconds: float) -> AsyncGenerator[str | Answered, None]:
        """The parts of a text as they are written, and at the end the whole answer."""
        deadline = time.monotonic() + seconds
        self.active += 1
        try:
            (read,) = await self._read([ask])
            if isinstance(read, Refusal):
                raise read
            messages = self.pool.write(str(ask.task), ask.row, ask.options)
            async with aclosing(messages):
                while True:
                    left = deadline - time.monotonic()
                    said, body = await asyncio.wait_for(anext(messages), max(left, 0.001))
                    if "part" in said:
                        yield said["part"]
                        continue
                    outcome = _outcome(read, said["result"], body)
                    if isinstance(outcome, Refusal):
                        raise outcome
                    self.metrics.count(self.name, [outcome])
                    yield outcome
                    return
        except TimeoutError:
            raise Refusal(504, "too_late", f"not written within {seconds:g} s") from None
        finally:
            self.active -= 1

    def _queue_of(self, ask: Ask) -> Queue:
        """Where an ask waits. A request asks for one explanation, or for none."""
        return self.queue if ask.why is None else self.explanations

    def _join(self, key: bytes, joined: dict[bytes, _Flight]) -> bool:
        """Wait for what is under way already; whether it is."""
        if key in joined:
            return True
        flight = self._flights.get(key)
        if flight is None:
            return False
        flight.waiters += 1
        joined[key] = flight
        return True

    async def _read(self, asks: Sequence[Ask]) -> list[Read | Refusal]:
        if not asks:
            return []
        began = time.perf_counter()
        own = self._slow if any(map(self.reader.is_slow, asks)) else None
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(own, lambda: [*map(self.reader.read, asks)])
        self.metrics.stage.labels(self.name, "tokenise").observe(time.perf_counter() - began)
        return found

    def _take_on(self, fresh: Mapping[bytes, tuple[Ask, bytes, Read]], seconds: float) -> None:
        """Queue what is new, in units of asks that share a pass; all of it or nothing.

        Rows of the same tokens may be different texts, whose answers quote them: each has its own.
        """
        groups: dict[Any, list[bytes]] = {}
        for key, (ask, row, read) in fresh.items():
            groups.setdefault((ask.lane, row, read.content), []).append(key)
        total = sum(fresh[keys[0]][2].cost for keys in groups.values())
        first = next(iter(fresh.values()))[0]
        queue = self._queue_of(first)
        if first.why is None:
            queue.admit(total, seconds)
        else:
            queue.admit_alone(total, seconds)
        units = []
        loop = asyncio.get_running_loop()
        for keys in groups.values():
            asks = [fresh[key][0] for key in keys]
            unit = Unit(asks[0].lane, fresh[keys[0]][2].cost, _work(asks))
            flights: dict[bytes, _Flight] = {}
            for key in keys:
                flights[key] = _Flight(loop.create_future(), fresh[key][2], unit, flights)
            unit.done = partial(self._land, flights, unit)
            self._flights.update(flights)
            units.append(unit)
        queue.add(units)

    def _land(self, flights: Mapping[bytes, _Flight], unit: Unit, answer: Any) -> None:
        """Hand a unit's answers to all who wait for them, and keep them."""
        for i, (key, flight) in enumerate(flights.items()):
            if self._flights.get(key) is flight:
                del self._flights[key]
            if isinstance(answer, Refusal):
                outcome: Outcome = answer
            else:
                parts, computed = answer
                result, body = parts[i]
                outcome = _outcome(flight.read, result, body, vector="text" in unit.work)
                if isinstance(outcome, Answered):
                    self.cache.put(key, outcome, outcome.size)
                    queued = unit.started - unit.born
                    outcome = replace(outcome, queued=queued, computed=computed)
            if not flight.future.done():
                flight.future.set_result(outcome)
        if not isinstance(answer, Refusal):
            self.metrics.stage.labels(self.name, "queue").observe(unit.started - unit.born)

    def _leave(self, flight: _Flight) -> None:
        """One waits no more; a unit for which nobody does is not computed."""
        flight.waiters -= 1
        if flight.future.done() or any(one.waiters for one in flight.fellows.values()):
            return
        if flight.unit.started:
            if "why" not in flight.unit.work:
                return
            self.pool.cancel(flight.unit)
        else:
            queue = self.explanations if "why" in flight.unit.work else self.queue
            queue.drop(flight.unit)
        self.metrics.of(self.name).event("cancelled")
        for key, one in flight.fellows.items():
            del self._flights[key]
            one.future.cancel()


def _work(asks: Sequence[Ask]) -> dict[str, Any]:
    """What a worker is told of asks that share a pass."""
    first = asks[0]
    if first.task is None:
        return {"text": first.row, "width": first.width}
    if first.why is not None:
        return {"row": first.row, "task": first.task, "why": dict(first.why)}
    return {"row": first.row, "tasks": [a.task for a in asks], "options": dict(first.options)}


def _outcome(read: Read, result: Mapping[str, Any], body: bytes, vector: bool = False) -> Outcome:
    """What a worker said of one ask."""
    if "error" in result:
        return _refusal(result["error"])
    if vector:
        return Answered(read.tokens, read.dropped, vector=np.frombuffer(body, dtype=np.float32))
    tokens, dropped = result.get("tokens", read.tokens), result.get("dropped", read.dropped)
    return Answered(tokens, dropped, raw=body)


def _refusal(error: Mapping[str, str]) -> Refusal:
    status = {"bad_input": 422, "worker_died": 503}.get(error["code"], 500)
    return Refusal(status, error["code"], error["message"].removeprefix("row 1: "))
