"""Rows in and answers out, for the commands that read and write files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from torch import Tensor

from unmask import files
from unmask.bulk.job import Found, run
from unmask.bulk.joining import cell, outside, record
from unmask.cli.corpus import Engine
from unmask.data.sources import read, require
from unmask.errors import UserError
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Source
from unmask.runtime.stored import load
from unmask.tasks import Answer


def open_model(source: str) -> Model:
    """Load a model, to compute with all the processors there are."""
    use_available_cpus()
    return load(source)


def only_task(model: Model) -> str:
    """The name of a model's one task; a UserError when there is a choice to make."""
    if len(model.tasks) != 1:
        names = ", ".join(model.tasks) or "none: it is a bare encoder"
        raise UserError(f"say which task with --task; the model's tasks: {names}")
    return next(iter(model.tasks))


def read_rows(
    texts: Sequence[str] | None, path: Path | None, inputs: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Rows of a file with the input columns of each task, or one a text in all of them."""
    if (path is None) == (not texts):
        raise UserError("give either texts (or pictures, or recordings) or --input FILE")
    if path is not None:
        rows = read(Source(path=str(path)))
        require(rows, list(dict.fromkeys(column for columns in inputs for column in columns)))
        return [dict(rows[i]) for i in range(len(rows))]
    given = texts or ()
    widths = {len(columns) for columns in inputs}
    if len(widths) > 1:
        raise UserError("these tasks read different numbers of texts; ask them one at a time")
    if widths == {1}:
        return [{columns[0]: text for columns in inputs} for text in given]
    columns = inputs[0]
    if {len(given)} != widths:
        raise UserError(f"this task reads {len(columns)} texts together: {', '.join(columns)}")
    return [{n: text for own in inputs for n, text in zip(own, given, strict=True)}]


def read_options(given: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs, whose values are read as YAML."""
    found: dict[str, Any] = {}
    for one in given or ():
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise UserError(f"--option {one!r}: write KEY=VALUE, such as beams=4")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--option {one!r}: the value is not readable YAML") from None
    return found


def texts_of(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """A column's texts; a UserError names the first row that has none."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row[column], str):
            raise UserError(f"row {number}: column {column!r} holds {row[column]!r} and no text")
    return [row[column] for row in rows]


def bulk(
    verb: Literal["predict", "embed"],
    source: str,
    model: Model,
    input: Path,
    output: Path,
    asked: Mapping[str, Any],
    engine: Engine,
    workers: int,
    part: int,
) -> Found:
    """Answer a file into a file, with a model that is open already."""
    return run(verb, source, input, output, asked, engine.value, workers, part, model)


def beside(row: Mapping[str, Any], answers: Mapping[str, Answer]) -> dict[str, Any]:
    """A row and the columns of its answers, by task."""
    shown = {name: outside(value) for name, value in row.items()}
    return record(shown, {task: answer.columns() for task, answer in answers.items()})


def check_output(path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that cannot be written, before any work is done for it."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise UserError(f"{path}: the output is {' or '.join(suffixes)}")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{path}: {folder} cannot be written to; choose another folder")


def write_rows(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Records as CSV (nested values as JSON), JSONL or Parquet, whole or not at all."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        with files.new_file(path) as partial:
            parquet.write_table(pa.Table.from_pylist([dict(one) for one in records]), partial)
        return
    with files.new_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for one in records:
                file.write(json.dumps(one, ensure_ascii=False, default=str) + "\n")
        else:
            writer = csv.DictWriter(file, list(records[0]) if records else [])
            writer.writeheader()
            for one in records:
                writer.writerow({k: cell(v) for k, v in one.items()})


def write_vectors(rows: Sequence[Mapping[str, Any]], vectors: Tensor, path: Path) -> None:
    """Vectors as a NumPy array (n, D) or as JSONL beside their rows."""
    if path.suffix == ".npy":
        with files.new_file(path) as partial, partial.open("wb") as file:
            np.save(file, vectors.numpy(), allow_pickle=False)
    else:
        records = zip(rows, vectors.tolist(), strict=True)
        write_rows([{**row, "vector": vector} for row, vector in records], path)
