"""From the parts of a job to its output: a stream, whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from unmask import files
from unmask.data.sources import Rows
from unmask.tasks.cells import described

Parts = Sequence[tuple[range, Path]]  # the rows of each part, and its file
Said = Sequence[Mapping[str, Any]]  # what the journal says of each


def record(row: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row and the columns of its answers, by task.

    With several tasks, each column's name begins with its task's; and where the row has a column
    of that name, the answer's is `answer_…`.
    """
    found = dict(row)
    for task, columns in answers.items():
        for name, value in columns.items():
            own = f"{task}_{name}" if len(answers) > 1 else name
            found[f"answer_{own}" if own in row else own] = value
    return found


def join(
    rows: Rows, plan: Mapping[str, Any], parts: Parts, said: Said, output: Path, aside: Path
) -> None:
    """Write the output, and aside the rows that failed with the reasons."""
    failed = [(place, reason) for one in said for place, reason in one["failed"]]
    lines = ({"row": place + 1, "reason": reason, "input": rows[place]} for place, reason in failed)
    with files.new_file(aside) as partial:
        _write_lines(lines, partial)
    bad = {place for place, _ in failed}
    with files.new_file(output) as partial:
        if output.suffix == ".npy":
            _write_npy(parts, partial)
            return
        read = _vectors if plan["verb"] == "embed" else _answers
        groups = (read(rows, places, path, bad) for places, path in parts)
        if output.suffix == ".parquet":
            _write_parquet(rows, parts, read, bad, partial)
        elif output.suffix == ".csv":
            _write_csv(chain.from_iterable(groups), _columns(rows, said), partial)
        else:
            _write_lines(chain.from_iterable(groups), partial)


def _answers(rows: Rows, places: range, path: Path, failed: set[int]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for place, line in zip(places, lines, strict=True):
            if place not in failed:
                yield record(rows[place], json.loads(line))


def _vectors(rows: Rows, places: range, path: Path, failed: set[int]) -> Iterator[dict[str, Any]]:
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    for place, vector in zip(places, table, strict=True):
        if place not in failed:
            yield record(rows[place], {"": {"vector": vector.tolist()}})


def _columns(rows: Rows, said: Said) -> list[str]:
    """The columns of all records: those of the rows, then the answers' as they first came."""
    answers: dict[str, dict[str, None]] = {}
    for one in said:
        for task, columns in one["columns"].items():
            answers.setdefault(task, {}).update(dict.fromkeys(columns))
    return list(record(dict.fromkeys(rows.column_names), answers))


def _write_lines(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for one in records:
            shown = {key: outside(value) for key, value in one.items()}
            file.write(json.dumps(shown, ensure_ascii=False, default=str) + "\n")


def _write_csv(records: Iterable[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for one in records:
            writer.writerow({key: cell(value) for key, value in one.items()})


def cell(value: Any) -> Any:
    """What stands in a CSV's cell: nested values as JSON."""
    value = outside(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def outside(value: Any) -> Any:
    """A cell as a text file or a screen has room for it: of bytes, how many there are."""
    stored = isinstance(value, dict) and isinstance(value.get("bytes"), bytes)
    return described(value) if stored or isinstance(value, bytes) else value


def _write_parquet(rows: Rows, parts: Parts, read: Any, failed: set[int], path: Path) -> None:
    """A row group a part. The parts are gone through twice: first for the columns' types."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([])
    for places, file in parts:
        table = pa.Table.from_pylist(list(read(rows, places, file, failed)))
        schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
    fields = [_as_floats(pa, field) if read is _vectors else field for field in schema]
    schema = pa.schema(fields)
    with parquet.ParquetWriter(path, schema) as writer:
        for places, file in parts:
            found = list(read(rows, places, file, failed))
            if found:
                writer.write_table(pa.Table.from_pylist(found, schema=schema))


def _as_floats(pa: Any, field: Any) -> Any:
    """The vectors' column, in the precision that they have."""
    vectors = field.name in ("vector", "answer_vector") and pa.types.is_list(field.type)
    return pa.field(field.name, pa.list_(pa.float32())) if vectors else field


def _write_npy(parts: Parts, path: Path) -> None:
    """One array of all parts, whose header says how many rows will follow."""
    tables = (np.load(file, mmap_mode="r", allow_pickle=False) for _, file in parts)
    first = next(tables)
    rows = sum(len(places) for places, _ in parts)
    with path.open("wb") as file:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, first.shape[1])}
        np.lib.format.write_array_header_1_0(file, shape)
        for table in chain([first], tables):
            file.write(np.ascontiguousarray(table, "<f4").tobytes())
