"""Worker processes: started, fed from the queue, watched, and replaced when they die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unmask.errors import UserError
from unmask.server.errors import Refusal, overloaded
from unmask.server.metrics import ModelMetrics
from unmask.server.scheduler import Queue, Unit
from unmask.server.wire import Message, pack, receive

log = logging.getLogger("unmask.server")

AHEAD = 2  # batches that a worker has: it computes one while the next is on its way
WRITING = 8  # texts that a worker writes at once
TRIES = 2  # times that a unit is given to a worker before it is given up
# Shapes of batches for which oneDNN keeps its plan. With its own 1,024 a worker goes on growing by
# tens of MB for many minutes, which looks like a leak.
PLANS = "32"
PATIENCE = (0.2, 30.0)  # seconds before a worker is started again: at first, and at most


@dataclass(eq=False)
class Explaining:
    """An explanation that a worker has beside its batches; it goes on between them."""

    number: int
    unit: Unit
    cancelled: float | None = None  # when nobody waited for it any more


@dataclass(eq=False)
class Worker:
    """One process, and what it was given and has not answered yet."""

    process: subprocess.Popen[bytes]
    stream: asyncio.StreamReader
    writer: asyncio.StreamWriter
    hello: dict[str, Any] = field(default_factory=dict)
    batches: dict[int, tuple[list[Unit], float]] = field(default_factory=dict)
    writing: dict[int, asyncio.Queue[Message]] = field(default_factory=dict)
    explaining: Explaining | None = None

    def tell(self, header: dict[str, Any]) -> None:
        """Send a message; one that cannot be sent is noticed where the answer is awaited.

        A ValueError where it is none.
        """
        message = pack(header)
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.write(message)


class Pool:
    """The workers of one model. A unit whose worker dies is tried once more, by itself."""

    def __init__(
        self,
        source: str,
        queue: Queue,
        explanations: Queue,
        metrics: ModelMetrics,
        workers: int = 1,
        threads: int = 1,
        stuck: float = 120.0,
    ) -> None:
        self.source = source
        self.queue = queue
        self.explanations = explanations
        self.size = workers
        self.threads = threads
        self.stuck = stuck  # seconds after which a batch is taken to hang
        self.metrics = metrics
        self.ready: list[Worker] = []
        self._numbers = itertools.count()
        self._keepers: list[asyncio.Task[None]] = []
        self._live: set[Worker] = set()
        queue.workers = explanations.workers = workers

    async def start(self) -> Mapping[str, Any]:
        """Start all workers; what the first says of its model. A UserError if it cannot load."""
        started = await asyncio.gather(
            *(self._spawn() for _ in range(self.size)), return_exceptions=True
        )
        for one in started:
            if isinstance(one, BaseException):
                await self.stop()
                raise one
        workers = [one for one in started if isinstance(one, Worker)]
        self.ready += workers
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in workers]
        return workers[0].hello

    async def stop(self) -> None:
        """End all workers; what they have not answered is refused."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self.ready.clear()
        for worker in list(self._live):
            await self._end(worker)
            self._refuse(worker)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are ready."""
        return [worker.process.pid for worker in self.ready]

    def feed(self) -> None:
        """Give each worker that has room its next batch, and one explanation beside it."""
        for worker in self.ready:
            if worker.explaining is None and (unit := self.explanations.take()):
                self._let_explain(worker, unit[0])
        for depth in range(AHEAD):
            for worker in self.ready:
                if len(worker.batches) == depth:
                    batch = self.queue.take()
                    if not batch:
                        return
                    self._give(worker, batch)

    async def write(
        self, task: str, row: Any, options: Mapping[str, Any]
    ) -> AsyncGenerator[Message, None]:
        """The messages of a text that is being written: `part`s, and at the end its `result`."""
        if not self.ready:
            raise Refusal(503, "not_ready", "no worker is ready; one is being started", 1.0)
        room = [worker for worker in self.ready if len(worker.writing) < WRITING]
        if not room:
            raise overloaded("as many texts as can be are being written", 1.0)
        worker = min(room, key=lambda one: len(one.writing))
        number = next(self._numbers)
        worker.tell({"do": "write", "id": number, "task": task, "row": row, "options": {**options}})
        said = worker.writing[number] = asyncio.Queue()
        over = False
        try:
            while not over:
                message = await said.get()
                over = "result" in message[0]
                yield message
        finally:
            if worker.writing.pop(number, None) is not None and not over:
                worker.tell({"do": "cancel", "id": number})

    def cancel(self, unit: Unit) -> None:
        """Nobody waits any more for an explanation that has begun."""
        for worker in self._live:
            own = worker.explaining
            if own is not None and own.unit is unit and own.cancelled is None:
                own.cancelled = time.monotonic()
                worker.tell({"do": "cancel", "id": own.number})

    def _let_explain(self, worker: Worker, unit: Unit) -> None:
        number = next(self._numbers)
        told = {**unit.work, "do": "explain", "id": number, "positions": self.queue.usual}
        if self._told(worker, told, self.explanations, [unit]):
            worker.explaining = Explaining(number, unit)

    def _give(self, worker: Worker, batch: list[Unit]) -> None:
        number = next(self._numbers)
        first = batch[0].work
        if "text" in first:
            texts = [one.work["text"] for one in batch]
            told = {"do": "encode", "id": number, "texts": texts, "width": first["width"]}
        else:
            units = [{"row": one.work["row"], "tasks": one.work["tasks"]} for one in batch]
            told = {"do": "answer", "id": number, "units": units, "options": first["options"]}
        if self._told(worker, told, self.queue, batch):
            worker.batches[number] = (batch, time.monotonic())

    def _told(
        self, worker: Worker, told: dict[str, Any], queue: Queue, units: Sequence[Unit]
    ) -> bool:
        """Send work to a worker; units that make no message are refused, and no others suffer."""
        try:
            worker.tell(told)
        except ValueError:
            queue.finish(units, None)
            for unit in units:
                unit.done(Refusal(413, "too_much", "this cannot be sent to a worker: send less"))
            return False
        return True

    async def _keep(self, worker: Worker | None) -> None:
        """Hear a worker, and start another when it dies, for as long as the pool is there."""
        wait = PATIENCE[0]
        while True:
            if worker is None:
                try:
                    worker = await self._spawn()
                except (UserError, OSError) as error:
                    log.error("a worker did not start: %s", error)
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, PATIENCE[1])
                    continue
                self.ready.append(worker)
                self.metrics.event("worker_started")
                self.feed()
            heard = await self._hear(worker)
            self.ready.remove(worker)
            await self._end(worker)
            self.metrics.event("worker_died")
            log.error("a worker died (exit %s); another is started", worker.process.returncode)
            self._lost(worker)
            worker = None
            wait = PATIENCE[0] if heard else min(2 * wait, PATIENCE[1])
            if not heard:
                await asyncio.sleep(wait)

    async def _hear(self, worker: Worker) -> int:
        """Take in what a worker says until it ends; how many messages there were."""
        heard = 0
        while True:
            listening = asyncio.ensure_future(receive(worker.stream))
            while not (await asyncio.wait({listening}, timeout=1.0))[0]:
                since = [began for _, began in worker.batches.values()]
                if worker.explaining and worker.explaining.cancelled:
                    since.append(worker.explaining.cancelled)
                if since and time.monotonic() - min(since) > self.stuck:
                    log.error("a worker has computed for %.0f s: it is killed", self.stuck)
                    worker.process.send_signal(signal.SIGKILL)
            message = listening.result()
            if message is None:
                return heard
            heard += 1
            self._take_in(worker, message)

    def _take_in(self, worker: Worker, message: Message) -> None:
        header, body = message
        number = header["id"]
        if number in worker.writing:
            worker.writing[number].put_nowait(message)
            if "result" in header:
                del worker.writing[number]
            return
        if worker.explaining and worker.explaining.number == number:
            self._explained(worker, worker.explaining, message)
            return
        if number not in worker.batches:
            return  # of a text that nobody reads any more
        batch, _ = worker.batches.pop(number)
        # What waits on the way is not computed yet: its clock begins now.
        worker.batches.update(
            {key: (units, time.monotonic()) for key, (units, _) in worker.batches.items()}
        )
        # What was refused was not computed, and says nothing of how long that takes.
        whole = not any("error" in one for own in header["results"] for one in own)
        self.queue.finish(batch, header["seconds"] if whole else None)
        self.metrics.batch([unit.tokens for unit in batch], header["seconds"])
        self.feed()
        start = 0
        for unit, own in zip(batch, header["results"], strict=True):
            parts = []
            for result in own:
                end = start + result.get("bytes", 0)
                parts.append((result, body[start:end]))
                start = end
            unit.done((parts, header["seconds"]))

    def _explained(self, worker: Worker, own: Explaining, message: Message) -> None:
        header, body = message
        worker.explaining = None
        # One that was cancelled, or refused, says nothing of how long they take.
        whole = not own.cancelled and "error" not in header["result"]
        self.explanations.finish([own.unit], header["seconds"] if whole else None)
        self.metrics.explained(header["seconds"])
        self.feed()
        own.unit.done(([(header["result"], body)], header["seconds"]))

    def _lost(self, worker: Worker) -> None:
        """Try once more what a dead worker had; refuse what was tried often enough."""
        for i, (batch, _) in enumerate(worker.batches.values()):
            self.queue.finish(batch, None)
            if i:  # it lay behind what was computed, and cannot be what it died of
                for unit in batch:
                    unit.tries -= 1
            self.queue.again([unit for unit in batch if unit.tries < TRIES])
            for unit in batch:
                if unit.tries >= TRIES:
                    unit.done(_DIED)
        if (own := worker.explaining) is not None:
            self.explanations.finish([own.unit], None)
            if own.cancelled or own.unit.tries >= TRIES:
                own.unit.done(_DIED)
            else:
                self.explanations.again([own.unit])
            worker.explaining = None
        worker.batches = {}
        self._refuse(worker)
        self.feed()

    def _refuse(self, worker: Worker) -> None:
        """Refuse all that a dead worker had and nobody will try again."""
        for batch, _ in worker.batches.values():
            for unit in batch:
                unit.done(_DIED)
        if worker.explaining is not None:
            worker.explaining.unit.done(_DIED)
        error = {"code": _DIED.code, "message": _DIED.message}
        for said in worker.writing.values():
            said.put_nowait(({"result": {"error": error}}, b""))
        worker.batches, worker.writing, worker.explaining = {}, {}, None

    async def _spawn(self) -> Worker:
        """A new process that has loaded the model."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            command = [sys.executable, "-m", "unmask.server.worker", str(theirs.fileno())]
            own = {"OMP_NUM_THREADS": str(self.threads), "ONEDNN_PRIMITIVE_CACHE_CAPACITY": PLANS}
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**own, **os.environ},
            )
        stream, writer = await asyncio.open_connection(sock=ours)
        worker = Worker(process, stream, writer)
        self._live.add(worker)
        try:
            worker.tell({"source": self.source})
            message = await receive(stream)
        except BaseException:
            await self._end(worker)
            raise
        if message is None or "failed" in message[0]:
            await self._end(worker)
            said = message[0]["failed"] if message else "the process died while it loaded"
            raise UserError(f"{self.source}: {said}" if message is None else said)
        worker.hello = message[0]
        return worker

    async def _end(self, worker: Worker) -> None:
        """Close a worker's socket, at which it ends; it is killed if it does not."""
        worker.writer.close()
        for seconds in (5.0, 0.0):
            deadline = time.monotonic() + seconds
            while worker.process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            if worker.process.poll() is None:
                worker.process.kill()
        await asyncio.to_thread(worker.process.wait)
        self._live.discard(worker)


_DIED = Refusal(503, "worker_died", "the process that computed this died", 1.0)
