"""Scoring a bundle on the held-out rows of a recipe."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask import progress, recipe
from unmask.data.rows import Rows
from unmask.data.splits import Splits, split_rows
from unmask.errors import UserError
from unmask.evaluation.scores import judge, scores, worst
from unmask.recipe import Run, TaskOptions
from unmask.runtime.threads import use_available_cpus
from unmask.tasks import OPTIONS, Task

log = logging.getLogger("unmask")


def evaluate(
    bundle: str | Path, recipe_path: Path | None = None, errors: int = 5
) -> dict[str, Any]:
    """Scores of every task with held-out rows, and its worst errors.

    The rows are those of the bundle's own recipe unless another is given; then its tasks, matched
    by name, say which rows and columns to read. The last of its stages counts.
    """
    folder = Path(bundle)
    use_available_cpus()
    model = bundles.load(folder)
    if recipe_path is None and not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder} was not trained by a recipe: say which rows with --recipe")
    data = recipe.read(recipe_path or folder / "recipe.yaml")
    run = list(recipe.parse(data, OPTIONS).values())[-1]
    shared = [name for name in run.tasks if name in model.tasks]
    if not shared:
        raise UserError(
            f"the recipe's tasks ({', '.join(run.tasks)}) are none of the bundle's "
            f"({', '.join(model.tasks)}): give them the same names"
        )
    found: dict[str, Any] = {"precision": model.precision, "scores": [], "worst": []}
    tasks = {name: _reading(model.task(name), run.tasks[name]) for name in shared}
    splits = {name: _held_out(name, run, recipe_path is not None) for name in shared}
    for split in ("valid", "test"):
        held: list[tuple[Task[Any, Any], Rows]] = []
        for name, task in tasks.items():
            rows = getattr(splits[name], split)
            if rows is not None:
                task.check(rows, split)
                held.append((task, rows))
        with progress.bar(split, sum(len(rows) for _, rows in held)) as advance:
            judged = judge(model, held, advance)
        for (task, _), own in zip(held, judged, strict=True):
            found["scores"] += [s.record() for s in scores(task, split, own, model.precision)]
            if split == "test" or splits[task.name].test is None:
                found["worst"] += worst(task, own, errors)
    if not found["scores"]:
        raise UserError("no task of the recipe has held-out rows: give it `test` or `valid`")
    return found


def _held_out(name: str, run: Run, other: bool) -> Splits:
    """A task's rows; a warning where another recipe draws them from what it trains on."""
    options = run.tasks[name]
    if other and options.train and float in (type(options.valid), type(options.test)):
        log.warning(
            "task %s: its held-out rows are drawn from `train` by this recipe; the bundle may "
            "have been trained on them",
            name,
        )
    return split_rows(name, options, run.train.seed)


def _reading(task: Task[Any, Any], options: TaskOptions) -> Task[Any, Any]:
    """The bundle's task, reading the rows and columns that these options name."""
    if options.kind != task.kind:
        raise UserError(
            f"task {task.name} is of kind {options.kind} in the recipe, and of kind {task.kind} "
            "in the bundle; name another"
        )
    changes = {key: getattr(options, key) for key in type(options).reading}
    own = task.options.model_copy(update=changes)
    return type(task)(task.name, own, task.text, task.facts, task.calibration)
