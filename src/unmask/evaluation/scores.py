"""Scores of a task on rows, whole, by tag and by cell, with the answers that went worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from unmask.batch import Example
from unmask.errors import UserError
from unmask.evaluation.bootstrap import (
    Interval,
    intervals,
    intervals_by_score,
    samples,
    samples_by_score,
)
from unmask.evaluation.choosing import calibration_tally
from unmask.model import Model
from unmask.recipe import Column, TaskOptions
from unmask.tasks import Answer, Draw, Row, Tally, Task, row_rng
from unmask.tasks.cells import has, said_of

_EVALUATION_SEED = 0x5C0  # corruption drawn for scoring never changes

TAGS = ("language", "domain", "modality")
Cell = tuple[str | None, str | None, str | None]  # the values of these

_Measured = dict[str, tuple[float, Interval | None]]


@dataclass(frozen=True)
class Score:
    """One figure, what it is of, and how many rows stand behind it.

    `value` is None where these rows cannot give it; then `reason` says why. `low` and `high` are a
    95 % interval from so many `resamples` of the rows, where it was asked for and can be had.
    """

    task: str
    split: str
    metric: str
    value: float | None
    rows: int
    language: str | None = None
    domain: str | None = None
    modality: str | None = "text"
    precision: str = "fp32"  # that the model computed in
    low: float | None = None
    high: float | None = None
    resamples: int | None = None
    reason: str | None = None

    def record(self) -> dict[str, Any]:
        """The score as plain data; without interval and reason where there is none."""
        optional = ("low", "high", "resamples", "reason")
        return {k: v for k, v in asdict(self).items() if v is not None or k not in optional}


def figure(record: Mapping[str, Any]) -> str:
    """A score's record in a few words: `0.9412 (0.933–0.949)`, or why there is no figure.

    Of several seeds it is `0.9412 ± 0.0123`, the mean and the standard deviation.
    """
    if record["value"] is None:
        return f"– ({record['reason']})"
    if "sd" in record:
        return f"{record['value']:.4f} ± {record['sd']:.4f}"
    bounds = f" ({record['low']:.3f}–{record['high']:.3f})" if "low" in record else ""
    return f"{record['value']:.4f}{bounds}"


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
                    with said_of(f"row {i + 1}"):
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
    task: Task[Any, Any],
    split: str,
    judged: Sequence[Judged],
    precision: str,
    resample: bool = False,
) -> list[Score]:
    """All of the task's metrics over all rows, then over the rows of each tag's value.

    What all rows do not share, such as the modality where some lack a picture, is None of them.

    Where rows were cut to fit, the metric `cut` says what share of them. With `resample` each has
    its interval.
    """
    judged = [one for one in judged if one.answers]
    if not judged:
        raise UserError(f"task {task.name}: no row of its {split} split has anything to score")
    fixed: dict[str, str | None] = {
        tag: value for tag, value in task.options.tags.items() if isinstance(value, str)
    }
    held: list[str] = []
    if "modality" not in task.options.tags:
        held = sorted({modality_of(one.row, task.options) for one in judged})
    fixed.setdefault("modality", held[0] if len(held) == 1 else None)
    groups: list[tuple[dict[str, str | None], Sequence[Judged]]] = [(fixed, judged)]
    for tag, column in task.options.tags.items():
        if not isinstance(column, Column):
            continue
        values: dict[str, list[Judged]] = {}
        for one in judged:
            if (said := column.of(one.row)) is not None:
                values.setdefault(said, []).append(one)
        groups += [({**fixed, tag: value}, values[value]) for value in sorted(values)]
    for value in held if len(held) > 1 else ():  # some rows lack one
        same = [one for one in judged if modality_of(one.row, task.options) == value]
        groups.append(({**fixed, "modality": value}, same))
    found: list[Score] = []
    for tags, own in groups:
        measured = _measure(task, own, resample)
        if own is judged and (cut := _cut(own)).total()["cut"]:
            measured |= _of_tally(cut, np.arange(len(own)), resample)
        found += _as_scores(task, split, measured, len(own), precision, tags)
    return found


def cells(
    task: Task[Any, Any],
    split: str,
    judged: Sequence[Judged],
    precision: str,
    resample: bool = False,
) -> list[Score]:
    """The headline score of the rows of each cell: of each combination of the tags' values.

    Every row that has answers is in one cell. Cells are in the order of their values, and those
    without a value come last.
    """
    found: dict[Cell, list[Judged]] = {}
    for one in judged:
        if one.answers:
            found.setdefault(cell_in(one.row, task.options), []).append(one)
    return [
        score
        for cell, own in sorted(found.items(), key=lambda item: in_order(item[0]))
        for score in _as_scores(
            task,
            split,
            {task.headline: _measure(task, own, resample)[task.headline]},
            len(own),
            precision,
            dict(zip(TAGS, cell, strict=True)),
        )
    ]


def cell_in(row: Row, options: TaskOptions) -> Cell:
    """The cell of a row of a task, whose modality is what the row holds unless a tag says it."""
    return cell_of(row, options.tags, modality_of(row, options))


def modality_of(row: Row, options: TaskOptions) -> str:
    """What a row really holds of what its task reads, such as `image` or `text+image`."""
    there = {"text": has(row, options.texts)} if options.texts else {}
    there |= {name: has(row, (column,)) for name, column in options.others.items()}
    return "+".join(name for name, cells in there.items() if cells) or options.modality


def cell_of(row: Row, tags: Mapping[Any, str | Column], modality: str = "text") -> Cell:
    """Language, domain and modality of a row; None where it has none."""
    given: dict[str, str | Column] = {"modality": modality, **tags}
    values = (given.get(tag) for tag in TAGS)
    language, domain, known = (v.of(row) if isinstance(v, Column) else v for v in values)
    return language, domain, known


def in_order(cell: Sequence[str | None]) -> list[tuple[bool, str]]:
    """What cells are sorted by: their values, and those without one last."""
    return [(value is None, value or "") for value in cell]


def _as_scores(
    task: Task[Any, Any],
    split: str,
    measured: _Measured,
    rows: int,
    precision: str,
    tags: Mapping[str, str | None],
) -> list[Score]:
    """What was measured on some rows, with what they are tagged by."""
    found: list[Score] = []
    for metric, (value, interval) in measured.items():
        low, high, resamples = interval or (None, None, None)
        known = math.isfinite(value)
        found.append(
            Score(
                task=task.name,
                split=split,
                metric=metric,
                value=value if known else None,
                rows=rows,
                precision=precision,
                low=low if known else None,
                high=high if known else None,
                resamples=resamples if known else None,
                reason=None if known else _reason(task, metric),
                **tags,
            )
        )
    return found


def _measure(task: Task[Any, Any], judged: Sequence[Judged], resample: bool) -> _Measured:
    """Each metric over these rows, with its interval."""
    answers, rows, owner = laid_out(judged)
    values = task.score(answers, rows)
    found: dict[str, Interval] = {}
    if resample and (tally := task.tally(answers, rows)) is not None:
        found = intervals(tally, owner)
    elif resample:
        found = intervals_by_score(
            lambda which: task.score([answers[i] for i in which], [rows[i] for i in which]), owner
        )
    measured: _Measured = {metric: (value, found.get(metric)) for metric, value in values.items()}
    choices = task.choices(answers, rows)
    if choices is not None:
        measured |= _of_tally(calibration_tally(choices), owner, resample)
    return measured


def headline_samples(task: Task[Any, Any], judged: Sequence[Judged], salt: int) -> np.ndarray:
    """The headline score of many samples of the rows, (R,); the same rows with the same `salt`."""
    answers, rows, owner = laid_out(judged)
    if (tally := task.tally(answers, rows)) is not None:
        return samples(tally, owner, salt)[task.headline]
    found = samples_by_score(
        lambda which: task.score([answers[i] for i in which], [rows[i] for i in which]), owner, salt
    )
    return found[task.headline]


def laid_out(judged: Sequence[Judged]) -> tuple[list[Answer], list[Row], np.ndarray]:
    """All answers (N), the row of each, and that row's number among those with any answer (N,)."""
    judged = [one for one in judged if one.answers]
    answers = [answer for one in judged for answer in one.answers]
    rows = [one.row for one in judged for _ in one.answers]
    return answers, rows, np.repeat(np.arange(len(judged)), [len(one.answers) for one in judged])


