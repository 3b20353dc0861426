"""Scoring a bundle on the held-out rows of a recipe."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask import progress
from unmask.data.duplicates import comparable, duplicates
from unmask.data.rows import Rows
from unmask.data.splits import Splits, split_rows
from unmask.errors import UserError
from unmask.evaluation.bootstrap import LEVEL
from unmask.evaluation.choosing import calibration, confusion
from unmask.evaluation.cube import cube_of, spelt_alike, trained_cells
from unmask.evaluation.doubt import doubt, lines
from unmask.evaluation.held import last_run, own_run, reading, rows_of
from unmask.evaluation.scores import Cell, Judged, cell_of, cells, judge, laid_out, scores, worst
from unmask.evaluation.seeds import check_alike, over_seeds
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Run, TaskOptions
from unmask.tasks import Task

log = logging.getLogger("unmask")

_LISTS = ("tasks", "scores", "cube", "duplicates", "confusion", "calibration", "doubt", "worst")


def evaluate(
    bundle: str | Path | Sequence[str | Path], recipe_path: Path | None = None, errors: int = 5
) -> dict[str, Any]:
    """Every task's scores on its held-out rows with 95 % intervals, and what lies behind them.

    The rows are those of the bundle's own recipe unless another is given; then its tasks, matched
    by name, say which rows and columns to read. The last of its stages counts. Several bundles are
    of one recipe trained with several seeds: then scores are means with standard deviations. Plain
    data comes back, which `unmask.evaluation.page.render` turns into HTML; docs/scores.md names
    every key.
    """
    use_available_cpus()
    if isinstance(bundle, str | Path):
        return _of_one(Path(bundle), recipe_path, errors)
    folders = [Path(one) for one in bundle]
    if len(folders) == 1:
        return _of_one(folders[0], recipe_path, errors)
    doubts = check_alike(folders, recipe_path)
    return over_seeds([_of_one(folder, recipe_path, errors) for folder in folders], doubts)


def _of_one(folder: Path, recipe_path: Path | None, errors: int) -> dict[str, Any]:
    model = bundles.load(folder)
    own = own_run(folder)
    run = own if recipe_path is None else last_run(recipe_path)
    if run is None:
        raise UserError(f"{folder} was not trained by a recipe: say which rows with --recipe")
    shared = [name for name in run.tasks if name in model.tasks]
    if not shared:
        raise UserError(
            f"the recipe's tasks ({', '.join(run.tasks)}) are none of the bundle's "
            f"({', '.join(model.tasks)}): give them the same names"
        )
    found: dict[str, Any] = {
        "bundle": str(folder),
        "bundles": [{"bundle": str(folder), "seed": own.train.seed if own else None}],
        "recipe": str(recipe_path) if recipe_path else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "precision": model.precision,
        "trunk": _trunk(model, own),
        "level": LEVEL,
        "notes": [],
        **{key: [] for key in _LISTS},
    }
    trained: dict[str, Counter[Cell] | None] = {}
    spelt: dict[str, list[Cell]] = {}
    held: dict[str, list[tuple[Task[Any, Any], Rows]]] = {"valid": [], "test": []}
    for name in shared:
        options = run.tasks[name]
        task = reading(model.task(name), options)
        splits = _splits(name, options, run.train.seed, found)
        drawn = options.train and float in (type(options.valid), type(options.test))
        if recipe_path is not None and drawn:
            _note(
                found,
                f"task {name}: its held-out rows are drawn from `train` by this recipe; the "
                "bundle may have been trained on them",
            )
        own_rows = {s: rows for s in held if (rows := getattr(splits, s)) is not None}
        if not own_rows:
            _note(found, f"task {name}: no scores, for the recipe holds out no rows of it")
            continue
        known = splits.train if recipe_path is None else _trained_on(own, name)
        learnt = own.tasks.get(name) if own else None
        trained[name] = trained_cells(learnt, known, task.options)
        if trained[name] is None and task.options.tags:
            said = "its training rows could not be read, or have not all of these tags"
            _note(found, f"task {name}: which cells are zero-shot is not known: {said}")
        spelt[name] = list(trained[name] or ())
        found["duplicates"] += _again(task, own_rows, known, model.task(name).options, found)
        for split, rows in own_rows.items():
            task.check(rows, split)
            held[split].append((task, rows))
    tested = {task.name for task, _ in held["test"]}
    for split, jobs in held.items():
        with progress.bar(split, sum(len(rows) for _, rows in jobs)) as advance:
            judged = judge(model, jobs, advance)
        for (task, _), answered in zip(jobs, judged, strict=True):
            if not any(one.answers for one in answered):
                said = "no scores, for no row has anything to score"
                _note(found, f"task {task.name}, {split}: {said}")
                continue
            records = scores(task, split, answered, model.precision, resample=True)
            found["scores"] += [score.record() for score in records]
            spelt[task.name] += {cell_of(one.row, task.options.tags): None for one in answered}
            if split == "test" or task.name not in tested:
                _look_closer(found, task, split, answered, errors)
                by_cell = cells(task, split, answered, model.precision, resample=True)
                found["cube"].append(cube_of(task, split, by_cell, trained[task.name]))
    if not found["scores"]:
        raise UserError("no task of the recipe has held-out rows: give it `test` or `valid`")
    for said in spelt_alike(spelt):
        _note(found, said)
    return found


def _look_closer(
    found: dict[str, Any], task: Task[Any, Any], split: str, judged: list[Judged], errors: int
) -> None:
    """Beside the scores: confusion, calibration, what promises are worth, the worst errors."""
    answers, rows, _ = laid_out(judged)
    of = {"task": task.name, "split": split}
    found["tasks"].append(
        {**of, "kind": task.kind, "headline": task.headline, "rows": len(judged),
         "answers": len(answers)}
    )  # fmt: skip
    if (choices := task.choices(answers, rows)) is not None:
        found["confusion"].append({**of, **confusion(choices)})
        found["calibration"].append({**of, **calibration(choices)})
    if (trust := doubt(task, judged, found["precision"])) is not None:
        found["doubt"].append({**of, **trust})
        for line in lines(trust):
            _note(found, f"task {task.name}, {split}: {line}")
    found["worst"] += worst(task, judged, errors)


def _trunk(model: Model, own: Run | None) -> dict[str, Any]:
    config = model.encoder.config
    return {
        "layers": config.num_layers,
        "width": config.hidden_size,
        "weights": sum(p.numel() for p in model.parameters()),
        "from": own.encoder.source if own else None,
    }


def _splits(name: str, options: TaskOptions, seed: int, found: dict[str, Any]) -> Splits:
    """The task's rows; where those to learn from are gone, what does not need them."""
    splits, missing = rows_of(name, options, seed)
    if missing is not None:
        _note(
            found,
            f"task {name}: its training rows could not be read ({missing}); rows held out of them "
            "are not scored",
        )
    return splits


