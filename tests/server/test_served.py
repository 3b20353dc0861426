"""A model behind its queue, its cache and real worker processes; no HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unmask.errors import UserError
from unmask.model import Model
from unmask.server.asks import Answered, Ask
from unmask.server.cache import Cache
from unmask.server.errors import Refusal
from unmask.server.metrics import Metrics
from unmask.server.pool import Worker
from unmask.server.scheduler import Pace, Unit
from unmask.server.served import Served
from unmask.server.settings import Settings
from unmask.server.worker import Worker as Computing

TEXTS = ["the film was good", "a cat sleeps", "hello world", "the dog runs in paris ?"]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all tests here, since the workers belong to it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def started(bundle: Path, loop: asyncio.Runner) -> Iterator[Served]:
    """One model with one worker."""
    served = Served("tiny", str(bundle), Settings(), Metrics())
    loop.run(served.start())
    yield served
    loop.run(served.drain())


@pytest.fixture
def served(started: Served) -> Served:
    """The same, with nothing kept and figures from 0."""
    started.cache = Cache(1 << 20)
    started.metrics = Metrics()
    started.pool.metrics = started.metrics.of("tiny")
    return started


async def ready(served: Served) -> list[int]:
    """The workers' process ids, once there are any."""
    while not served.pool.pids:
        await asyncio.sleep(0.02)
    return served.pool.pids


def metric(served: Served, name: str, **labels: str) -> float:
    return served.metrics.registry.get_sample_value(name, {"model": "tiny", **labels}) or 0.0


def rounded(value: Any) -> Any:
    """With four digits of each number, whatever holds it."""
    if isinstance(value, dict):
        return {key: rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(own) for own in value]
    return round(value, 4) if isinstance(value, float) else value


def answered(outcome: Answered | Refusal) -> Answered:
    assert isinstance(outcome, Answered), outcome
    return outcome


def test_answers_are_the_models_own(served: Served, loop: asyncio.Runner, model: Model) -> None:
    async def check() -> None:
        tasks = ["mood", "topics", "stars", "names"]
        asks = [Ask(text, task) for text in TEXTS for task in tasks]
        own = model.predict(tasks, TEXTS)
        found = await served.ask(asks, 30)
        for ask, outcome in zip(asks, found, strict=True):
            expected = own[TEXTS.index(ask.row)][ask.task].columns()  # type: ignore[index, arg-type]
            assert rounded(answered(outcome).record["answer"]) == rounded(expected)
            assert answered(outcome).tokens == expected["tokens"]
        # One pass for the three that read the same; and for the fourth too, if it wants the same.
        assert metric(served, "unmask_batch_units_sum") <= 2 * len(TEXTS)
        vectors = [answered(one).vector for one in await served.ask([Ask(t) for t in TEXTS], 30)]
        np.testing.assert_allclose(np.stack(vectors), model.encode(TEXTS), atol=1e-5)  # type: ignore[arg-type]
        (short,) = await served.ask([Ask(TEXTS[0], width=4)], 30)
        np.testing.assert_allclose(
            answered(short).vector, model.encode(TEXTS[0], width=4)[0], atol=1e-5
        )

    loop.run(check())


def test_one_bad_item_does_not_fail_its_neighbours(served: Served, loop: asyncio.Runner) -> None:
    async def check() -> None:
        rows: list[Any] = [TEXTS[0], {"no": "text"}, TEXTS[1], ("a", "b", "c"), "lone \ud800"]
        found = await served.ask([Ask(row, "mood") for row in rows], 30)
        assert [isinstance(one, Answered) for one in found] == [True, False, True, False, False]
        # What only the worker can tell: an option that this way of writing does not have.
        asks = [Ask(TEXTS[0], "translate", {"beans": 2}), Ask(TEXTS[1], "translate")]
        wrong, right = await served.ask(asks, 30)
        assert isinstance(wrong, Refusal)
        assert wrong.status == 422
        assert "beams" in wrong.message
        answered(right)

    loop.run(check())


def test_the_same_is_computed_once_and_kept(served: Served, loop: asyncio.Runner) -> None:
    async def check() -> None:
        many = await asyncio.gather(*(served.ask([Ask(TEXTS[0], "mood")], 30) for _ in range(20)))
        assert len({str(answered(one[0]).record) for one in many}) == 1
        assert metric(served, "unmask_batch_units_sum") == 1
        (again,) = await served.ask([Ask(TEXTS[0], "mood")], 30)
        assert answered(again).cached
        (other,) = await served.ask([Ask(TEXTS[0].upper(), "mood")], 30)  # the same tokens
        assert not answered(other).cached

    loop.run(check())


