"""Typical hits and misses of a task, explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unmask import progress
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.scores import Judged, judge
from unmask.explain import explain
from unmask.model import Model
from unmask.tasks import Task

LOOKED_AT = 400  # rows, drawn at random
LONGEST = 128  # tokens of a text that is explained here


def typical(
    model: Model, task: Task[Any, Any], rows: Rows, count: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Some rows that the task gets right and some that it gets wrong, with explanations.

    Of each sort those in the middle by how surprising the truth was: neither the easiest nor the
    strangest. A kind that chooses no label has no right and wrong: its less and its most surprising
    answers stand for them. Kinds that have nothing to explain in their rows give none.
    """
    if task.kind in ("mlm", "detect"):  # what they answer is of what is hidden in their rows
        return []
    drawn = np.random.default_rng(seed).permutation(len(rows))[:LOOKED_AT]
    (judged,) = judge(model, [(task, [rows[int(i)] for i in np.sort(drawn)])])
    short = [one for one in judged if one.answers and _short(one)]
    if not short:
        return []
    found = []
    chosen = {sort: _middle(task, own, count) for sort, own in _sorts(task, short).items()}
    with progress.bar(f"explaining {task.name}", sum(map(len, chosen.values()))) as advance:
        for sort, one in ((sort, one) for sort, own in chosen.items() for one in own):
            advance(1)
            try:
                explanation = explain(model, task.name, one.row)
            except UserError:  # such as a text for which nothing was written
                continue
            found.append(
                {
                    "task": task.name,
                    "sort": sort,
                    "truth": task.truth(one.row),
                    "explanation": explanation.model_dump(),
                }
            )
    return found


def _short(one: Judged) -> bool:
    return one.answers[0].tokens <= LONGEST and not one.answers[0].dropped


def _sorts(task: Task[Any, Any], judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The hits and the misses."""
    choices = task.choices([one.answers[0] for one in judged], [one.row for one in judged])
    if choices is not None:
        right = choices.chosen == choices.truth
    else:
        surprise = np.array([task.surprise(one.answers[0], one.row) for one in judged])
        right = surprise <= np.quantile(surprise, 0.75)
    pairs = list(zip(judged, right, strict=True))
    return {
        "hit": [one for one, hit in pairs if hit],
        "miss": [one for one, hit in pairs if not hit],
    }


def _middle(task: Task[Any, Any], judged: Sequence[Judged], count: int) -> list[Judged]:
    order = sorted(judged, key=lambda one: task.surprise(one.answers[0], one.row))
    start = max((len(order) - count) // 2, 0)
    return order[start : start + count]
