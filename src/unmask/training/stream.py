"""What is learnt when: endless streams of examples, mixed in fixed shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.batch import Example
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.recipe import Mixture, Run
from unmask.tasks import Draw, Row, Task, row_rng
from unmask.tasks.base import said_of
from unmask.training.balance import before, parts_of, times


@dataclass(frozen=True)
class Chunk:
    """Examples of one task, and how many rows came to their end with them."""

    task: str
    examples: list[Example]
    rows: int

    @property
    def tokens(self) -> int:
        """Positions of all its examples."""
        return sum(example.length for example in self.examples)


class Stream:
    """One task's rows, shuffled anew each epoch, as examples without end.

    Order and corruption follow from the seed, the epoch and the row, and from how much of the run
    was over when the row was begun. So the place in the data is a few numbers, and going on from
    it replays nothing but the row that was under way.
    """

    def __init__(
        self, task: Task[Any, Any], rows: Sequence[Row], seed: int, order: str | None = None
    ) -> None:
        """`order` names the shuffling: streams of the same rows and name draw them alike."""
        self.task = task
        self.order = order or task.name
        self.rows = rows
        self.ids = rows.ids if isinstance(rows, Rows) else range(len(rows))
        self.seed = seed
        self.drawn = 0  # rows begun so far
        self.finished = 0  # rows all of whose examples were given
        self.epoch = 0
        self.place = 0  # rows begun in this epoch
        self.given = 0  # examples given of the row under way
        self.progress = 0.0  # of the run, when that row was begun
        self.longest: int | None = None
        balance = task.options.balance
        self._parts = parts_of(task.name, task.options, rows) if balance != 1 else None
        self._order, self._again = self._shuffled()
        self._row: Iterator[Example] = iter(())  # what is left of the row under way …
        self._ahead: Example | None = None  # … behind this example
        self._barren = 0  # rows in a row that gave nothing

    def take(
        self,
        tokens: int,
        progress: float = 0.0,
        longest: int | None = None,
        rows: int | None = None,
    ) -> Chunk:
        """The next examples: at least one, and on until they hold `tokens` positions.

        Or, with `rows`, on to the end of the row of that number, counted from the run's start.
        `progress` is the share of the run that is over, `longest` the tokens of a sequence now.
        """
        finished, length = self.finished, 0
        examples: list[Example] = []
        while (not examples or length < tokens) if rows is None else self.finished < rows:
            if self._ahead is None:
                self._begin_row(progress, longest)
                continue
            examples.append(self._ahead)
            length += self._ahead.length
            self.given += 1
            self._barren = 0
            self._look_ahead()
        return Chunk(self.task.name, examples, self.finished - finished)

    def state(self) -> dict[str, Any]:
        """The place in the data."""
        names = ("drawn", "finished", "epoch", "place", "given", "progress", "longest")
        return {name: getattr(self, name) for name in names}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a place; where there are fewer rows now, behind the last."""
        for name, value in state.items():
            setattr(self, name, value)
        self._order, self._again = self._shuffled()
        if 0 < self.place <= len(self.rows):
            self._row = self._examples()
            for _ in range(self.given):
                next(self._row, None)
            self._ahead = next(self._row, None)

    def _begin_row(self, progress: float, longest: int | None) -> None:
        if self._barren > len(self.rows):
            raise UserError(
                f"task {self.task.name}: none of its {len(self.rows)} training rows gives "
                "anything to learn from; are the texts empty?"
            )
        if self.place >= len(self.rows):
            self.epoch += 1
            self.place = 0
            self._order, self._again = self._shuffled()
        self.drawn += 1
        self.place += 1
        self.given = 0
        self._barren += 1
        self.progress, self.longest = progress, longest
        self._row = self._examples()
        self._look_ahead()

    def _look_ahead(self) -> None:
        self._ahead = next(self._row, None)
        if self._ahead is None:
            self.finished += 1

    def _shuffled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows (N,) of this epoch in order, and how often each was there before."""
        small = np.int32 if len(self.rows) < 2**31 else np.int64  # corpora have very many rows
        rng = row_rng(self.seed, self.order, self.epoch, -1)
        rows = np.arange(len(self.rows), dtype=small)
        if self._parts is None:
            return rng.permutation(rows), None
        order = rng.permutation(rows.repeat(times(self._parts, self.task.options.balance, rng)))
        return order, before(order)

    def _examples(self) -> Iterator[Example]:
        row = int(self._order[self.place - 1])
        again = 0 if self._again is None else int(self._again[self.place - 1])
        rng = row_rng(self.seed, self.task.name, self.epoch, int(self.ids[row]), again)
        draw = Draw(rng, progress=self.progress, longest=self.longest, apart=True, others=self.rows)
        with said_of(f"train row {int(self.ids[row]) + 1}"):
            yield from self.task.examples(self.rows[row], draw)


class MixedStream:
    """Several streams, each drawn so that its share of the rows stays what the mixture says.

    The task that lags furthest behind its share comes next: no dice, so the shares hold at
    every moment and there is no state but the streams' own. A share that changes in the course of
    the run was so far, on average, what it was when half as much of the run was over.
    """

    def __init__(self, streams: Mapping[str, Stream], mixture: Mixture) -> None:
        self.streams = dict(streams)
        self.mixture = mixture
        self.rows = {name: len(stream.rows) for name, stream in streams.items()}
        self.units: dict[str, list[str]] = {}  # tasks that draw the same rows at the same time
        for name, stream in self.streams.items():
            self.units.setdefault(stream.order, []).append(name)

    @classmethod
    def of(
        cls, tasks: Mapping[str, Task[Any, Any]], rows: Mapping[str, Sequence[Row]], run: Run
    ) -> MixedStream:
        """The stream of a run: its tasks' rows in the shares of its mixture.

        Tasks that read the same rows as they are draw them together, and can share a pass.
        """
        streams: dict[str, Stream] = {}
        for name, own in rows.items():
            order = next((n for n, one in streams.items() if _alike(one, tasks[name], own)), name)
            streams[name] = Stream(tasks[name], own, run.train.seed, order)
        return cls(streams, run.mixture)

    @property
    def drawn(self) -> int:
        """Rows begun so far, of all tasks."""
        return sum(stream.drawn for stream in self.streams.values())

    @property
    def finished(self) -> int:
        """Rows read to their end so far, of all tasks."""
        return sum(stream.finished for stream in self.streams.values())

    def take(self, tokens: int, progress: float = 0.0, longest: int | None = None) -> list[Chunk]:
        """The examples of one update, about `tokens` positions of them: a chunk for each task.

        An update holds every task in about its share, so that their losses weigh against one
        another in each step; a task whose share is less than a row comes every few updates.
        """
        chunks: dict[str, Chunk] = {}
        left = tokens
        now = self.mixture.shares(self.rows, progress)
        due = self.mixture.shares(self.rows, progress / 2)  # of all that was drawn so far
        while left > 0:
            first = min(self.units, key=lambda n: self.streams[n].drawn / due[n])
            size = max(int(tokens * now[first]), 1)
            asked = min(-(-left // len(self.units[first])), size)
            for name in self.units[first]:
                rows = None if name == first else self.streams[first].finished
                new = self.streams[name].take(asked, progress, longest, rows)
                old = chunks.get(name, Chunk(name, [], 0))
                chunks[name] = Chunk(name, old.examples + new.examples, old.rows + new.rows)
                left -= new.tokens
        return list(chunks.values())

    def leave(self, task: str) -> None:
        """Draw nothing more of a task; those that drew its rows with it go on together."""
        del self.streams[task], self.rows[task]
        members = [[name for name in unit if name != task] for unit in self.units.values()]
        self.units = {unit[0]: unit for unit in members if unit}

    def state(self) -> dict[str, Any]:
        """The place in the data of each task."""
        return {name: stream.state() for name, stream in self.streams.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from these places."""
        for name, stream in self.streams.items():
            stream.load(state[name])


def _alike(stream: Stream, task: Task[Any, Any], rows: Sequence[Row]) -> bool:
    """Whether a task reads the rows of a stream, and as that one's task does."""
    ours, theirs = task.options, stream.task.options
    if not (task.reads_rows and stream.task.reads_rows):
        return False
    if any(getattr(ours, key) != getattr(theirs, key) for key in ("train", "inputs", "balance")):
        return False
    if isinstance(rows, Rows) and isinstance(stream.rows, Rows):
        return np.array_equal(rows.ids, stream.rows.ids)
    return rows is stream.rows