def test_texts_of_the_same_tokens_have_each_their_own_answer(
    served: Served, loop: asyncio.Runner, model: Model
) -> None:
    async def check() -> None:
        texts = ["ada lives in paris", "  Ada   LIVES in  PARIS"]
        own = [rounded(answer.columns()) for answer in model.predict("names", texts)]
        assert own[0]["tokens"] == own[1]["tokens"]
        assert own[0] != own[1]  # what is quoted, and where it stands
        asks = [Ask(text, "names") for text in texts]
        for cached in (False, True):
            found = [answered(one) for one in await served.ask(asks, 30)]
            assert [rounded(one.record["answer"]) for one in found] == own
            assert [one.cached for one in found] == [cached] * 2

    loop.run(check())


def test_without_a_cache_nothing_is_kept(served: Served, loop: asyncio.Runner) -> None:
    async def check() -> None:
        served.cache = Cache(0)
        for _ in range(3):
            (one,) = await served.ask([Ask(TEXTS[0], "mood")], 30)
            assert not answered(one).cached
        assert metric(served, "unmask_batch_units_sum") == 3

    loop.run(check())


def test_who_leaves_takes_what_waits_along(served: Served, loop: asyncio.Runner) -> None:
    async def check() -> None:
        (pid,) = await ready(served)
        os.kill(pid, signal.SIGSTOP)
        try:
            busy = [asyncio.ensure_future(served.ask([Ask(t, "mood")], 30)) for t in TEXTS[:2]]
            await asyncio.sleep(0.05)  # both batches that the worker may have
            leaving = asyncio.ensure_future(served.ask([Ask(TEXTS[2], "mood")], 30))
            staying = asyncio.ensure_future(served.ask([Ask(TEXTS[3], "mood")], 30))
            both = asyncio.ensure_future(served.ask([Ask(TEXTS[3], "mood")], 30))
            await asyncio.sleep(0.05)
            assert len(served.queue) == 2
            leaving.cancel()
            both.cancel()  # another waits for the same
            await asyncio.sleep(0.05)
            assert len(served.queue) == 1
            served.queue.pace = Pace()  # as if it were not known that this takes too long
            with pytest.raises(Refusal, match="turn did not come") as said:
                await served.ask([Ask("red and blue", "mood")], 0.05)
            assert said.value.status == 429
            with pytest.raises(Refusal, match="no answer within") as said:
                await served.ask([Ask(TEXTS[0], "mood")], 0.05)
            assert said.value.status == 504
        finally:
            os.kill(pid, signal.SIGCONT)
        for one in (*busy, staying):
            answered((await one)[0])
        assert metric(served, "unmask_events_total", event="cancelled") == 2
        assert not served._flights

    loop.run(check())


def test_a_dead_worker_is_replaced_and_its_requests_answered(
    served: Served, loop: asyncio.Runner
) -> None:
    async def check() -> None:
        (pid,) = await ready(served)
        os.kill(pid, signal.SIGSTOP)
        asks = [asyncio.ensure_future(served.ask([Ask(t, "mood")], 30)) for t in TEXTS]
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        for one in asks:
            answered((await one)[0])
        assert served.pool.pids != [pid]
        assert metric(served, "unmask_events_total", event="worker_died") == 1
        # What kills its worker twice is given up; the queue's books are even.
        give = served.pool._give

        def deadly(worker: Worker, batch: list[Unit]) -> None:
            worker.process.send_signal(signal.SIGKILL)
            give(worker, batch)

        served.pool._give = deadly  # type: ignore[method-assign]
        (outcome,) = await served.ask([Ask("how are you", "mood")], 30)
        served.pool._give = give  # type: ignore[method-assign]
        assert isinstance(outcome, Refusal)
        assert outcome.status == 503
        assert (served.queue.tokens, served.queue.running) == (0, 0)

    loop.run(check())


def test_what_lay_behind_what_killed_a_worker_is_not_blamed(bundle: Path) -> None:
    async def check() -> None:
        served = Served("tiny", str(bundle), Settings(workers=1), Metrics())
        await served.start()
        try:
            give = served.pool._give

            def deadly(worker: Worker, batch: list[Unit]) -> None:
                give(worker, batch)
                first = next(iter(worker.batches.values()))[0]
                if any(unit.work["row"] == "poison" for unit in first):
                    worker.process.send_signal(signal.SIGKILL)

            served.pool._give = deadly  # type: ignore[method-assign]
            rows = ["poison", *TEXTS]
            asks = [asyncio.ensure_future(served.ask([Ask(row, "mood")], 30)) for row in rows]
            poison, *others = [(await one)[0] for one in asks]
            assert isinstance(poison, Refusal)
            assert poison.status == 503
            for one in others:
                answered(one)
            assert (served.queue.tokens, served.queue.running) == (0, 0)
        finally:
            await served.drain()

    asyncio.run(check())


