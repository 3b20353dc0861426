"""What validation rows teach once the weights stand: calibration, promises, what is known."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask import progress
from unmask.batch import Batch, Example
from unmask.data.rows import Rows
from unmask.evaluation.scores import judge, laid_out
from unmask.model import Model
from unmask.tasks import Draw, Row, Task, known, row_rng
from unmask.tasks.pooled import PooledTask

_LOOKED_AT = 16 * known.BANK  # training rows among which those to keep are chosen


def calibrate(
    model: Model,
    valid: Mapping[str, Sequence[Row]],
    train: Mapping[str, Sequence[Row]],
    readers: Mapping[str, Task[Any, Any]] | None = None,
) -> None:
    """Let each task with validation rows learn from them what the weights do not say.

    What is found holds for the form of the model at hand, and that is noted with it. `readers`
    are tasks that read validation rows in another way than the model's own of that name.
    """
    for name, rows in valid.items():
        task = model.task(name)
        task.calibration, task.tensors = {}, {}
        reader = (readers or {}).get(name, task)
        reader.calibration, reader.tensors = {}, {}
        kind = type(task)
        if kind.fit is not Task.fit or kind.promises is not Task.promises:  # else it learns nothing
            (judged,) = judge(model, [(reader, rows)])
            answers, own, _ = laid_out(judged)
            found = dict(reader.fit(answers, own))
            if promises := reader.promises(answers, own):
                found["promises"] = {"form": model.precision, **promises}
            task.calibration = found
        if isinstance(task, PooledTask) and isinstance(reader, PooledTask) and train.get(name):
            _learn_known(model, task, reader, rows, train[name])


def _learn_known(
    model: Model,
    task: PooledTask[Any, Any],
    reader: PooledTask[Any, Any],
    valid: Sequence[Row],
    train: Sequence[Row],
) -> None:
    """Teach a task to tell rows that are like none of those it learnt from, if it is to know."""
    if task.known_by is None:
        return
    some = _pick(train, _drawn(len(train), _LOOKED_AT))
    some = _pick(some, known.spread_over(task.groups(some)))
    with progress.bar("what is known", len(some) + len(valid)) as advance:
        learnt, held = look(model, task, some, advance), look(model, reader, valid, advance)
    record, task.tensors = known.fit(learnt, held, task.known_by)
    task.calibration["known"] = {"form": model.precision, **record}


def _drawn(n: int, most: int) -> np.ndarray:
    """So many of n numbers at most, always the same, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).permutation(n)[:most])


def _pick(rows: Sequence[Row], which: np.ndarray) -> Sequence[Row]:
    return rows.pick(which) if isinstance(rows, Rows) else [rows[i] for i in which]


def look(
    model: Model, task: PooledTask[Any, Any], rows: Sequence[Row], advance: Any = None
) -> known.Seen:
    """What a task makes of rows whose truth is known: vectors, logits, groups."""
    watched = copy.copy(task)
    watched.watched, watched.calibration, watched.tensors = True, {}, {}

    def examples() -> list[Example]:
        draws = (Draw(row_rng(0, task.name, 0, i), learn=False) for i in range(len(rows)))
        return [next(iter(task.examples(row, d))) for row, d in zip(rows, draws, strict=True)]

    def finish(
        outputs: dict[str, Tensor], batch: Batch, own: Sequence[Example]
    ) -> list[tuple[Tensor, Tensor]]:
        vectors, logits = (outputs[key].float().cpu() for key in ("vector", "logits"))
        return list(zip(vectors, logits, strict=True))

    run = model.runner(watched, advance)
    vectors, logits = zip(*run(examples(), finish), strict=True)
    groups = torch.from_numpy(task.groups(rows))
    # Cloned, for what was made in inference mode can be part of nothing that learns.
    return known.Seen(torch.stack(vectors).clone(), torch.stack(logits).clone(), groups)
