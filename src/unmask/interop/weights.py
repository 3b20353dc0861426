"""Reading and writing safetensors files, which hold numbers and nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unmask.errors import UserError
from unmask.interop.folder import Folder

_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_HEADER_LIMIT = 8 * 2**20
_TENSOR_LIMIT = 20_000
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_BUFFERS = ("position_ids", "token_type_ids")  # numbered positions, which older versions saved


def read_weights(folder: Folder) -> dict[str, Tensor]:
    """All weights of a folder as float32, by their names there."""
    if folder.has(_FILE):
        return _read(folder, _FILE)
    if not folder.has(_INDEX):
        raise UserError(_missing(folder))
    places = folder.json(_INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise UserError(f"{folder.path / _INDEX} names no files under weight_map; fetch it again")
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        weights |= _read(folder, shard)
    lost = sorted(key for key in places if key not in weights and not key.endswith(_BUFFERS))
    if lost:
        raise UserError(f"{folder.path / places[lost[0]]} lacks {lost[0]}, which {_INDEX} promises")
    return weights


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write one safetensors file into the folder `path`."""
    whole = {key: value.detach().cpu().clone() for key, value in weights.items()}
    save_file(whole, path / _FILE, metadata={"format": "pt"})


def checked(weight: Tensor, key: str, path: Path) -> Tensor:
    """A weight as float32, a copy; refused where it is of another type, or no finite number."""
    if weight.dtype not in _FLOATS:
        raise UserError(
            f"{key} in {path} is {weight.dtype}; save it as float32, float16 or bfloat16"
        )
    weight = weight.to(torch.float32, copy=True)  # a copy, for the file may change under a mapping
    # One infinity or NaN spoils the sum, which is far cheaper than a look at each number.
    if not weight.sum().isfinite() and not weight.isfinite().all():
        raise UserError(
            f"{key} in {path} holds NaN or infinity; the model is spoilt, fetch it again"
        )
    return weight


def _read(folder: Folder, name: str) -> dict[str, Tensor]:
    path = folder.file(name, limit=None)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if _HEADER_LIMIT < header <= path.stat().st_size:
        raise UserError(f"{path} has a header of {header >> 20} MB, over the limit of 8 MB")
    weights = {}
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if not key.endswith(_BUFFERS)]  # noqa: SIM118
            if len(keys) > _TENSOR_LIMIT:
                raise UserError(f"{path} holds {len(keys)} tensors, over the limit of 20000")
            for key in keys:
                weights[key] = checked(file.get_tensor(key), key, path)
    except SafetensorError as error:
        raise UserError(f"{path} is broken or cut short ({error}); fetch it again") from None
    return weights


def _missing(folder: Folder) -> str:
    pickled = sorted(
        file.name
        for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt")
        for file in folder.path.glob(kind)
    )
    if pickled:
        return (
            f"{folder.path} has its weights only in {pickled[0]}, a pickle, which could run code "
            "and is never opened; convert it where you trust it: in transformers, "
            "AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    return f"{folder.path} has no {_FILE} (nor {_INDEX}); is the folder complete?"
