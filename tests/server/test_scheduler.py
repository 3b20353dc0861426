"""The rules by which units wait and are batched, with a clock of the test's own."""

from __future__ import annotations

import itertools
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from unmask.server.app import make_app
from unmask.server.asks import Answered
from unmask.server.cache import Cache
from unmask.server.errors import Refusal
from unmask.server.fleet import Fleet
from unmask.server.keys import Keys
from unmask.server.metrics import Metrics
from unmask.server.scheduler import Queue, Unit
from unmask.server.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def unit(tokens: int, lane: str = "a", name: int = 0) -> Unit:
    return Unit(lane, tokens, {"name": name}, lambda answer: None)


def queue(**changes: object) -> tuple[Queue, Clock]:
    clock = Clock()
    made = Queue(**{"most_tokens": 1000, "batch_tokens": 100, "clock": clock} | changes)  # type: ignore[arg-type]
    made.pace.rate = 1e6
    return made, clock


def test_a_batch_is_one_lane_within_its_budget() -> None:
    waiting, _ = queue()
    waiting.add([unit(30, "a"), unit(30, "b"), unit(30, "a"), unit(30, "a"), unit(30, "a")])
    batch = waiting.take()
    assert [one.lane for one in batch] == ["a", "a", "a"]
    assert waiting.tokens == 60
    assert waiting.running == 90
    waiting.finish(batch, 0.01)
    assert waiting.running == 0


def test_like_lengths_go_together_and_room_is_filled_with_the_nearest() -> None:
    waiting, _ = queue()
    waiting.add([unit(n, name=i) for i, n in enumerate((5, 60, 6, 64, 7, 20))])
    assert [one.tokens for one in waiting.take()] == [60, 20, 5, 6, 7]
    assert [one.tokens for one in waiting.take()] == [64]


def test_what_has_waited_too_long_goes_first() -> None:
    waiting, clock = queue(age=0.1)
    waiting.add([unit(3, "lonely")])
    clock.now += 0.01
    waiting.add([unit(50, "busy") for _ in range(4)])
    assert waiting.take()[0].lane == "busy"
    clock.now += 0.2
    assert waiting.take()[0].lane == "lonely"


def test_a_unit_over_the_budget_goes_alone() -> None:
    waiting, _ = queue()
    waiting.add([unit(300), unit(5)])
    assert sorted(len(waiting.take()) for _ in range(2)) == [1, 1]


def test_the_budget_follows_the_pace() -> None:
    waiting, _ = queue(batch_tokens=10_000, batch_seconds=0.05)
    waiting.pace.rate = 4000
    assert waiting.budget == 200
    for _ in range(100):
        waiting.pace.learn(2048, 2.0)
    assert waiting.budget == pytest.approx(52, abs=1)


def test_a_request_is_turned_away_unread_only_where_every_model_is_full() -> None:
    fleet = Fleet(["one=a", "two=b"], Settings(timeout=2.0), Metrics())
    fleet.admit_any()  # none is loaded yet
    queues = [queue(most_tokens=10**6)[0] for _ in range(2)]
    models: Any = {name: SimpleNamespace(queue=own) for name, own in zip("ab", queues, strict=True)}
    fleet.models = models
    for own, tokens in zip(queues, (151, 301), strict=True):
        fleet.admit_any()
        own.pace.rate = 100.0
        own.add([unit(tokens)])
    with pytest.raises(Refusal, match=r"1\.5 s until your turn") as refused:  # the soonest
        fleet.admit_any()
    assert refused.value.status == 429
    asking = TestClient(make_app(fleet, fleet.settings, Keys({})), base_url="http://localhost")
    said = asking.post("/embed", json={"inputs": "a"})
    assert (said.status_code, said.json()["error_type"]) == (429, "overloaded")


def test_whatever_comes_is_refused_where_hardly_anything_fits() -> None:
    waiting, _ = queue(most_tokens=1000)
    waiting.add([unit(980)])
    waiting.admit_any(30.0)
    waiting.add([unit(1)])
    with pytest.raises(Refusal, match="981 tokens wait already, of 1000"):
        waiting.admit_any(30.0)


def test_batches_grow_where_much_waits() -> None:
    waiting, _ = queue(batch_tokens=8192, most_tokens=10**6)
    waiting.pace.rate = 1000.0
    assert waiting.budget == 50  # of a twentieth of a second
    waiting.add([unit(100) for _ in range(10)])  # a second's work
    assert waiting.budget == 125
    waiting.add([unit(100) for _ in range(90)])
    assert waiting.budget == 250
    assert waiting.usual == 50  # of what goes on for longer than the queue may be long
    waiting.batch_tokens = 200
    assert waiting.budget == 200


