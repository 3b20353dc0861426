"""Which rows a bundle is scored on: the recipe's, as far as they can still be read."""

from __future__ import annotations

from pathlib import Path

from unmask import recipe
from unmask.data.splits import Splits, split_rows
from unmask.errors import UserError
from unmask.recipe import Run, TaskOptions
from unmask.tasks import OPTIONS


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
