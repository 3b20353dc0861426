"""What waits to be computed, and which of it goes through the model together.

No clock, process or socket of its own: what is passed in decides, so that every rule here can be
tested by itself. After the token-budget queue of text-embeddings-inference, with buckets of length
and a bound on how long anything is passed over.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from unmask.server.errors import Refusal, overloaded

# The share of a request's time that may go by before its turn. Waits are guessed from the pace; at
# the very limit half of what is taken on would come too late, and be computed for nothing.
_MARGIN = 0.5
# The share of the queue at which whatever comes is refused: near its end only what has few tokens
# fits, and each request would have to be read to find that it does not.
_FULL = 0.98
# Where much waits a batch may take this share of the wait, up to so many seconds: nobody then has
# an answer sooner by a small one, and large ones cost less a text.
_LARGE, _LARGEST = 1 / 8, 0.25


@dataclass(eq=False)
class Unit:
    """A text and all that is asked of it in one pass; it is computed whole or not at all."""

    lane: str  # only units of one lane can share a batch: the same kind of work and options
    tokens: int  # that are computed, and as many for what is decoded first as that takes time
    work: dict[str, Any]  # what a worker is told
    done: Callable[[Any], None] = lambda answer: None  # given what the worker answers, or a Refusal
    born: float = 0.0
    started: float = 0.0  # 0 while it waits
    tries: int = 0
    dropped: bool = False  # nobody waits for it any more
    bucket: int = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = max(self.tokens - 1, 1).bit_length()  # lengths up to a power of two


class Pace:
    """How many tokens a second one worker computes: a moving mean of what was measured."""

    def __init__(self) -> None:
        self.rate: float | None = None  # None: nothing was measured yet

    def learn(self, tokens: int, seconds: float) -> None:
        """Take in one batch."""
        now = tokens / max(seconds, 1e-4)
        weight = min(0.2, max(tokens, 1) / 2048)  # a batch of one short text says little
        self.rate = now if self.rate is None else self.rate + weight * (now - self.rate)


class Queue:
    """Units in lanes and buckets of length; it gives batches, and refuses what cannot be in time.

    A batch holds at most `batch_tokens`, and no more than takes `batch_seconds` at the pace that
    was measured: a longer one makes all wait for a little more throughput. It may take longer
    where the queue is long.
    Usually the fullest bucket goes next; where a unit has waited for `age` seconds, its own does.
    """

    def __init__(
        self,
        most_tokens: int,
        batch_tokens: int = 8192,
        batch_seconds: float = 0.05,
        age: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most_tokens = most_tokens
        self.batch_tokens = batch_tokens
        self.batch_seconds = batch_seconds
        self.age = age
        self.clock = clock
        self.pace = Pace()
        self.workers = 1  # that share the work
        self.tokens = 0  # that wait
        self.running = 0  # tokens that workers have
        self._again: deque[Unit] = deque()
        self._lanes: dict[str, dict[int, deque[Unit]]] = {}

    def __len__(self) -> int:
        buckets = (own for lane in self._lanes.values() for own in lane.values())
        return sum(not unit.dropped for own in (self._again, *buckets) for unit in own)

    @property
    def wait(self) -> float:
        """Seconds until what is here now is done, as far as is known."""
        if self.pace.rate is None:
            return 0.0
        return (self.tokens + self.running) / (self.pace.rate * self.workers)

    def admit(self, tokens: int, patience: float) -> None:
        """Refuse so many tokens more where they do not fit, or not in so many seconds."""
        if tokens > self.most_tokens:
            message = (
                f"this request has {tokens} tokens, and at most {self.most_tokens} may wait at "
                "once: send it in parts"
            )
            raise Refusal(413, "too_many_tokens", message)
        if self.tokens + tokens > self.most_tokens:
            raise self._full(self.tokens + tokens - self.most_tokens)
        self.admit_any(patience)

    def admit_any(self, patience: float) -> None:
        """Refuse whatever comes where the queue is full, or its turn would not come in time.

        No token of it need be counted.
        """
        if self.tokens > self.most_tokens * _FULL:
            raise self._full(self.tokens - self.most_tokens * _FULL)
        if self.wait > patience * _MARGIN:
            message = (
                f"it would be {self.wait:.1f} s until your turn, of the {patience:g} s you have"
            )
            raise overloaded(message, self.wait - patience * _MARGIN)

    def _full(self, over: float) -> Refusal:
        """A refusal until so many tokens are done."""
        seconds = over / (self.pace.rate * self.workers) if self.pace.rate else 1.0
        message = f"{self.tokens} tokens wait already, of {self.most_tokens} that may"
        return overloaded(message, seconds)

    def admit_alone(self, tokens: int, patience: float) -> None:
        """The same for one explanation; refuse it too where it alone would take too long."""
        if self.pace.rate is not None and tokens / self.pace.rate > patience:
            message = (
                f"this would take about {tokens / self.pace.rate:.0f} s here, and you have "
                f"{patience:g} s: explain a shorter text, or by a quicker method"
            )
            raise Refusal(413, "too_much", message)
        self.admit(tokens, patience)

    def add(self, units: Sequence[Unit]) -> None:
        """Let units wait; they were admitted."""
        for unit in units:
            unit.born = unit.born or self.clock()
            lane = self._lanes.setdefault(unit.lane, {})
            lane.setdefault(unit.bucket, deque()).append(unit)
            self.tokens += unit.tokens

    def again(self, units: Sequence[Unit]) -> None:
        """Units whose worker died: each goes next, in a batch of its own."""
        for unit in units:
            unit.started = 0.0
            self.tokens += unit.tokens
            self._again.append(unit)

    def drop(self, unit: Unit) -> None:
        """Nobody waits for a unit any more: it costs nothing from now on if it has not begun."""
        if not unit.dropped and not unit.started:
            unit.dropped = True
            unit.work = {}  # it may be long, and its place in the queue is kept for a while
            self.tokens -= unit.tokens

    def take(self) -> list[Unit]:
        """The next batch, all of one lane; empty where nothing waits."""
        while self._again:
            unit = self._again.popleft()
            if not unit.dropped:
                return self._begin([unit])
        chosen = self._choose()
        if chosen is None:
            return []
        lane, first = chosen
        buckets = self._lanes[lane]
        batch: list[Unit] = []
        room = float(self.budget)
        for bucket in sorted(buckets, key=lambda one: (abs(one - first), one)):
            own = buckets[bucket]
            while own and (own[0].dropped or not batch or own[0].tokens <= room):
                unit = own.popleft()
                if not unit.dropped:
                    batch.append(unit)
                    room -= unit.tokens
        self._tidy(lane)
        return self._begin(batch)

    @property
    def budget(self) -> int:
        """Tokens of the next batch."""
        return self._within(max(self.batch_seconds, min(self.wait * _LARGE, _LARGEST)))

    @property
    def usual(self) -> int:
        """Tokens of a batch where little waits."""
        return self._within(self.batch_seconds)

    def _within(self, seconds: float) -> int:
        if self.pace.rate is None:
            return min(self.batch_tokens, 256)
        return max(1, min(self.batch_tokens, math.ceil(self.pace.rate * seconds)))

    def finish(self, units: Sequence[Unit], seconds: float | None) -> None:
        """A batch is over: it took a worker so many seconds; None where it died."""
        tokens = sum(unit.tokens for unit in units)
        self.running -= tokens
        if seconds is not None:
            self.pace.learn(tokens, seconds)

    def _choose(self) -> tuple[str, int] | None:
        """The lane and the bucket that are next."""
        now = self.clock()
        best: tuple[tuple[float, float], str, int] | None = None
        for lane in list(self._lanes):
            self._tidy(lane)
            for bucket, own in self._lanes.get(lane, {}).items():
                waited = now - own[0].born
                full = float(sum(unit.tokens for unit in own if not unit.dropped))
                rank = (waited if waited > self.age else 0.0, min(full, float(self.budget)))
                if best is None or rank > best[0]:
                    best = (rank, lane, bucket)
        return best and best[1:]

    def _tidy(self, lane: str) -> None:
        """Forget what was dropped at the head of each bucket, and buckets that are empty."""
        buckets = self._lanes[lane]
        for bucket, own in list(buckets.items()):
            while own and own[0].dropped:
                own.popleft()
            if not own:
                del buckets[bucket]
        if not buckets:
            del self._lanes[lane]

    def _begin(self, batch: list[Unit]) -> list[Unit]:
        for unit in batch:
            unit.started = self.clock()
            unit.tries += 1
            self.tokens -= unit.tokens
            self.running += unit.tokens
        return batch
