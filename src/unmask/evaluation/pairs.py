"""Two models a seed on the same rows: how far apart they are, and whether that is chance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.data.rows import Rows
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.bootstrap import paired
from unmask.evaluation.scores import headline_samples, judge, laid_out
from unmask.evaluation.seeds import difference
from unmask.model import Model
from unmask.recipe import TaskOptions
from unmask.tasks import Task


@dataclass(frozen=True)
class Held:
    """The rows that a seed's models are compared on; those of one `salt` are the same."""

    split: str
    rows: Rows
    salt: int


@dataclass(frozen=True)
class Scored:
    """A model's headline score, and that of samples of the rows (R,)."""

    value: float
    samples: np.ndarray


def held_rows(task: str, options: TaskOptions, seeds: Sequence[int]) -> list[Held]:
    """Of each seed the test rows, or the valid rows of a task without; a share is drawn by it."""
    found: list[Held] = []
    for i, seed in enumerate(seeds):
        splits = split_rows(task, options, seed)
        split, rows = ("test", splits.test) if splits.test is not None else ("valid", splits.valid)
        assert rows is not None  # only such tasks are compared
        same = found and difference(found[0].rows, rows) is None
        found.append(Held(split, rows, 0 if same else i))
    return found


def scored(model: Model, name: str, held: Held) -> Scored:
    """What a model scores on the rows of its seed."""
    return scored_as(model, model.task(name), held)


def scored_as(model: Model, task: Task[Any, Any], held: Held) -> Scored:
    """The same of a task of its that reads the rows in another way than it was taught."""
    (judged,) = judge(model, [(task, held.rows)])
    if not any(one.answers for one in judged):
        raise UserError(f"task {task.name}: no row of its {held.split} split has anything to score")
    answers, rows, _ = laid_out(judged)
    value = task.score(answers, rows)[task.headline]
    return Scored(value, headline_samples(task, judged, held.salt))


def compare(
    task: Task[Any, Any], held: Sequence[Held], alone: Sequence[Scored], together: Sequence[Scored]
) -> dict[str, Any]:
    """The means of both over seeds, and the difference, together less alone, as plain data.

    Its interval and `p`, the chance of a difference so large where there is none, are those of a
    paired bootstrap: rows and seeds are drawn again, the same for both models. The noise of the
    seeds is the standard deviation of the task alone, None where there is one seed.
    """
    of = {
        "task": task.name,
        "kind": task.kind,
        "split": held[0].split,
        "metric": task.headline,
        "rows": len(held[0].rows),
        "same_rows": all(one.salt == 0 for one in held),
    }
    values = {"alone": [s.value for s in alone], "together": [s.value for s in together]}
    if not all(math.isfinite(v) for own in values.values() for v in own):
        reason = task.undefined.get(task.headline, "it is not defined on these rows")
        return {**of, "alone": None, "together": None, "difference": None, "reason": reason}
    found: dict[str, Any] = {
        side: {"value": statistics.fmean(own), **_deviation(own), "values": own}
        for side, own in values.items()
    }
    change = statistics.fmean(values["together"]) - statistics.fmean(values["alone"])
    noise = found["alone"].get("sd")
    pairs = zip(together, alone, strict=True)
    chance = paired(np.stack([ours.samples - theirs.samples for ours, theirs in pairs]))
    low, high, p, resamples = chance or (None, None, None, None)
    return {
        **of,
        **found,
        "difference": change,
        "low": low,
        "high": high,
        "p": p,
        "resamples": resamples,
        "noise": noise,
        "exceeds_noise": None if noise is None else -change > noise,
    }


def _deviation(values: Sequence[float]) -> dict[str, float]:
    """Of one value it is not known."""
    return {"sd": statistics.stdev(values)} if len(values) > 1 else {}
