"""Several bundles of one recipe, each trained with a seed of its own: are they, and their means."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from unmask.bundle import verify
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.held import own_run, rows_of
from unmask.evaluation.scores import TAGS
from unmask.files import read_json
from unmask.tokens import Tokens

log = logging.getLogger("unmask")

_Records = Sequence[Mapping[str, Any]]
_OF_THE_FIRST = (
    "scores are means over {} bundles with their standard deviation; confusion, calibration, "
    "doubt, repeated rows and worst errors are those of {}"
)


def check_alike(folders: Sequence[Path], recipe_path: Path | None) -> list[str]:
    """Refuse bundles that are not of the same tasks and held-out rows; the line names what differs.

    Of a task with test rows only those must be the same: `valid` rows may be drawn by each seed.
    What comes back is said of recipes that differ, but for the seed.
    """
    for one, other in combinations(folders, 2):
        if one.resolve() == other.resolve():
            raise UserError(f"{one} is given twice: a spread is over bundles of several seeds")
    first, *others = folders
    known = _kinds(first)
    for other in others:
        if (kinds := _kinds(other)) != known:
            said = (", ".join(f"{n} ({k})" for n, k in own.items()) for own in (known, kinds))
            raise UserError(
                "bundles to be scored together have the same tasks: {1} has {3}, and {0} has {2}"
                .format(first, other, *said)
            )  # fmt: skip
    if recipe_path is None:  # else the rows are that one's
        rows = _held(first)
        for other in others:
            _check_rows(first, rows, other, _held(other))
    return list(_doubts(folders))


def over_seeds(results: Sequence[dict[str, Any]], doubts: Sequence[str]) -> dict[str, Any]:
    """One result of several: figures are means, with `sd` and the `values` of each bundle.

    `doubts` are what `check_alike` found. What is no figure is the first one's, and of a task that
    has test rows only their scores are kept.
    """
    first = results[0]
    tested = {(task["task"], task["split"]) for task in first["tasks"]}
    names = [one["bundle"] for one in results]
    shared = [n for n in first["notes"] if all(n in one["notes"] for one in results)]
    own = [f"{one['bundle']}: {n}" for one in results for n in one["notes"] if n not in shared]
    notes = [_OF_THE_FIRST.format(len(results), names[0]), *doubts]
    for note in notes:
        log.warning("%s", note)
    return {
        **first,
        "bundles": [bundle for one in results for bundle in one["bundles"]],
        "notes": [*notes, *shared, *own],
        "scores": [
            score
            for score in _means([one["scores"] for one in results])
            if (score["task"], score["split"]) in tested
        ],
        "cube": [
            _mean_cube(cubes)
            for cube in first["cube"]
            if len(cubes := [c for o in results for c in o["cube"] if c["task"] == cube["task"]])
            == len(results)  # else one of them had nothing to score
        ],
    }


def _mean_cube(cubes: _Records) -> dict[str, Any]:
    """One cube of several; a cell is zero-shot where it is so for every bundle."""
    metrics = {cube["metric"] for cube in cubes}
    if len(metrics) > 1:
        raise UserError(
            f"task {cubes[0]['task']}: the bundles are judged by {' and '.join(sorted(metrics))}; "
            "give such as have one recipe"
        )
    cells = _means([cube["cells"] for cube in cubes])
    trained = [{_place(cell): cell["trained"] for cell in cube["cells"]} for cube in cubes]
    for cell in cells:  # the same rows, but not each vocabulary finds something to score in all
        counts = [own[_place(cell)] for own in trained]
        known = None if None in counts else max(counts)
        cell["trained"], cell["zero_shot"] = known, None if known is None else known == 0
    return {**cubes[0], "cells": cells}


def _means(results: Sequence[_Records]) -> list[dict[str, Any]]:
    """The records that all results have, each with its mean in place of its value."""
    by_place = [{_place(record): record for record in records} for records in results]
    return [
        _mean([own[place] for own in by_place])
        for place in by_place[0]
        if all(place in own for own in by_place)
    ]


def _place(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[key] for key in ("task", "split", "metric", *TAGS))


def _mean(records: _Records) -> dict[str, Any]:
    kept = {k: v for k, v in records[0].items() if k not in ("low", "high", "resamples")}
    values = [record["value"] for record in records]
    if None in values:
        reason = next(record["reason"] for record in records if record["value"] is None)
        return {**kept, "value": None, "reason": reason}
    return {
        **kept,
        "value": statistics.fmean(values),
        "sd": statistics.stdev(values),
        "values": values,
    }


def _kinds(folder: Path) -> dict[str, str]:
    """A bundle's tasks, by name."""
    verify(folder)
    return {task["name"]: task["options"]["kind"] for task in read_json(folder / "tasks.json")}


