"""Early exits as a form of a model: what a bundle keeps of them, and a model that has them.

forms/torch-exits/exits.json          the task, and of each exit its layer and its temperature
forms/torch-exits/exits.safetensors   the heads
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unmask import files
from unmask.encoder import Exits, LabelHead
from unmask.errors import UserError
from unmask.model import Model

EXITS = "torch-exits"
_SHAPE, _WEIGHTS = "exits.json", "exits.safetensors"
GONE = "\nThe early exits that stand above are not in it any more: all layers are computed.\n"


def has_exits(bundle: Path) -> bool:
    """Whether a bundle holds early exits."""
    return (bundle / "forms" / EXITS).is_dir()


def save(exits: Exits, task: str, folder: Path) -> None:
    """Write the exits of a task into a form's folder."""
    state = {
        f"{layer}.{name}": tensor.detach().cpu().contiguous()
        for layer, head in exits.heads.items()
        for name, tensor in head.state_dict().items()
    }
    save_file(state, folder / _WEIGHTS)
    temperatures = {str(layer): value for layer, value in exits.temperatures.items()}
    shape = {"task": task, "temperatures": temperatures, "limit": exits.limit}
    files.write_json(folder / _SHAPE, shape)


def put_exits(model: Model, folder: Path) -> None:
    """Let a model answer as early as the exits in a form's folder allow.

    A UserError where they do not fit the model.
    """
    shape = files.read_json(folder / _SHAPE)
    try:
        task, limit = model.tasks[shape["task"]], float(shape["limit"])
        temperatures = {int(layer): float(t) for layer, t in shape["temperatures"].items()}
        state = load_file(folder / _WEIGHTS)
        heads = {}
        for layer in temperatures:
            head = task.build(model.encoder)
            assert isinstance(head, LabelHead)
            own = {k: v for k, v in state.items() if k.startswith(f"{layer}.")}
            head.load_state_dict({k.partition(".")[2]: v for k, v in own.items()})
            heads[layer] = head.eval()
    except (
        AssertionError,
        AttributeError,
        KeyError,
        RuntimeError,
        SafetensorError,
        TypeError,
        ValueError,
    ):
        raise UserError(
            f"{folder} holds no exits of this model; shrink it again, or load it with form=False"
        ) from None
    finite = all(torch.isfinite(tensor.sum()) for tensor in state.values())
    if not finite or not all(t > 0 for t in temperatures.values()):
        raise UserError(f"{folder} holds numbers that are not finite, or no temperature; refused")
    model.exits = {task.name: Exits(heads, temperatures, limit)}
