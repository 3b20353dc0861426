"""Which examples go through the encoder together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from unmask.batch import Example
from unmask.tasks import Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class Joint(Example):
    """Examples of several tasks, whose sequences are the same, as one."""

    parts: tuple[Example, ...] = ()


def batches_by_tokens(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Numbers of items in batches of at most `tokens`, longest first."""
    batch: list[int] = []
    total = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and total + lengths[i] > tokens:
            yield batch
            batch, total = [], 0
        batch.append(i)
        total += lengths[i]
    if batch:
        yield batch


def alike(jobs: Sequence[tuple[Task[Any, Any], Example]]) -> Iterator[list[list[int]]]:
    """Numbers of jobs that can share a pass, [one of each task], gathered by which tasks share."""
    shares: dict[Any, list[int]] = {}
    times: Counter[Any] = Counter()  # a task may meet the same sequences again: that is a next pass
    for i, (task, example) in enumerate(jobs):
        content: Any = i
        if task.one_pass:
            sequences = tuple(sequence.content for sequence in example.sequences)
            content = (task.options.adapter, sequences)
        times[task.name, content] += 1
        shares.setdefault((content, times[task.name, content]), []).append(i)
    groups: dict[tuple[str, ...], list[list[int]]] = {}
    for numbers in shares.values():
        groups.setdefault(tuple(jobs[i][0].name for i in numbers), []).append(numbers)
    yield from groups.values()


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of this size, and what is left."""
    source = iter(items)
    while chunk := list(itertools.islice(source, size)):
        yield chunk
