"""Teachers: bundles whose answers a task imitates beside the truth of its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask import tokens
from unmask.batch import Batch
from unmask.errors import UserError
from unmask.loading import load
from unmask.model import Model
from unmask.recipe import TaskOptions
from unmask.tasks import Task
from unmask.tasks.base import said_of


@dataclass(frozen=True)
class Teacher:
    """A task of another model, which does not learn, and the share of the loss that is its."""

    model: Model
    task: Task[Any, Any]
    share: float

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """What it makes of a batch, without dropout and with nothing to differentiate."""
        with torch.no_grad(), self.model.autocast():
            return self.model(self.task, batch)[0]

    def mixed(self, loss: Tensor, distance: Tensor) -> Tensor:
        """The truth's loss and the distance from this teacher, in their shares."""
        return (1 - self.share) * loss + self.share * distance


def teachers_of(
    tasks: Mapping[str, Task[Any, Any]], model: Model, device: torch.device
) -> dict[str, Teacher]:
    """The teachers that the tasks of a model ask for; what cannot be taught so is refused."""
    found: dict[str, Teacher] = {}
    loaded: dict[str, Model] = {}
    for name, task in tasks.items():
        source = task.options.teacher
        if source is None:
            continue
        if type(task).imitate is Task.imitate:
            raise UserError(
                f"task {name}: kind {task.kind} cannot learn from a teacher; leave it out"
            )
        if source not in loaded:
            with said_of(f"task {name}: its teacher {source}"):
                loaded[source] = load(source).to(device).requires_grad_(False)
        teacher = loaded[source]
        if task.inward:  # it needs the teacher's encoder, and no task of it
            own = type(task)(name, task.options, teacher.text)
            head = own.build(teacher.encoder)
            teacher = Model(teacher.encoder, teacher.text, {name: own}, {name: head})
        else:
            own = _of_kind(name, task, teacher, source)
        _check(task, own, teacher, model, f"task {name}: its teacher {source}")
        found[name] = Teacher(teacher, own, task.options.teacher_share)
    return found


def look_for_teachers(tasks: Mapping[str, TaskOptions], made: Collection[Path]) -> None:
    """Refuse a stage to come whose teachers are not there, unless they are made before it."""
    to_come = {path.resolve() for path in made}
    for name, options in tasks.items():
        source = options.teacher
        if source is not None and Path(source).resolve() not in to_come:
            with said_of(f"task {name}: its teacher {source}"):
                load(source)


def _of_kind(name: str, task: Task[Any, Any], teacher: Model, source: str) -> Task[Any, Any]:
    """The teacher's task of this name, or else its one task of this kind."""
    alike = {other: own for other, own in teacher.tasks.items() if own.kind == task.kind}
    if name in alike:
        return alike[name]
    if len(alike) != 1:
        raise UserError(
            f"task {name}: its teacher {source} has {len(alike)} tasks of kind {task.kind} and "
            f"none of this name; its tasks are {', '.join(teacher.tasks) or 'none'}"
        )
    return next(iter(alike.values()))


def _check(
    task: Task[Any, Any], own: Task[Any, Any], teacher: Model, model: Model, said: str
) -> None:
    """The teacher must read the same tokens at the same positions, and have the same labels."""
    ours, theirs = (x.meaning.get("labels", x.meaning.get("tags")) for x in (task, own))
    if ours != theirs:
        more, fewer = sorted({*theirs} - {*ours}), sorted({*ours} - {*theirs})
        parts = [f"{label!r} is its only" for label in more[:1]]
        parts += [f"it lacks {label!r}" for label in fewer[:1]]
        raise UserError(
            f"{said} has other labels: {' and '.join(parts) or 'their order differs'}; train it on "
            "rows with the same labels"
        )
    if tokens.fingerprint(teacher.text.tokenizer) != tokens.fingerprint(model.text.tokenizer):
        raise UserError(
            f"{said} has another tokenizer; start both from the same encoder, or let it write its "
            "answers into the rows with `unmask predict`"
        )
    longest = task.options.max_length or model.text.max_length
    if longest > teacher.text.max_length:
        raise UserError(
            f"{said} reads {teacher.text.max_length} tokens at most; set max_length to that"
        )
    for what in ("pooling", "no_answer", "multi_label", "values"):
        ours, theirs = (_choice(one, what) for one in (task, own))
        if ours != theirs:
            raise UserError(
                f"{said} has {what}: {theirs}, and this task {ours}; make them the same"
            )


def _choice(task: Task[Any, Any], name: str) -> Any:
    """What decides where a task looks, or what its logits mean, where its kind has the choice."""
    head = getattr(task, "head", None)
    return getattr(task.options, name, getattr(head, name, None))
