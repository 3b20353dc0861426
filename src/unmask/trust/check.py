"""`unmask check`: behaviour tests of a bundle's task on rows of its own, in each language."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask import bundle as bundles
from unmask import progress
from unmask.data.rows import Rows, require
from unmask.data.sources import read
from unmask.errors import UserError
from unmask.evaluation.held import own_run, rows_of
from unmask.machine.threads import use_available_cpus
from unmask.recipe import Column, Source
from unmask.tasks import Row, Task
from unmask.trust.behaviour import curve, poles_of, run_tests
from unmask.trust.language import guess, language, languages

log = logging.getLogger("unmask")


def check(
    folder: Path,
    name: str | None = None,
    only: str | None = None,
    rows_from: Path | None = None,
    count: int = 200,
    positive: str | None = None,
    negative: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All behaviour tests and the curves of a task, as plain data.

    The rows are those held out by the bundle's own recipe, unless a file is given; at most `count`
    of each language, which is that of the row's tag, or guessed. `only` names one language.
    """
    use_available_cpus()
    model = bundles.load(folder)
    if name is None and len(model.tasks) != 1:
        raise UserError(f"say which task with --task; the model's tasks: {', '.join(model.tasks)}")
    task = model.task(name or next(iter(model.tasks)))
    rows, labelled = _rows(folder, task, rows_from)
    notes: list[str] = []
    parts = _by_language(task, rows, only, count, notes)
    poles = poles_of(task, positive, negative)
    if poles is None:
        notes.append(
            "no tests of sentiment: no two labels are named as if they were good and bad; name "
            "them with --positive and --negative"
        )
    tests: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for code, own in parts.items():
        with progress.bar(f"check {code}", None, unit="texts") as advance:
            tests += run_tests(model, task, own, language(code), poles, seed, advance)
            if labelled:
                curves.append(curve(model, task, own, language(code), seed))
    if not labelled:
        notes.append(f"no curves: the rows have no column {task.options.needed[-1]!r}")
    return {
        "bundle": str(folder),
        "task": task.name,
        "kind": task.kind,
        "precision": model.precision,
        "seed": seed,
        "rows": {code: len(own) for code, own in parts.items()},
        "notes": notes,
        "tests": tests,
        "curves": curves,
    }


def _rows(folder: Path, task: Task[Any, Any], path: Path | None) -> tuple[Rows, bool]:
    """Rows to change, and whether their truth is known."""
    if path is not None:
        rows = read(Source(path=str(path)))
        require(rows, list(task.options.inputs))
        return rows, set(task.options.needed) <= set(rows.column_names)
    run = own_run(folder)
    if run is None or task.name not in run.tasks:
        raise UserError(f"{folder} was not trained by a recipe: give rows with --input")
    splits, _ = rows_of(task.name, run.tasks[task.name], run.train.seed)
    found = splits.test or splits.valid
    if found is None:
        raise UserError(f"task {task.name} holds out no rows: give some with --input")
    return found, True


def _by_language(
    task: Task[Any, Any], rows: Sequence[Row], only: str | None, count: int, notes: list[str]
) -> dict[str, list[Row]]:
    """At most so many rows of each language that there are tests in."""
    if only is not None:
        language(only)  # refused before any work
    tag = task.options.tags.get("language")
    found: dict[str, list[Row]] = {}
    step = max(len(rows) // (count * 20), 1)  # of a large file, rows from all over it
    for row in (rows[i] for i in range(0, len(rows), step)):
        text = task.texts(row)[0]
        if not text.strip():
            continue
        said = tag.of(row) if isinstance(tag, Column) else tag or only
        code = str(said or guess(text))
        own = found.setdefault(code, [])
        if len(own) < count:
            own.append(row)
    lacking = sorted(found.keys() - set(languages()))
    if lacking:
        notes.append(f"no tests in {', '.join(lacking)}: there are in {', '.join(languages())}")
    if tag is None and only is None:
        notes.append("languages are not tagged: what is not Chinese is taken for en")
    kept = {c: r for c, r in sorted(found.items()) if c in languages() and only in (None, c)}
    if not kept:
        raise UserError(
            f"task {task.name} has no rows in {only or 'a language with behaviour tests'}; its "
            f"languages: {', '.join(sorted(found)) or 'none'}"
        )
    for note in notes:
        log.warning("%s", note)
    return kept


def worst(found: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """The tests that fail most often."""
    return sorted(found["tests"], key=lambda test: -test["rate"])[:count]
