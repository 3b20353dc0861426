"""Two models, or two recipes of several seeds each, on the same rows: which is better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask.errors import UserError
from unmask.evaluation.bootstrap import LEVEL
from unmask.evaluation.held import last_run, own_run, reading
from unmask.evaluation.pairs import Held, Scored, compare, held_rows, scored_as
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Run, TaskOptions
from unmask.tasks import Task

log = logging.getLogger("unmask")


def comparison(
    ours: Sequence[str | Path], theirs: Sequence[str | Path], recipe_path: Path | None = None
) -> dict[str, Any]:
    """By how much the headline score of each task of `ours` is above that of `theirs`.

    One bundle of each, or as many with several seeds, the first beside the first. The rows are the
    held-out ones of our recipe, or of another that is given; tasks are matched by name. The
    difference has a 95 % interval and `p`, its chance where there is none, from a paired bootstrap
    over rows and pairs. Plain data comes back; docs/scores.md names every key.
    """
    use_available_cpus()
    if len(ours) != len(theirs):
        raise UserError(
            f"{len(ours)} and {len(theirs)} bundles: give as many of each side, the first is "
            "compared with the first"
        )
    runs = [_run(Path(folder), recipe_path) for folder in ours]
    sides = {
        "ours": [bundles.load(Path(folder)) for folder in ours],
        "theirs": [bundles.load(Path(folder)) for folder in theirs],
    }
    shared = [name for name in runs[0].tasks if all(name in m.tasks for m in _all(sides))]
    held = {name: own for name in shared if (own := _held(name, runs)) is not None}
    if not held:
        raise UserError(
            f"no task of the recipe ({', '.join(runs[0].tasks)}) stands in all bundles and has "
            "held-out rows: give such with --recipe"
        )
    tasks: list[dict[str, Any]] = []
    for name, rows in held.items():
        options = runs[0].tasks[name]
        found = {
            side: [
                _scored(m, name, options, own, f"{folder}")
                for m, own, folder in zip(models, rows, folders, strict=True)
            ]
            for (side, models), folders in zip(sides.items(), (ours, theirs), strict=True)
        }
        task = reading(sides["ours"][0].task(name), options)
        tasks.append(_renamed(compare(task, rows, found["theirs"], found["ours"])))
    return {
        "ours": [str(folder) for folder in ours],
        "theirs": [str(folder) for folder in theirs],
        "recipe": str(recipe_path) if recipe_path else None,
        "level": LEVEL,
        "notes": _notes(held, runs, theirs, recipe_path),
        "tasks": tasks,
    }


def _run(folder: Path, recipe_path: Path | None) -> Run:
    run = own_run(folder) if recipe_path is None else last_run(recipe_path)
    if run is None:
        raise UserError(f"{folder} was not trained by a recipe: say which rows with --recipe")
    return run


def _all(sides: dict[str, list[Model]]) -> list[Model]:
    return [model for models in sides.values() for model in models]


def _held(name: str, runs: Sequence[Run]) -> list[Held] | None:
    """A task's rows for each pair of bundles; None where the recipe holds out none."""
    options = runs[0].tasks[name]
    if options.test is None and options.valid is None:
        return None
    return held_rows(name, options, [run.train.seed for run in runs])


def _scored(model: Model, name: str, options: TaskOptions, held: Held, folder: str) -> Scored:
    task: Task[Any, Any] = reading(model.task(name), options)
    task.check(held.rows, f"{folder}: {held.split}")
    return scored_as(model, task, held)


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    """The keys of this comparison; noise is of no account where neither side is alone."""
    names = {"alone": "theirs", "together": "ours"}
    left_out = ("noise", "exceeds_noise")
    return {names.get(key, key): value for key, value in found.items() if key not in left_out}


def _notes(
    held: dict[str, list[Held]],
    runs: Sequence[Run],
    theirs: Sequence[str | Path],
    recipe_path: Path | None,
) -> list[str]:
    """What to know before one reads the figures."""
    notes = []
    others = [own_run(Path(folder)) for folder in theirs]
    for name, rows in held.items():
        options = runs[0].tasks[name]
        if rows[0].split == "valid":
            notes.append(
                f"task {name}: it has no test rows; the rows compared on may have chosen the "
                "checkpoints of one side"
            )
        if not isinstance(getattr(options, rows[0].split), float):
            continue
        same = recipe_path is None and all(
            other is not None and _drawn(other, name) == _drawn(run, name)
            for other, run in zip(others, runs, strict=True)
        )
        if not same:
            notes.append(
                f"task {name}: its held-out rows are drawn from `train`, and not alike for both "
                "sides: some bundle may have been trained on them; name a file in `test`"
            )
    for note in notes:
        log.warning("%s", note)
    return notes


def _drawn(run: Run, name: str) -> tuple[Any, ...]:
    """What decides which share of a task's rows is held out."""
    own = run.tasks.get(name)
    return (own and (own.train, own.test, own.valid, own.held_by), run.train.seed)
