"""Answers with the promises that somebody asks for, or a refusal before any work is done."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from unmask.errors import UserError
from unmask.tasks.base import AnyAnswer, Task
from unmask.tasks.promises import OPTIONS, asked

log = logging.getLogger("unmask")


def check(task: Task[Any, Any], options: Mapping[str, Any], form: str) -> None:
    """Refuse what a task in this form cannot promise, and options that no kind would read."""
    if wanted := asked(task.name, options):
        task.hedged([], wanted, form)
    if type(task).predict is Task.predict and (strange := sorted({*options} - {*OPTIONS, "top"})):
        near = get_close_matches(strange[0], OPTIONS, n=1)
        raise UserError(
            f"task {task.name}: kind {task.kind} has no option {strange[0]!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"it has {' and '.join(OPTIONS)}")
        )


def unpromised(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say how answers are made, and not what they promise."""
    return {key: value for key, value in options.items() if key not in OPTIONS}


def hedged(
    task: Task[Any, AnyAnswer], answers: Sequence[AnyAnswer], options: Mapping[str, Any], form: str
) -> list[AnyAnswer]:
    """The answers of a model in this form with what they promise.

    What was fitted in another form says nothing of this one: whether a text is known is left out.
    """
    record = task.calibration.get("known")
    if record and record.get("form") != form:
        log.warning(
            "task %s: what is known was fitted in %s and this is %s, so it is not said; "
            "`unmask calibrate` fits it anew",
            task.name,
            record.get("form"),
            form,
        )
        answers = [replace(answer, known=None) for answer in answers]
    wanted = asked(task.name, options)
    return task.hedged(answers, wanted, form) if wanted else list(answers)
