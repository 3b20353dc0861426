"""From a model to another library's folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from unmask import files
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.interop import (
    Checkpoint,
    write_checkpoint,
    write_sentence_transformers,
    write_tensorflow,
)
from unmask.model import Model
from unmask.tasks.calibration import calibrated
from unmask.tasks.classify import Classify
from unmask.tasks.embed import Embed
from unmask.tasks.rerank import Rerank
from unmask.tasks.tag import Tag


def save_as(model: Model, path: str | Path, format: str, task: str | None = None) -> None:
    """Write a model's encoder as `huggingface`, `sentence-transformers` or `tensorflow`.

    With the head of one task: of any in the first, of none in the second, of `mlm` in the third.
    """
    folder = Path(path)
    if not files.empty_or_new(folder):
        raise UserError(f"{folder} exists and is not empty: choose another folder or remove it")
    if format == "sentence-transformers":
        write_sentence_transformers(to_checkpoint(model, None), folder)
        return
    fitting = [n for n, t in model.tasks.items() if format != "tensorflow" or t.kind == "mlm"]
    if task is None and len(fitting) > 1:
        raise UserError(f"say which head with --task; there are: {', '.join(fitting)}")
    found = to_checkpoint(model, task or next(iter(fitting), None))
    write = write_tensorflow if format == "tensorflow" else write_checkpoint
    write(found, folder)


def to_checkpoint(model: Model, name: str | None) -> Checkpoint:
    """The encoder, with the head of one task."""
    encoder = _with_adapter(model.encoder, name and model.task(name).options.adapter)
    found = Checkpoint(
        config=encoder.config,
        encoder=encoder,
        text=model.text,
        pooling=model.how_to_pool,
    )
    if name is not None:
        task = model.task(name)
        if isinstance(task, Embed):
            return found  # its vectors are the encoder's own
        if isinstance(task, Rerank):  # there, a classifier of one label
            found.heads = {"classify": model.head(name)}
            found.labels = ("LABEL_0",)
            found.head_configs = {"classify": task.head}
            return found
        found.heads = {task.kind: model.head(name)}
        if isinstance(task, Classify | Tag):
            found.labels = tuple(task.labels)
        if isinstance(task, Classify):
            found.heads = {task.kind: _calibrated(model.head(name), task.calibration)}
            found.multi_label = task.options.multi_label
        head = getattr(task, "head", None)  # of the kinds that have a choice of heads
        if head is not None:
            found.head_configs = {task.kind: head}
    return found


def _calibrated(head: nn.Module, calibration: Mapping[str, Any]) -> nn.Module:
    """The head with its calibration in the output layer, where other libraries have room for it."""
    found = copy.deepcopy(head)
    output = cast(nn.Linear, found.output)
    with torch.no_grad():
        shift = calibrated(torch.zeros_like(output.bias), calibration)
        scale = calibrated(torch.ones_like(output.bias), calibration) - shift
        output.weight *= scale[:, None]
        output.bias.copy_(calibrated(output.bias, calibration))
    return found


def _with_adapter(encoder: Encoder, adapter: str | None) -> Encoder:
    """The encoder as it is through an adapter, or through none, without the adapters."""
    if not encoder.config.adapters:
        return encoder
    whole = copy.deepcopy(encoder)
    if adapter is not None:
        whole.merge(adapter)
    plain = Encoder(encoder.config.model_copy(update={"adapters": {}}))
    plain.load_state_dict({name: whole.state_dict()[name] for name in plain.state_dict()})
    return plain.eval()
