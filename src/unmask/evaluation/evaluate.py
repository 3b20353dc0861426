"""Scoring a bundle on the held-out rows of a recipe."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask import progress, recipe
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.scores import judge, scores, worst
from unmask.recipe import TaskOptions
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
    for name in shared:
        options = run.tasks[name]
        task = _reading(model.task(name), options)
        splits = split_rows(name, options, run.train.seed)
        drawn = options.train and float in (type(options.valid), type(options.test))
        if recipe_path is not None and drawn:
            log.warning(
                "task %s: its held-out rows are drawn from `train` by this recipe; the bundle may "
                "have been trained on them",
                name,
            )
        for split, rows in (("valid", splits.valid), ("test", splits.test)):
            if rows is None:
                continue
            task.check(rows, split)
            with progress.bar(f"{name} {split}", len(rows)) as advance:
                judged = judge(model, task, rows, advance)
            found["scores"] += [s.record() for s in scores(task, split, judged, model.precision)]
            if split == "test" or splits.test is None:
                found["worst"] += worst(task, judged, errors)
    if not found["scores"]:
        raise UserError("no task of the recipe has held-out rows: give it `test` or `valid`")
    return found


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