def _of_tally(tally: Tally, owner: np.ndarray, resample: bool) -> _Measured:
    found = intervals(tally, owner) if resample else {}
    return {metric: (value, found.get(metric)) for metric, value in tally.total().items()}


def _cut(judged: Sequence[Judged]) -> Tally:
    """The share of rows that were cut to fit."""
    return Tally.of_means(cut=[any(a.dropped for a in one.answers) for one in judged])


def _reason(task: Task[Any, Any], metric: str) -> str:
    return task.undefined.get(metric, f"{metric} is not defined on these rows")


def headline(task: Task[Any, Any], found: Sequence[Score]) -> float:
    """The score from 0 to 1 by which the task's checkpoints are compared; 0 where it has none."""
    value = next(s.value for s in found if s.task == task.name and s.metric == task.headline)
    return 0.0 if value is None else value


def worst(task: Task[Any, Any], judged: Sequence[Judged], count: int) -> list[dict[str, Any]]:
    """The answers furthest from their truth, worst first, with what their rows are tagged by."""
    far = [
        (task.surprise(answer, one.row), one.row, answer)
        for one in judged
        for answer in one.answers
    ]
    far.sort(key=lambda item: item[0], reverse=True)
    return [
        {
            "task": task.name,
            "input": task.shown(row),
            "truth": task.truth(row),
            "answer": answer.short,
            "surprise": surprise,
            **{
                tag: value.of(row) if isinstance(value, Column) else value
                for tag, value in task.options.tags.items()
            },
        }
        for surprise, row, answer in far[:count]
    ]
