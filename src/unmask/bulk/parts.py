"""One part of a job: its rows to answers or vectors, equal ones made once, bad ones set aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from unmask import files
from unmask.batch import Example
from unmask.data.sources import Rows
from unmask.errors import UserError
from unmask.jobs import unseen
from unmask.model import Model
from unmask.progress import Advance
from unmask.tasks import Answer
from unmask.tasks.base import said_of

Made = TypeVar("Made")
NOT_FINITE = "what the model gives for it is not finite"


@dataclass(frozen=True)
class Part:
    """What is needed to make a part."""

    model: Model
    rows: Rows
    places: range
    plan: Mapping[str, Any]
    advance: Advance | None = None

    def each(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The part's rows with their places."""
        return ((place, self.rows[place]) for place in self.places)


def answer(part: Part, path: Path) -> dict[str, Any]:
    """Write the tasks' answers, a line a row; what the journal says of it comes back."""
    tasks = [part.model.task(name) for name in part.plan["tasks"]]
    options = dict(part.plan["options"])

    def prepared(place: int, row: Mapping[str, Any]) -> list[Example]:
        return [unseen(task, row, place) for task in tasks]

    def made(examples: Sequence[list[Example]], advance: Callable[[int], None]) -> list[Any]:
        jobs = (pair for own in examples for pair in zip(tasks, own, strict=True))
        found = iter(list(part.model.answers_to(jobs, options, advance)))
        return [[next(found) for _ in tasks] for _ in examples]

    def written(answers: list[Answer]) -> str:
        columns = {t.name: a.columns() for t, a in zip(tasks, answers, strict=True)}
        return json.dumps(columns, ensure_ascii=False, default=str, allow_nan=False)

    results = _once(part, prepared, made, len(tasks))
    lines: list[str] = []
    failed: list[tuple[int, str]] = []
    cut = 0
    columns: dict[str, dict[str, None]] = {task.name: {} for task in tasks}
    for place, found in zip(part.places, results, strict=True):
        line = "null"
        try:
            if isinstance(found, UserError):
                raise found
            line = written(found)
            cut += any(one.dropped for one in found)
            for task, one in zip(tasks, found, strict=True):
                columns[task.name] |= dict.fromkeys(one.columns())
        except UserError as error:
            failed.append((place, str(error)))
        except ValueError:  # of a number that JSON has no word for
            failed.append((place, f"row {place + 1}: {NOT_FINITE}"))
        lines.append(line)
    with files.new_file(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    named = {name: list(own) for name, own in columns.items()}
    return {"failed": failed, "cut": cut, "columns": named}


def embed(part: Part, path: Path) -> dict[str, Any]:
    """Write the vectors (rows, D), NaN where a row failed; what the journal says of it."""
    (column,) = part.plan["columns"]
    width = part.plan["width"] or part.model.encoder.config.hidden_size

    modality = part.plan["modality"]

    def prepared(place: int, row: Mapping[str, Any]) -> Example:
        with said_of(f"row {place + 1}"):
            if modality != "text":
                return part.model.pooled_example({modality: row[column]})
            if not isinstance(row[column], str):
                raise UserError(f"column {column!r} holds {row[column]!r} and no text")
            return part.model.pooled_example(row[column])

    def made(examples: Sequence[Example], advance: Callable[[int], None]) -> list[Any]:
        dropped = [example.sequences[0].dropped for example in examples]
        return list(zip(part.model.vectors(examples, advance, width), dropped, strict=True))

    results = _once(part, prepared, made, 1)
    table = np.full((len(part.places), width), np.nan, np.float32)
    failed: list[tuple[int, str]] = []
    cut = 0
    for i, found in enumerate(results):
        place = part.places[i]
        if isinstance(found, UserError):
            failed.append((place, str(found)))
        elif not torch.isfinite(found[0]).all():
            failed.append((place, f"row {place + 1}: {NOT_FINITE}"))
        else:
            table[i] = found[0].numpy()
            cut += found[1] > 0
    with files.new_file(path) as partial, partial.open("wb") as file:
        np.save(file, table, allow_pickle=False)
    return {"failed": failed, "cut": cut}


def _once(
    part: Part,
    prepared: Callable[[int, Mapping[str, Any]], Any],
    made: Callable[[Sequence[Any], Callable[[int], None]], list[Made]],
    times: int,
) -> list[Made | UserError]:
    """What is made of each row, or why nothing is; rows that are read alike are made once.

    Where making them together fails, they are made one by one, to know of which row it is.
    """
    columns = part.plan["columns"]
    keys: list[str] = []
    ready: dict[str, Any] = {}
    failed: dict[str, UserError] = {}
    for place, row in part.each():
        key = json.dumps([row.get(name) for name in columns], default=repr)
        keys.append(key)
        if key not in ready and key not in failed:
            try:
                ready[key] = prepared(place, row)
            except UserError as error:
                failed[key] = error
    said = 0.0

    def advance(count: int) -> None:
        nonlocal said
        said += count / times
        if part.advance:
            part.advance(count / times)

    results: dict[str, Made | UserError] = dict(failed)
    try:
        results |= zip(ready, made(list(ready.values()), advance), strict=True)
    except UserError:
        for key, one in ready.items():
            try:
                (results[key],) = made([one], lambda count: None)
            except UserError as error:
                results[key] = error
    if part.advance:
        part.advance(max(len(keys) - said, 0.0))
    return [results[key] for key in keys]
