"""Which rows a bundle is scored on: the recipe's, as far as they can still be read, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask import recipe
from unmask.data.splits import Splits, split_rows
from unmask.errors import UserError
from unmask.recipe import Run, TaskOptions
from unmask.tasks import OPTIONS, Task


def last_run(path: Path) -> Run:
    """A recipe, or the last of its stages."""
    return list(recipe.parse(recipe.read(path), OPTIONS).values())[-1]


def own_run(folder: Path) -> Run | None:
    """The recipe that a bundle was trained by, if there is one."""
    path = folder / "recipe.yaml"
    return last_run(path) if path.is_file() else None


def rows_of(name: str, options: TaskOptions, seed: int) -> tuple[Splits, str | None]:
    """A task's rows; where those to learn from are gone, what does not need them, and why."""
    try:
        return split_rows(name, options, seed), None
    except UserError as error:
        if options.train is None:
            raise
        rest = split_rows(name, options.model_copy(update={"train": None}), seed)
        if rest.valid is None and rest.test is None:
            raise
        return rest, str(error)


def reading(task: Task[Any, Any], options: TaskOptions) -> Task[Any, Any]:
    """The bundle's task, reading the rows and columns that these options name."""
    if options.kind != task.kind:
        raise UserError(
            f"task {task.name} is of kind {options.kind} in the recipe, and of kind {task.kind} "
            "in the bundle; name another"
        )
    changes = {key: getattr(options, key) for key in type(options).reading}
    own = task.options.model_copy(update=changes)
    return type(task)(task.name, own, task.text, task.facts, task.calibration, task.tensors)