def test_a_long_text_costs_what_it_takes_to_read(served: Served) -> None:
    short = served.reader.read(Ask("red " * 40, "mood"))
    book = served.reader.read(Ask("red " * 40_000, "mood"))
    assert not isinstance(short, Refusal)
    assert not isinstance(book, Refusal)
    assert book.cost > book.tokens + 500 > short.cost + 500
    assert served.reader.is_slow(Ask("red " * 40_000, "mood"))
    assert not served.reader.is_slow(Ask("red " * 40, "mood"))


def test_what_comes_too_late_is_not_even_read(
    served: Served, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(asks: Any) -> Any:
        assert not asks, "it was read"
        return []

    async def check() -> None:
        (kept,) = await served.ask([Ask(TEXTS[0], "mood")], 30)
        monkeypatch.setattr(served, "_read", never)
        monkeypatch.setattr(served.queue.pace, "rate", 1.0)
        monkeypatch.setattr(served.queue, "running", 100)
        with pytest.raises(Refusal, match="until your turn") as said:
            await served.ask([Ask("the dog is very good", "mood")], 30)
        assert said.value.status == 429
        (again,) = await served.ask([Ask(TEXTS[0], "mood")], 30)  # what is known costs nothing
        assert answered(again).cached
        assert answered(again).raw == answered(kept).raw

    loop.run(check())


def test_what_is_written_is_counted_from_its_beginning(
    served: Served, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload waits for what is under way, and that begins with the reading."""
    active = []
    read = served._read

    async def watched(asks: Any) -> Any:
        active.append(served.active)
        return await read(asks)

    async def check() -> None:
        await ready(served)
        monkeypatch.setattr(served, "_read", watched)
        _ = [part async for part in served.write(Ask(TEXTS[0], "translate"), 30)]
        assert active == [1]
        assert served.active == 0

    loop.run(check())


def test_a_worker_that_hangs_is_killed(served: Served, loop: asyncio.Runner) -> None:
    async def check() -> None:
        (pid,) = await ready(served)
        served.pool.stuck = 0.5
        os.kill(pid, signal.SIGSTOP)
        (one,) = await served.ask([Ask(TEXTS[0], "mood")], 30)
        answered(one)
        served.pool.stuck = 120

    loop.run(check())


def test_writing_comes_in_parts(served: Served, loop: asyncio.Runner, model: Model) -> None:
    async def check() -> None:
        await ready(served)
        parts: list[Any] = [part async for part in served.write(Ask(TEXTS[0], "translate"), 30)]
        whole = model.predict("translate", TEXTS[0])[0]
        assert "".join(parts[:-1]) == whole.short == parts[-1].record["short"]
        with pytest.raises(Refusal, match="beams"):
            _ = [p async for p in served.write(Ask(TEXTS[0], "translate", {"beans": 1}), 30)]
        leaving = served.write(Ask(TEXTS[1], "translate"), 30)
        await anext(leaving)
        await leaving.aclose()
        assert not served.pool.ready[0].writing

    loop.run(check())


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    async def check() -> None:
        served = Served("x", str(tmp_path / "nothing"), Settings(), Metrics())
        with pytest.raises(UserError, match="no folder"):
            await served.start()

    asyncio.run(check())


def test_numbers_that_are_not_finite_are_refused(make_model: Callable[..., Model]) -> None:
    broken = make_model()
    with torch.no_grad():
        broken.encoder.embeddings.token.weight[10:] = torch.inf
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Computing(theirs, broken)
        fine, wrong = TEXTS[:2]  # of the latter's tokens some are above 9
        (bad, good), vectors = worker._vectors([wrong, fine], None)
        assert bad["error"]["code"] == "not_finite"
        assert good == {"bytes": len(vectors)}
        np.testing.assert_array_equal(
            np.frombuffer(vectors, np.float32), broken.encode([fine])[0].numpy()
        )
        units = [{"row": row, "tasks": ["mood", "names"]} for row in (fine, wrong)]
        results, records = worker._answers(units, {})
        assert ["error" in one for own in results for one in own] == [False, False, True, True]
        first = json.loads(records[: results[0][0]["bytes"]])
        assert first["short"] == broken.predict("mood", fine)[0].short
        assert sum(one.get("bytes", 0) for own in results for one in own) == len(records)
