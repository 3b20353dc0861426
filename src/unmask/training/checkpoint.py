"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is a bundle with two files beside the model's: `optimiser.safetensors` and
`state.json`, which holds what the run has used of its budget and its place in the data. There is
no random state: what is random follows from the seed, the step and the row. The manifest has a
hash of every file.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
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
    weights = whole(model.state_dict().items())
    moments = whole(optimiser.state().items())
    path = folder / f"step-{step:09d}"
    if not processes.first:
        return path

    def beside(path: Path) -> None:
        save_file(moments, path / _MOMENTS)
        files.write_json(path / _STATE, state)

    bundle.save(model, path, weights=weights, beside=beside)
    found = _newest_first(folder)
    place = found.index(path)
    _remove(found[:place] + found[place + _KEPT :])  # those after it were passed over
    files.sweep(folder)
    return path


def keep_newest(folder: Path) -> None:
    """Let go of all but the newest: the run is over, and may still be given a larger budget."""
    _remove(_newest_first(folder)[1:])


def _remove(checkpoints: Iterable[Path]) -> None:
    for path in checkpoints:
        aside = path.with_name(f".{path.name}.replaced")
        path.replace(aside)  # so that a half-removed one is never taken for a checkpoint
        shutil.rmtree(aside, ignore_errors=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none.

    One that was cut short or changed is passed over, and said.
    """
    for path in _newest_first(folder):
        try:
            model = bundle.load(path)
            state = files.read_json(path / _STATE)
            if not (path / _MOMENTS).is_file():
                raise UserError(f"{path / _MOMENTS} is missing: is the folder complete?")
            return Checkpoint(path, model, load_file(path / _MOMENTS), state)
        except UserError as error:
            log.warning("%s; this checkpoint is passed over", error)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)