def _trained_on(own: Run | None, name: str) -> Rows | None:
    """The rows that the bundle learnt a task from, if they can still be had."""
    if own is None or name not in own.tasks:
        return None
    try:
        return split_rows(name, own.tasks[name], own.train.seed).train
    except UserError:
        return None


def _again(
    task: Task[Any, Any],
    held: dict[str, Rows],
    known: Rows | None,
    trained: TaskOptions,
    found: dict[str, Any],
) -> list[dict[str, Any]]:
    """For each split, how many of its rows the bundle was trained on."""
    of = [{"task": task.name, "split": split} for split in held]
    same = known is not None and len(trained.inputs) == len(task.options.inputs)
    if known is None or not same or not comparable(list(held.values()), known):
        said = "the bundle's training rows could not be read, or be compared with these, so "
        said += "whether held-out rows stand there "
        _note(found, f"task {task.name}: {said}too is not known")
        empty = {"count": None, "first": None, "text": None}
        return [{**o, "rows": len(r), **empty} for o, r in zip(of, held.values(), strict=True)]
    looked = duplicates(list(held.values()), known, task.options.inputs, trained.inputs)
    for split, one in zip(held, looked, strict=True):
        if one.count:
            _note(found, f"task {task.name}, {split}: {one}: scores on them are of memory")
    return [{**o, **asdict(one)} for o, one in zip(of, looked, strict=True)]


def _note(found: dict[str, Any], text: str) -> None:
    """What a reader of the scores must know, in the result and as a warning."""
    found["notes"].append(text)
    log.warning("%s", text)
