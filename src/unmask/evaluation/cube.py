"""The cube: a task's headline score for each language, domain and modality, and where it is blind.

A cell is a combination of the tags' values that some held-out row has. It is zero-shot where no row
that the task was trained on has that combination.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unmask.data.duplicates import fold
from unmask.data.rows import Rows
from unmask.evaluation.scores import TAGS, Cell, Score, cell_in, in_order
from unmask.recipe import Column, TaskOptions
from unmask.tasks import Task

AXES = {"language": "languages", "domain": "domains", "modality": "modalities"}
Row = tuple[str, list[Mapping[str, Any] | None]]  # the name of a language, its cells by column


def cube_of(
    task: Task[Any, Any], split: str, cells: Sequence[Score], trained: Counter[Cell] | None
) -> dict[str, Any]:
    """A task's cells as plain data, each with how many `trained` rows it has (None: not known)."""
    records = []
    for cell in cells:
        place = (cell.language, cell.domain, cell.modality)
        count = None if trained is None else trained[place]
        zero_shot = None if count is None else count == 0
        records.append({**cell.record(), "trained": count, "zero_shot": zero_shot})
    axes = {
        axis: sorted({r[tag] for r in records}, key=lambda value: in_order([value]))
        for tag, axis in AXES.items()
    }
    return {"task": task.name, "split": split, "metric": task.headline, **axes, "cells": records}


def trained_cells(
    trained: TaskOptions | None, rows: Rows | None, scored: TaskOptions
) -> Counter[Cell] | None:
    """How many training rows each cell has, by the tags of the recipe that they were trained by.

    None where that cannot be known: the rows are gone, or that recipe lacks a tag by which the
    scores are told apart.
    """
    if trained is None or rows is None or not scored.tags.keys() <= trained.tags.keys():
        return None
    tags = {tag: trained.tags[tag] for tag in scored.tags}
    options = trained.model_copy(update={"tags": tags})
    columns = _distinct(tag.column for tag in tags.values() if isinstance(tag, Column))
    if len(options.inputs) > 1 and options.others and "modality" not in tags:
        columns = _distinct([*columns, *options.inputs])  # a row may lack some of them
    if not columns:  # all rows are one cell
        return Counter({cell_in({}, options): len(rows)})
    return Counter(
        cell_in(dict(zip(columns, values, strict=True)), options) for values in rows.values(columns)
    )


def spelt_alike(cells: Mapping[str, Iterable[Cell]]) -> list[str]:
    """What to say of values of a tag that differ only in case or space; `cells` are by task."""
    said: list[str] = []
    for place, tag in enumerate(TAGS):
        spellings: dict[str, dict[str, str]] = {}  # folded: {as it stands: in which task}
        for task, own in cells.items():
            for value in _distinct(cell[place] for cell in own):
                if value is not None:
                    spellings.setdefault(fold(value), {}).setdefault(value, task)
        for values in spellings.values():
            if len(values) > 1:
                named = " and ".join(f"{value!r} (task {task})" for value, task in values.items())
                said.append(f"{tag}: {named} differ only in case or space, and are told apart")
    return said


def table(cube: Mapping[str, Any], untagged: str, every: str) -> tuple[list[str], list[Row]]:
    """A cube with a row for each language and a column for each domain: names, and named rows.

    None stands for a cell without data. With several modalities each column is of one. `untagged`
    is the name of what has no value, and `every` that of a tag that no row has.
    """

    def name(value: str | None, axis: Sequence[str | None]) -> str:
        return (value or "").strip() or (every if len(axis) == 1 else untagged)

    columns = _distinct((cell["domain"], cell["modality"]) for cell in cube["cells"])
    columns.sort(key=in_order)
    known = {(c["language"], c["domain"], c["modality"]): c for c in cube["cells"]}
    names = [
        name(domain, cube["domains"])
        + (f" · {name(modality, cube['modalities'])}" if len(cube["modalities"]) > 1 else "")
        for domain, modality in columns
    ]
    rows = [
        (name(language, cube["languages"]), [known.get((language, *column)) for column in columns])
        for language in cube["languages"]
    ]
    return names, rows


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
