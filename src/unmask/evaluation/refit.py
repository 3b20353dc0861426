"""Fitting a bundle's calibration anew, to other rows or for another precision."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml

from unmask import bundle as bundles
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.fitting import calibrate
from unmask.evaluation.held import last_run, own_run, reading, rows_of
from unmask.machine.threads import use_available_cpus
from unmask.model import Precision
from unmask.recipe import Run
from unmask.runtime.exits import GONE, has_exits

log = logging.getLogger("unmask")

_SINCE = (
    "\nIts calibration was fitted anew since; the scores above are from before "
    "(`unmask calibrate`).\n"
)


def refit(
    folder: Path, out: Path, recipe_path: Path | None, precision: Precision
) -> dict[str, dict[str, Any]]:
    """Write the bundle to `out` with its tasks fitted to the `valid` rows of a recipe.

    The recipe is its own unless another is given, whose tasks are matched by name. What texts were
    learnt from is read from the bundle's own recipe. What comes back says of each task what was
    fitted, and in which form.
    """
    use_available_cpus()
    model = bundles.load(folder)
    own = own_run(folder)
    run = own if recipe_path is None else last_run(recipe_path)
    if run is None:
        raise UserError(f"{folder} was not trained by a recipe: say which rows with --recipe")
    model.precision = precision
    found: dict[str, dict[str, Any]] = {}
    for name in [name for name in run.tasks if name in model.tasks]:
        splits, _ = rows_of(name, run.tasks[name], run.train.seed)
        if splits.valid is None:
            continue
        learnt = splits.train
        if recipe_path is not None:
            learnt = _learnt(own, name)
        reader = reading(model.task(name), run.tasks[name])
        reader.check(splits.valid, "valid")
        if learnt is None:
            log.warning(
                "task %s: its training rows could not be read, so its answers no more say whether "
                "a text is known",
                name,
            )
        calibrate(model, {name: splits.valid}, {name: learnt} if learnt else {}, {name: reader})
        found[name] = _said(model.task(name).calibration, precision, len(splits.valid))
    if not found:
        raise UserError(
            f"no task of {recipe_path or folder} that the bundle has holds out `valid` rows, and "
            "nothing can be fitted without; name some there"
        )
    recipe, card = folder / "recipe.yaml", folder / "README.md"
    bundles.save(
        model,
        out,
        recipe=yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None,
        card=f"{card.read_text(encoding='utf-8')}{_since(folder)}" if card.is_file() else "",
    )
    return found


def _since(folder: Path) -> str:
    """What the card says of it."""
    if not has_exits(folder):
        return _SINCE
    log.warning(
        "%s answers early, and what is fitted anew will not: its exits are left out", folder
    )
    return f"{_SINCE}{GONE}"


def _learnt(own: Run | None, name: str) -> Rows | None:
    """The rows that the bundle itself learnt a task from, if they can still be read."""
    if own is None or name not in own.tasks:
        return None
    try:
        return rows_of(name, own.tasks[name], own.train.seed)[0].train
    except UserError:
        return None


def _said(calibration: dict[str, Any], precision: str, rows: int) -> dict[str, Any]:
    promises, known = calibration.get("promises"), calibration.get("known")
    return {
        "form": precision,
        "rows": rows,
        "temperature": calibration.get("temperature"),
        "promises": sorted({"coverage", "risk"} & promises.keys()) if promises else None,
        "known": known["score"] if known else None,
    }
