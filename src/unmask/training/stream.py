"""What is learnt when: endless streams of examples, mixed in fixed shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.batch import Example
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.recipe import Run
from unmask.tasks import Draw, Row, Task, row_rng


@dataclass(frozen=True)
class Chunk:
    """Examples of one task, and how many rows they came from."""

    task: str
    examples: list[Example]
    rows: int

    @property
    def tokens(self) -> int:
        """Positions of all its examples."""
        return sum(example.length for example in self.examples)


class Stream:
    """One task's rows, shuffled anew each epoch, as examples without end.

    Order and corruption follow from the seed, the epoch and the row alone.
    """

    def __init__(self, task: Task[Any, Any], rows: Sequence[Row], seed: int) -> None:
        self.task = task
        self.rows = rows
        self.ids = rows.ids.tolist() if isinstance(rows, Rows) else range(len(rows))
        self.seed = seed
        self.drawn = 0  # rows begun so far
        self._examples = self._endless()

    def take(self, tokens: int) -> Chunk:
        """The next examples: at least one, and on until they hold `tokens` positions."""
        began, examples, length = self.drawn, [], 0
        for example in self._examples:
            examples.append(example)
            length += example.length
            if length >= tokens:
                break
        return Chunk(self.task.name, examples, self.drawn - began)

    def _endless(self) -> Iterator[Example]:
        epoch = 0
        while True:
            found = False
            shuffle = row_rng(self.seed, self.task.name, epoch, -1)
            for row in shuffle.permutation(len(self.rows)).tolist():
                self.drawn += 1
                rng = row_rng(self.seed, self.task.name, epoch, self.ids[row])
                for example in self.task.examples(self.rows[row], Draw(rng, others=self.rows)):
                    found = True
                    yield example
            if not found:
                raise UserError(
                    f"task {self.task.name}: none of its {len(self.rows)} training rows gives "
                    "anything to learn from; are the texts empty?"
                )
            epoch += 1


class MixedStream:
    """Several streams, each drawn so that its share of the rows stays what the mixture says.

    The task that lags furthest behind its share comes next: no dice, so the shares hold at
    every moment and there is no state but the counts.
    """

    def __init__(self, streams: Mapping[str, Stream], shares: Mapping[str, float]) -> None:
        self.streams = dict(streams)
        self.shares = dict(shares)

    @classmethod
    def of(
        cls, tasks: Mapping[str, Task[Any, Any]], rows: Mapping[str, Sequence[Row]], run: Run
    ) -> MixedStream:
        """The stream of a run: its tasks' rows in the shares of its mixture."""
        streams = {name: Stream(tasks[name], own, run.train.seed) for name, own in rows.items()}
        return cls(streams, run.mixture.shares({name: len(own) for name, own in rows.items()}))

    @property
    def drawn(self) -> int:
        """Rows begun so far, of all tasks."""
        return sum(stream.drawn for stream in self.streams.values())

    def take(self, tokens: int, at_once: int) -> list[Chunk]:
        """Chunks of at most about `at_once` tokens, each of one task, for one update.

        An update holds every task in about its share, so that their losses weigh against one
        another in each step; a task whose share is less than a row comes every few updates.
        """
        chunks: list[Chunk] = []
        left = tokens
        while left > 0:
            name = min(self.shares, key=lambda n: self.streams[n].drawn / self.shares[n])
            size = max(int(tokens * self.shares[name]), 1)
            chunks.append(self.streams[name].take(min(left, at_once, size)))
            left -= chunks[-1].tokens
        return chunks
