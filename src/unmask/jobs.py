"""Examples of rows to be answered, and which of them go through the encoder together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unmask.batch import Example
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks import Draw, Row, Task, row_rng
from unmask.tasks.base import said_of

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


Cell = str | bytes | Path  # a text; the bytes or the path of a picture or a recording


def unseen(task: Task[Any, Any], row: Cell | tuple[Cell, ...] | Row, number: int) -> Example:
    """What becomes of a row whose truth is not known; a mistake is said of its number, from 1."""
    draw = Draw(row_rng(0, task.name, 0, number), truth=False, learn=False)
    with said_of(f"row {number + 1}"):
        return next(iter(task.examples(_as_row(row, task.options), draw)))


def _as_row(row: Cell | tuple[Cell, ...] | Row, options: TaskOptions) -> Row:
    if isinstance(row, Mapping):
        return row
    cells, columns = (row,) if isinstance(row, Cell) else row, options.inputs
    if not options.fewest <= len(cells) <= len(columns):
        raise UserError(f"this task reads {len(columns)} text(s), not {len(cells)}: {columns}")
    return dict(zip(columns, cells, strict=False))
