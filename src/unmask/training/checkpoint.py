"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is a bundle with two files beside the model's: `optimiser.safetensors` and
`state.json`, which holds what the run has used of its budget and its place in the data. There is
no random state: what is random follows from the seed, the step and the row. The manifest has a
hash of every file.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask import bundle, files
from unmask.errors import UserError
from unmask.model import Model
from unmask.training.optimiser import Optimiser
from unmask.training.parallel import whole
from unmask.training.processes import Processes

log = logging.getLogger("unmask")

BEST = "best"  # the bundle with the highest validation scores
_KEPT = 2  # should the newest be broken, there is one before it
_MOMENTS, _STATE = "optimiser.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back, its files as the manifest says."""

    path: Path
    model: Model
    moments: dict[str, Tensor]
    state: dict[str, Any]


def save(
    folder: Path,
    step: int,
    model: Model,
    optimiser: Optimiser,
    state: Mapping[str, Any],
    processes: Processes,
) -> Path:
    """Write `folder/step-…` whole or not at all, and let go of the third newest.

    All processes call this: sharded weights are gathered, and the first process writes.
    """
    weights = whole(model.state_dict().items(), processes)
    moments = whole(optimiser.tensors(), processes)
    path = folder / f"step-{step:09d}"
    if not processes.first:
        return path

    def beside(path: Path) -> None:
        save_file(moments, path / _MOMENTS)
        files.write_json(path / _STATE, state)

    _save_bundle(model, path, weights, beside)
    found = _newest_first(folder)
    place = found.index(path)
    _keep(folder, found[place : place + _KEPT])  # those after it were passed over
    return path


def save_best(folder: Path, model: Model, processes: Processes) -> None:
    """Write `folder/best`, a bundle alone; all processes call this."""
    weights = whole(model.state_dict().items(), processes)
    if processes.first:
        _save_bundle(model, folder / BEST, weights)


def best_hash(folder: Path) -> str | None:
    """A name for the very bundle `folder/best`; None if there is none that is whole."""
    try:
        bundle.verify(folder / BEST)
    except UserError:
        return None
    return files.sha256(folder / BEST / bundle.MANIFEST)


def keep_newest(folder: Path) -> None:
    """Let go of all but the newest: the run is over, and may still be given a larger budget."""
    _keep(folder, _newest_first(folder)[:1])


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none.

    One that was cut short or changed is passed over, and said; a UserError if all of them are.
    """
    found = _newest_first(folder)
    for path in found:
        try:
            model = bundle.load(path)
            state = files.read_json(path / _STATE)
            if not (path / _MOMENTS).is_file():
                raise UserError(f"{path / _MOMENTS} is missing: is the folder complete?")
            return Checkpoint(path, model, load_file(path / _MOMENTS), state)
        except UserError as error:
            log.warning("%s; this checkpoint is passed over", error)
    if found:
        raise UserError(
            f"no checkpoint in {folder} is whole: bring one back, or begin anew with --overwrite"
        )
    return None


def _newest_first(folder: Path) -> list[Path]:
    own = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{9}", path.name)]
    return sorted(own, reverse=True)


def _save_bundle(
    model: Model,
    path: Path,
    weights: dict[str, Tensor],
    beside: Callable[[Path], None] | None = None,
) -> None:
    with files.told_of_disk(path):
        if path.exists() and not bundle.is_bundle(path):
            files.remove(path)  # broken: its manifest is gone
    bundle.save(model, path, weights=weights, beside=beside)


def _keep(folder: Path, kept: Sequence[Path]) -> None:
    """Remove the other checkpoints, and what killed processes left half-written."""
    with files.told_of_disk(folder):
        for path in _newest_first(folder):
            if path not in kept:
                files.remove(path)
        for path in folder.glob(".*"):
            if re.fullmatch(rf"\.(step-\d{{9}}|{BEST})\.([a-z0-9_]{{8}}|replaced)", path.name):
                shutil.rmtree(path, ignore_errors=True)
