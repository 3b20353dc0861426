"""A run's folder: whether there is room for it, what of it is done, and what is left over."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmask import bundle, files, recipe
from unmask.errors import UserError
from unmask.recipe import Run
from unmask.tasks import OPTIONS
from unmask.training import checkpoint

log = logging.getLogger("unmask")

_OURS = ("recipe.yaml", "bundle", "checkpoints", "metrics.jsonl", "scores.json")


def check_room(folder: Path, overwrite: bool, resume: bool = False) -> None:
    """Refuse a folder that holds something else, or a run that may not be replaced."""
    if overwrite and resume:
        raise UserError("--overwrite begins anew and --resume goes on: choose one of them")
    if files.empty_or_new(folder) or all(map(_left_over, folder.iterdir())):
        return
    if not (folder / "recipe.yaml").is_file() and not (folder / "stages").is_dir():
        raise UserError(f"{folder} exists and is no run folder: choose another with --out")
    if not overwrite and not resume:
        raise UserError(
            f"{folder} holds a run: choose another folder with --out, go on with it by --resume, "
            "or replace it with --overwrite"
        )


def clear(folder: Path) -> None:
    """An empty folder, whatever stood there; it goes in one step, so that no half of it is left."""
    with files.told_of_disk(folder):
        if folder.exists():
            files.remove(folder)
        folder.mkdir(parents=True)


def forget(place: Path) -> None:
    """Remove a stage's run that stood on a stage before it which has been trained anew since."""
    for name in _OURS:
        if (place / name).exists():
            files.remove(place / name)


def sweep(place: Path) -> None:
    """Remove what a killed process left of our files under temporary names."""
    for path in place.glob(".*"):
        if _left_over(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def finished(place: Path, run: Run, first: bool) -> bool:
    """Whether the folder's bundle is the end of this very run."""
    path = place / "bundle" / "recipe.yaml"
    if not bundle.is_bundle(place / "bundle") or not path.is_file():
        return False
    return not list(_changes(_comparable(path, run, first), run.dump()))


def tidy(place: Path) -> None:
    """What is left to do once the bundle is written."""
    scores = files.read_json(place / "bundle" / "scores.json")
    files.write_json(place / "scores.json", scores)
    checkpoint.keep_newest(place / "checkpoints")
    sweep(place)


def check_recipe(place: Path, run: Run, force: bool, first: bool) -> None:
    """Say that the folder's recipe is another, and refuse it unless forced.

    `first` is false for a stage whose encoder comes from the one before it.
    """
    if not (place / "recipe.yaml").is_file():
        return
    changes = list(_changes(_comparable(place / "recipe.yaml", run, first), run.dump()))
    if not changes:
        return
    said = f"{place} holds a run of another recipe ({'; '.join(changes[:5])})"
    if not force:
        raise UserError(f"{said}: choose another folder with --out, or go on with --force")
    if any(change.startswith("encoder.") for change in changes):
        raise UserError(f"{said}: a run's encoder stays what it is; choose another folder")
    log.warning("%s; going on all the same", said)


def _comparable(path: Path, run: Run, first: bool) -> dict[str, Any]:
    """The recipe that stands there; options that came after it are at their defaults."""
    old = recipe.read(path)
    if not first:  # it starts from the stage before it, wherever that lies now
        old["encoder"] = run.dump()["encoder"]
    try:
        return next(iter(recipe.parse(old, OPTIONS).values())).dump()
    except UserError:  # it has options that are gone
        return old


def _changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        if name == "tasks" and old.keys() == new.keys() and list(old) != list(new):
            yield f"tasks: in the order {', '.join(old)} there, {', '.join(new)} here"
    elif old != new:
        yield f"{name}: {old} there, {new} here"


def _left_over(path: Path) -> bool:
    """Whether this is a temporary name of ours, and not the only copy of what it was to replace."""
    found = re.fullmatch(r"\.(.+)\.([a-z0-9_]{8}|replaced)", path.name)
    if not found or found[1] not in _OURS:
        return False
    return found[2] != "replaced" or path.with_name(found[1]).exists()
