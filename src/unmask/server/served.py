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
    unit: Unit | None = None
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
        # Headers of strange files may take seconds to read; texts do not wait behind them.
        self._files = ThreadPoolExecutor(2, "headers")
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
        self._files.shutdown(wait=False)

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
            if any(one.unit and not one.unit.started for one in joined.values()):
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
        new: dict[bytes, Ask] = {}
        for key, ask in zip(keys, asks, strict=True):
            held = self.cache.get(key)
            if held is not None:
                found[key] = replace(held, cached=True)
            elif not self._join(key, joined):
                new[key] = ask
        read = await self._read(list(new.values()))
        # From here to the next wait nobody else can change what is under way.
        fresh: dict[bytes, tuple[Ask, Read]] = {}
        for (key, ask), one in zip(new.items(), read, strict=True):
            if isinstance(one, Refusal):
                found[key] = one
            elif not self._join(key, joined):
                fresh[key] = (ask, one)
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
        (read,) = await self._read([ask])
        if isinstance(read, Refusal):
            raise read
        deadline = time.monotonic() + seconds
        self.active += 1
        try:
            messages = self.pool.write(str(ask.task), ask.row, ask.options)
            async with aclosing(messages):
                while True:
                    left = deadline - time.monotonic()
                    message = await asyncio.wait_for(anext(messages), max(left, 0.001))
                    if "part" in message:
                        yield message["part"]
                        continue
                    outcome = _outcome(read, message["result"])
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
        own = self._files if any(map(self.reader.reads_files, asks)) else None
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(own, lambda: [*map(self.reader.read, asks)])
        self.metrics.stage.labels(self.name, "tokenise").observe(time.perf_counter() - began)
        return found

    def _take_on(self, fresh: Mapping[bytes, tuple[Ask, Read]], seconds: float) -> None:
        """Queue what is new, in units of asks that share a pass; all of it or nothing."""
        groups: dict[Any, list[bytes]] = {}
        for key, (ask, read) in fresh.items():
            groups.setdefault((ask.lane, read.content), []).append(key)
        total = sum(fresh[keys[0]][1].cost for keys in groups.values())
        first = next(iter(fresh.values()))[0]
        queue = self._queue_of(first)
        if first.why is None:
            queue.admit(total, seconds)
        else:
            queue.admit_alone(total, seconds)
        units = []
        loop = asyncio.get_running_loop()
        for keys in groups.values():
            flights = [_Flight(loop.create_future(), fresh[key][1]) for key in keys]
            asks = [fresh[key][0] for key in keys]
            unit = Unit(asks[0].lane, flights[0].read.cost, _work(asks))
            unit.done = partial(self._land, keys, flights, unit)
            for key, flight in zip(keys, flights, strict=True):
                flight.unit = unit
                self._flights[key] = flight
            units.append(unit)
        queue.add(units)

    def _land(
        self, keys: Sequence[bytes], flights: Sequence[_Flight], unit: Unit, answer: Any
    ) -> None:
        """Hand a unit's answers to all who wait for them, and keep them."""
        for i, (key, flight) in enumerate(zip(keys, flights, strict=True)):
            if self._flights.get(key) is flight:
                del self._flights[key]
            if isinstance(answer, Refusal):
                outcome: Outcome = answer
            else:
                results, body, computed = answer
                result = results[i] if isinstance(results, list) else results
                if "why" in unit.work:
                    outcome = _explanation(flight.read, result, body)
                else:
                    outcome = _outcome(flight.read, result, body)
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
        if flight.waiters or flight.future.done() or flight.unit is None:
            return
        own = [key for key, one in self._flights.items() if one.unit is flight.unit]
        if any(self._flights[key].waiters for key in own):
            return
        if flight.unit.started:
            if "why" not in flight.unit.work:
                return
            self.pool.cancel(flight.unit)
        else:
            queue = self.explanations if "why" in flight.unit.work else self.queue
            queue.drop(flight.unit)
        self.metrics.of(self.name).event("cancelled")
        for key in own:
            self._flights.pop(key).future.cancel()


def _work(asks: Sequence[Ask]) -> dict[str, Any]:
    """What a worker is told of asks that share a pass."""
    first = asks[0]
    if first.task is None:
        return {"text": first.row, "width": first.width}
    if first.why is not None:
        return {"row": first.row, "task": first.task, "why": dict(first.why)}
    return {"row": first.row, "tasks": [a.task for a in asks], "options": dict(first.options)}


def _outcome(read: Read, result: Any, body: bytes = b"") -> Outcome:
    """What a worker said of one ask."""
    if isinstance(result, Mapping) and "error" in result:
        return _refusal(result["error"])
    if body:
        vector = np.frombuffer(body, dtype=np.float32)
        return Answered(read.tokens, read.dropped, vector=vector, size=len(body))
    # A kind that reads windows knows best what it cut; it says so in its answer.
    own = result["answer"]
    tokens, dropped = own.get("tokens", read.tokens), own.get("dropped", read.dropped)
    return Answered(tokens, dropped, record=result, size=len(repr(result)))


def _explanation(read: Read, result: Mapping[str, Any] | None, body: bytes) -> Outcome:
    """The same of an explanation: what was wrong, or its JSON."""
    if result is not None:
        return _refusal(result["error"])
    return Answered(read.tokens, read.dropped, raw=body, size=len(body))


def _refusal(error: Mapping[str, str]) -> Refusal:
    status = {"bad_input": 422, "worker_died": 503}.get(error["code"], 500)
    return Refusal(status, error["code"], error["message"].removeprefix("row 1: "))
