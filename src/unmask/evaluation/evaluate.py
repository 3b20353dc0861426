"""Scoring a bundle on the held-out rows of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask import progress, recipe
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.scores import judge, scores, worst
from unmask.runtime.threads import use_available_cpus
from unmask.tasks import OPTIONS


def evaluate(
    bundle: str | Path, recipe_path: Path | None = None, errors: int = 5
) -> dict[str, Any]:
    """Scores of every task with held-out rows, and its worst errors.

    The rows are those of the bundle's own recipe unless another is given; the recipe's tasks are
    matched by name, and its last stage counts.
    """
    folder = Path(bundle)
    use_available_cpus()
    model = bundles.load(folder)
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
        task = model.task(name)
        splits = split_rows(name, run.tasks[name], run.train.seed)
        for split, rows in (("valid", splits.valid), ("test", splits.test)):
            if rows is None:
                continue
            task.check(rows, split)
            with progress.bar(f"{name} {split}", len(rows)) as advance:
                judged = judge(model, task, rows, lambda n, tell=advance: tell(n, ""))  # type: ignore[misc]
            found["scores"] += [s.record() for s in scores(task, split, judged)]
            if split == "test" or splits.test is None:
                found["worst"] += worst(task, judged, errors)
    if not found["scores"]:
        raise UserError("no task of the recipe has held-out rows: give it `test` or `valid`")
    return found
