"""A bundle: a model as a folder of data, never code, with a hash for every file.

manifest.json       sha256 of every other file, verified on load
config.json         the encoder's shape, the longest sequence, the pooling
tasks.json          each task's options, labels and the like
model.safetensors   all weights
known.safetensors   what tells texts like those learnt from strange ones, if some task can
tokenizer.json      the tokenizer
recipe.yaml         what it was trained with, if unmask trained it
scores.json         what it scored
README.md           the model card
forms/…             the trunk as `unmask tune` compiled it for a machine, or early exits
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask import files
from unmask.encoder import Encoder, EncoderConfig, Pooling
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model, task_from_record
from unmask.tasks import Task
from unmask.tasks.known import fault

FORMAT = 1
MANIFEST = "manifest.json"
_NAME = r"([A-Za-z0-9][A-Za-z0-9._-]*/){0,2}[A-Za-z0-9][A-Za-z0-9._-]*"
KNOWN = "known.safetensors"
_NEEDED = ("config.json", "tasks.json", "model.safetensors", "tokenizer.json")


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle."""
    return (path / MANIFEST).is_file()


def save(
    model: Model,
    path: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    scores: list[dict[str, Any]] | None = None,
    card: str = "",
    weights: Mapping[str, Tensor] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a bundle whole or not at all; one that stands there is replaced in one step.

    `weights` are those of the model where it does not hold them whole itself; `beside` writes
    further files into the folder, hashed like the others.
    """
    if not is_bundle(path) and not files.empty_or_new(path):
        raise UserError(f"{path} exists and is no bundle: choose another folder or remove it")
    with files.new_folder(path) as folder:
        state = weights or model.state_dict()
        state = {name: t.detach().cpu().contiguous() for name, t in state.items()}
        save_file(state, folder / "model.safetensors")
        known = {
            f"{task}/{name}": tensor.cpu().contiguous()
            for task in model.tasks
            for name, tensor in model.fitted(task)[1].items()
        }
        if known:
            save_file(known, folder / KNOWN)
        config = {
            "format": FORMAT,
            "encoder": model.encoder.config.model_dump(),
            "max_length": model.text.max_length,
            "pooling": model.pooling and model.pooling.model_dump(),
        }
        files.write_json(folder / "config.json", config)
        files.write_json(folder / "tasks.json", model.task_records())
        model.text.save(folder / "tokenizer.json")
        if recipe is not None:
            text = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
            files.write_text(folder / "recipe.yaml", text)
        if scores is not None:
            files.write_json(folder / "scores.json", scores)
        if card:
            files.write_text(folder / "README.md", card)
        if beside is not None:
            beside(folder)
        _sign(folder)


def change(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` change what stands beside the weights of a bundle, whole or not at all."""
    verify(path)
    with files.new_folder(path) as folder:
        for name in files.read_json(path / MANIFEST)["sha256"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / name, folder / name)
        write(folder)
        _sign(folder)


def _sign(folder: Path) -> None:
    """Write the manifest of all that stands in a folder."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): files.sha256(file) for file in found}
    hashes.pop(MANIFEST, None)
    files.write_json(folder / MANIFEST, {"format": FORMAT, "sha256": hashes})


def load(path: Path) -> Model:
    """Read a bundle after checking every file against the manifest."""
    hashes = verify(path)
    config = files.read_json(path / "config.json")
    try:
        encoder = Encoder(EncoderConfig.model_validate(config["encoder"]))
        pooling = config["pooling"] and Pooling.model_validate(config["pooling"])
        length = int(config["max_length"])
        text = TextInput.read(path / "tokenizer.json", length)
        tasks = [task_from_record(r, text) for r in files.read_json(path / "tasks.json")]
        heads = {task.name: task.build(encoder) for task in tasks}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: its config is wrong or incomplete: {reason}") from None
    if twice := [name for name, n in Counter(task.name for task in tasks).items() if n > 1]:
        raise UserError(f"{path}/tasks.json: two tasks are called {twice[0]!r}; fetch it again")
    if length > encoder.config.max_positions:
        raise UserError(
            f"{path}/config.json: max_length {length} is over the encoder's "
            f"{encoder.config.max_positions} positions; the bundle was changed by hand"
        )
    model = Model(encoder, text, {task.name: task for task in tasks}, heads, pooling)
    try:
        state = load_file(path / "model.safetensors")
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}/model.safetensors does not fit its config: {reason}") from None
    if not all(torch.isfinite(tensor.sum()) for tensor in state.values()):
        raise UserError(f"{path}/model.safetensors holds weights that are not finite; refused")
    _load_known(path, KNOWN in hashes, tasks, encoder.config.hidden_size)
    return model


def _load_known(path: Path, there: bool, tasks: Sequence[Task[Any, Any]], width: int) -> None:
    """Give each task the tensors that stand beside its calibration."""
    try:
        found = load_file(path / KNOWN) if there else {}
    except SafetensorError as error:
        raise UserError(f"{path / KNOWN} cannot be read: {error}; fetch the bundle again") from None
    for task in tasks:
        own = {name: t for name, t in found.items() if name.startswith(f"{task.name}/")}
        task.tensors = {name.partition("/")[2]: tensor for name, tensor in own.items()}
        said = fault(task.calibration.get("known"), task.tensors, width)
        if said:
            raise UserError(f"{path / KNOWN} does not fit task {task.name}: {said}; refused")


def verify(path: Path) -> dict[str, str]:
    """The hashes in the manifest; a UserError names the first file that differs from its own."""
    manifest = files.read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version of unmask; convert it there")
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or not set(_NEEDED) <= set(hashes):
        raise UserError(f"{path / MANIFEST} lists no hashes; fetch the bundle again")
    for name, expected in hashes.items():
        if not re.fullmatch(_NAME, name):
            raise UserError(f"{path / MANIFEST} names {name!r}, outside its folder: refused")
        file = path / name
        if not file.is_file() or files.links_out(file, path):
            raise UserError(f"{file} is missing or leads out of its folder; fetch the bundle again")
        if files.sha256(file) != expected:
            raise UserError(f"{file} is not what the manifest says: changed or cut short; refused")
    return hashes
