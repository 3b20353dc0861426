"""The rows to look for neighbours in: those a bundle learnt from, or a file's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.rows import Rows
from unmask.data.sources import read, require
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.held import own_run
from unmask.recipe import Source
from unmask.tasks import Row, Task

MOST = 2000  # rows that are looked at: more are drawn from


def rows_to_search(
    bundle: str, task: Task[Any, Any], path: Path | None
) -> tuple[Sequence[Row], list[str]]:
    """The rows, and what is to be said of them."""
    rows = _read(bundle, task, path)
    if len(rows) <= MOST:
        return [rows[i] for i in range(len(rows))], []
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), MOST, replace=False))
    said = f"neighbours were looked for in {MOST:,} of {len(rows):,} rows, drawn at random"
    return [rows[int(i)] for i in chosen], [said]


def _read(bundle: str, task: Task[Any, Any], path: Path | None) -> Rows:
    if path is not None:
        rows = read(Source(path=str(path)))
        require(rows, list(task.options.inputs))
        return rows
    run = own_run(Path(bundle)) if Path(bundle).is_dir() else None
    if run is None or task.name not in run.tasks:
        raise UserError(f"{bundle} has no recipe with rows of task {task.name}: name a --rows FILE")
    train = split_rows(task.name, run.tasks[task.name], run.train.seed).train
    if train is None:
        raise UserError(f"task {task.name}: its recipe has no training rows; name a --rows FILE")
    return train