def test_admission() -> None:
    waiting, _ = queue()
    waiting.pace.rate, waiting.workers = 100.0, 2
    with pytest.raises(Refusal, match="in parts") as said:
        waiting.admit(1001, 10)
    assert said.value.status == 413
    waiting.admit(900, 10)
    waiting.add([unit(900)])
    with pytest.raises(Refusal, match="wait already") as said:
        waiting.admit(300, 10)
    assert (said.value.status, said.value.retry_after) == (429, 1.0)
    with pytest.raises(Refusal, match=r"4\.5 s until your turn") as said:
        waiting.admit(1, 2)
    assert said.value.retry_after == pytest.approx(3.5)
    waiting.admit(1, 9)


def test_what_nobody_waits_for_costs_nothing() -> None:
    waiting, _ = queue()
    first, second = unit(40), unit(50)
    waiting.add([first, second])
    waiting.drop(first)
    waiting.drop(first)
    assert (waiting.tokens, len(waiting)) == (50, 1)
    assert not first.work  # its text goes at once, its place when its turn comes
    assert waiting.take() == [second]
    waiting.drop(second)  # it has begun: it is computed
    assert not second.dropped


def test_after_a_death_each_goes_alone_and_next() -> None:
    waiting, _ = queue()
    waiting.add([unit(10), unit(10)])
    batch = waiting.take()
    waiting.finish(batch, None)
    waiting.add([unit(10)])
    waiting.again(batch)
    assert [waiting.take() for _ in range(2)] == [[batch[0]], [batch[1]]]
    assert [one.tries for one in batch] == [2, 2]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(1, 200),
)
def test_everything_comes_exactly_once(made: list[tuple[int, str, bool]], budget: int) -> None:
    waiting, clock = queue(batch_tokens=budget, most_tokens=10**6)
    units = [unit(tokens, lane, i) for i, (tokens, lane, _) in enumerate(made)]
    waiting.add(units)
    for one, (_, _, dropped) in zip(units, made, strict=True):
        if dropped:
            waiting.drop(one)
    seen = []
    while batch := waiting.take():
        clock.now += 0.06
        assert len({one.lane for one in batch}) == 1
        assert len(batch) == 1 or sum(one.tokens for one in batch) <= budget
        waiting.finish(batch, 0.01)
        seen += [one.work["name"] for one in batch]
        waiting.pace.rate = 1e6
    assert sorted(seen) == [i for i, (_, _, dropped) in enumerate(made) if not dropped]
    assert (waiting.tokens, waiting.running, len(waiting)) == (0, 0, 0)


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    held: Cache[int] = Cache(13_000)
    keys = [bytes([i]) for i in range(20)]
    for i, key in enumerate(keys):
        held.put(key, i, 100)
        assert held.get(keys[0]) == 0  # it is used all the time
        assert held.bytes <= 13_000
    assert [held.get(key) for key in keys] == [0, *itertools.repeat(None, 7), *range(8, 20)]
    held.put(b"huge", 1, 401)
    assert held.get(b"huge") is None
    held.put(keys[0], 5, 0)
    assert held.get(keys[0]) == 5


@pytest.mark.parametrize("vector", [False, True])
def test_the_cache_counts_the_memory_that_it_takes(vector: bool) -> None:
    held: Cache[Answered] = Cache(1 << 24)

    def answer(i: int) -> Answered:
        if vector:
            return Answered(5, 0, vector=np.frombuffer(np.float32(i).tobytes() * 384, np.float32))
        return Answered(5, 0, raw=b'{"answer": {"label": "%d"}}' % i, computed=i / 7, queued=i / 9)

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(2000):
            one = answer(i)
            held.put(i.to_bytes(32), one, one.size)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * held.bytes < taken < 1.1 * held.bytes


def test_an_explanation_that_alone_takes_too_long_is_refused() -> None:
    waiting, _ = queue(batch_tokens=1, age=0.0)
    waiting.pace.rate = 10.0
    with pytest.raises(Refusal, match="this would take about 50 s here, and you have 30 s") as told:
        waiting.admit_alone(500, 30)
    assert told.value.status == 413
    waiting.admit_alone(200, 30)
    waiting.add([unit(200, name=1), unit(100, "b", name=2)])
    # One at a time, the oldest first, however large.
    assert [one.work["name"] for one in waiting.take()] == [1]
    with pytest.raises(Refusal, match="until your turn") as told:
        waiting.admit_alone(10, 30)
    assert told.value.status == 429
    assert [one.work["name"] for one in waiting.take()] == [2]
