"""Scores of a task on rows, whole and by tag, with the answers that went worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from unmask.batch import Example
from unmask.errors import UserError
from unmask.model import Model
from unmask.recipe import Column
from unmask.tasks import Answer, Draw, Row, Task, row_rng

_EVALUATION_SEED = 0x5C0  # corruption drawn for scoring never changes


@dataclass(frozen=True)
class Score:
    """One figure, what it is of, and how many rows stand behind it."""

    task: str
    split: str
    metric: str
    value: float
    rows: int
    language: str | None = None
    domain: str | None = None
    modality: str | None = "text"
    precision: str = "fp32"  # that the model computed in

    def record(self) -> dict[str, Any]:
        """The score as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """A row with its answers (one, unless the row gave several examples)."""

    row: Row
    answers: tuple[Answer, ...]


def judge(
    model: Model,
    tasks: Sequence[tuple[Task[Any, Any], Sequence[Row]]],
    progress: Callable[[int], None] | None = None,
) -> list[list[Judged]]:
    """Each task's answers to its rows, whose truth is known.

    The tasks are taken row by row, so that those with the same texts share the encoder's work.
    """
    counts: list[list[int]] = [[] for _ in tasks]
    order: list[int] = []  # which task each example is of

    def jobs() -> Iterator[tuple[Task[Any, Any], Example]]:
        for i in range(max((len(rows) for _, rows in tasks), default=0)):
            for number, (task, rows) in enumerate(tasks):
                if i < len(rows):
                    rng = row_rng(_EVALUATION_SEED, task.name, 0, i)
                    own = list(task.examples(rows[i], Draw(rng, learn=False, others=rows)))
                    counts[number].append(len(own))
                    order.extend([number] * len(own))
                    yield from ((task, example) for example in own)

    found: list[list[Answer]] = [[] for _ in tasks]
    answers = list(model.answers_to(jobs(), {"top": 1}, progress))
    for answer, number in zip(answers, order, strict=True):
        found[number].append(answer)
    return [
        [Judged(rows[i], tuple(islice(own, count))) for i, count in enumerate(each)]
        for (_, rows), own, each in zip(tasks, map(iter, found), counts, strict=True)
    ]


def scores(
    task: Task[Any, Any], split: str, judged: Sequence[Judged], precision: str
) -> list[Score]:
    """All of the task's metrics over all rows, then over the rows of each tag's value.

    Where rows were cut to fit, the metric `cut` says what share of them.
    """
    judged = [one for one in judged if one.answers]
    if not judged:
        raise UserError(f"task {task.name}: no row of its {split} split has anything to score")
    fixed = {k: v for k, v in task.options.tags.items() if isinstance(v, str)}
    found = _measure(task, split, judged, precision, fixed)
    cut = sum(any(answer.dropped for answer in one.answers) for one in judged) / len(judged)
    if cut:
        found.append(Score(task.name, split, "cut", cut, len(judged), precision=precision, **fixed))
    for tag, column in task.options.tags.items():
        if not isinstance(column, Column):
            continue
        groups: dict[str, list[Judged]] = {}
        for one in judged:
            if one.row.get(column.column) is not None:
                groups.setdefault(str(one.row[column.column]), []).append(one)
        for value in sorted(groups):
            found += _measure(task, split, groups[value], precision, {**fixed, tag: value})
    return found


def _measure(
    task: Task[Any, Any],
    split: str,
    judged: Sequence[Judged],
    precision: str,
    tags: dict[str, str],
) -> list[Score]:
    answers = [answer for one in judged for answer in one.answers]
    rows = [one.row for one in judged for _ in one.answers]
    return [
        Score(task.name, split, metric, value, len(judged), precision=precision, **tags)
        for metric, value in task.score(answers, rows).items()
    ]


def headline(task: Task[Any, Any], found: Sequence[Score]) -> float:
    """The score from 0 to 1 by which the task's checkpoints are compared; 0 where it has none."""
    value = next(s.value for s in found if s.task == task.name and s.metric == task.headline)
    return value if math.isfinite(value) else 0.0


def worst(task: Task[Any, Any], judged: Sequence[Judged], count: int) -> list[dict[str, Any]]:
    """The answers furthest from their truth, worst first."""
    found: list[dict[str, Any]] = [
        {
            "task": task.name,
            "input": task.shown(one.row),
            "truth": task.truth(one.row),
            "answer": answer.short,
            "surprise": task.surprise(answer, one.row),
        }
        for one in judged
        for answer in one.answers
    ]
    return sorted(found, key=lambda item: item["surprise"], reverse=True)[:count]