class _Held(NamedTuple):
    split: str
    rows: Rows
    tags: Mapping[str, Any]


def _held(folder: Path) -> dict[str, _Held]:
    """The rows that each task of a bundle is looked at by."""
    run = own_run(folder)
    if run is None:
        raise UserError(f"{folder} was not trained by a recipe: say which rows with --recipe")
    found: dict[str, _Held] = {}
    for name, options in run.tasks.items():
        splits, _ = rows_of(name, options, run.train.seed)
        for split in ("test", "valid"):
            rows: Rows | None = getattr(splits, split)
            if rows is not None:
                found.setdefault(name, _Held(split, rows, options.tags))
    return found


def _check_rows(
    first: Path, ours: Mapping[str, _Held], other: Path, theirs: Mapping[str, _Held]
) -> None:
    for name in {**ours, **theirs}:
        if (name in ours) != (name in theirs):
            where = first if name in ours else other
            raise UserError(f"task {name}: only {where} has held-out rows; give both the same")
        one, another = ours[name], theirs[name]
        if one.split != another.split:
            raise UserError(
                f"task {name}: {first} is scored on {one.split} rows and {other} on "
                f"{another.split} rows; give one recipe for all with --recipe"
            )
        if one.tags != another.tags:
            raise UserError(
                f"task {name}: the tags of {first} and {other} differ; give one recipe for all "
                "with --recipe"
            )
        if found := difference(one.rows, another.rows):
            raise UserError(
                f"task {name}, {one.split}: the rows of {first} and {other} differ ({found}); a "
                "share is drawn by the seed, so name a file in `test`, or one recipe for all with "
                "--recipe"
            )


def difference(ours: Rows, theirs: Rows) -> str | None:
    """How two splits differ, or None."""
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} of them"
    pairs = zip(_digests(ours), _digests(theirs), strict=True)
    place = next((i for i, (one, other) in enumerate(pairs, 1) if one != other), None)
    return None if place is None else f"first in row {place} of {len(ours)}"


def _digests(rows: Rows) -> Iterator[bytes]:
    columns = sorted(rows.column_names)
    for cells in rows.values(columns):
        said = [c.ids.tolist() if isinstance(c, Tokens) else c for c in cells]
        text = json.dumps([columns, said], ensure_ascii=False, default=repr)
        yield blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _doubts(folders: Sequence[Path]) -> Iterator[str]:
    """What makes one doubt that the bundles differ by their seeds alone."""
    recipes = {folder: run.dump() for folder in folders if (run := own_run(folder)) is not None}
    for (one, ours), (other, theirs) in combinations(recipes.items(), 2):
        different = [key for key in _differing(ours, theirs) if key not in _PLACES]
        if "train.seed" not in different:
            seed = ours["train"]["seed"]
            yield f"{one} and {other} were both trained with seed {seed}: {_NOT_CHANCE}"
        elif len(different) > 1:
            keys = ", ".join(key for key in different if key != "train.seed")
            yield f"the recipes of {one} and {other} differ in {keys} too: {_NOT_CHANCE}"


_PLACES = ("encoder.from", "encoder.tokenizer")  # a stage starts from that seed's own stage
_NOT_CHANCE = "the spread may not be that of training"


def _differing(one: Any, other: Any, name: str = "") -> list[str]:
    """The keys by which two recipes differ, with dots."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return [] if one == other else [name]
    found = []
    for key in {**one, **other}:
        found += _differing(one.get(key), other.get(key), f"{name}.{key}" if name else str(key))
    return found
