"""Examples of rows to be answered, and which of them go through the encoder together."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unmask.batch import Example
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks import Draw, Row, Task, row_rng
from unmask.tasks.base import said_of

Item = TypeVar("Item")
SomeExample = TypeVar("SomeExample", bound=Example)
Result = TypeVar("Result")

WINDOW = 4096  # examples that are sorted by length together
_FEWEST = 256  # positions of a batch, below which to cut it costs more than padding or idling


@dataclass(frozen=True)
class Joint(Example):
    """Examples of several tasks, whose sequences are the same, as one."""

    parts: tuple[Example, ...] = ()


def batches_by_tokens(
    lengths: Sequence[int], tokens: int, padded: bool = False
) -> Iterator[list[int]]:
    """Numbers of items in batches of at most `tokens`, longest first.

    Where they will be `padded`, each counts for as many as the batch is wide, and what is much
    shorter begins a batch of its own: a batch more costs next to nothing beside the padding, and
    lengths are seldom an eighth shorter many times.
    """
    batch: list[int] = []
    width = total = 0  # of the batch: where padded, what each item of it takes; what all take
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        own = lengths[i] if not padded else bucket(lengths[i])
        taken = width if padded and batch else own
        if batch and (total + taken > tokens or (total >= _FEWEST and own < taken - taken // 8)):
            yield batch
            batch, total, taken = [], 0, own
        batch.append(i)
        width, total = taken, total + taken
    if batch:
        yield batch


def bucket(length: int) -> int:
    """The width that a grid of this width is padded to where each new shape costs something.

    There are sixteen to an octave, so that on average three columns in a hundred are padding.
    """
    step = 1 << max(0, length.bit_length() - 5)
    return -(-length // step) * step


def ahead(items: Iterable[list[Item]], full: int) -> Iterator[list[Item]]:
    """The same lists; behind one that is `full`, the next is made in a thread meanwhile."""
    source = iter(items)
    found = next(source, None)
    if found is None or len(found) < full:  # it is the last
        yield from [] if found is None else [found]
        return
    with ThreadPoolExecutor(1) as thread:
        while found is not None:
            coming = thread.submit(next, source, None)
            yield found
            found = coming.result()


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


def in_batches(
    examples: Iterable[SomeExample],
    compute: Callable[[Sequence[SomeExample]], Sequence[Result]],
    tokens: int,
    progress: Callable[[int], None] | None = None,
    streams: int = 1,
    padded: bool = False,
) -> Iterator[Result]:
    """`compute` gives one result of each example, for batches of them; in their order.

    Examples are sorted by length within a window; those of the next are made meanwhile. So many
    batches are computed at a time, in threads, as there are `streams`; a window that would be fewer
    batches is cut into smaller ones, so that none idles.
    """
    for chunk in ahead(chunks(examples, WINDOW), WINDOW):
        results: dict[int, Result] = {}
        lengths = [e.length for e in chunk]
        share = max(-(-sum(lengths) // streams), _FEWEST) if streams > 1 else tokens
        batches = list(batches_by_tokens(lengths, min(tokens, share), padded))
        parts = ([chunk[i] for i in numbers] for numbers in batches)
        done = _streamed(compute, parts, min(streams, len(batches)))
        for numbers, own in zip(batches, done, strict=True):
            results.update(zip(numbers, own, strict=True))
            if progress:
                progress(len(numbers))
        yield from (results[i] for i in range(len(chunk)))


def _streamed(
    compute: Callable[[Sequence[SomeExample]], Sequence[Result]],
    parts: Iterable[Sequence[SomeExample]],
    streams: int,
) -> Iterator[Sequence[Result]]:
    """`compute` of each part, in their order, so many at a time."""
    if streams <= 1:
        yield from map(compute, parts)
        return
    with ThreadPoolExecutor(streams) as pool:
        waiting: deque[Future[Sequence[Result]]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(compute, part))
                if len(waiting) > 2 * streams:  # so many results may be done before their turn
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


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
