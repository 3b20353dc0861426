"""The same model with another shape: its parts made anew, and given the weights that are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unmask.encoder import Encoder, EncoderConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model, task_from_record
from unmask.tasks import Task

State = dict[str, Tensor]


def tasks_of(model: Model, text: TextInput, same: bool = False) -> dict[str, Task[Any, Any]]:
    """The tasks of a model anew.

    What validation rows taught about its answers stays only where those are the `same`.
    """
    found = {}
    for record in model.task_records():
        name, calibration = record["name"], dict(record["calibration"])
        if not same:
            for key in ("known", "promises"):
                calibration.pop(key, None)
        found[name] = task_from_record({**record, "calibration": calibration}, text)
        found[name].tensors = dict(model.task(name).tensors) if same else {}
    return found


def rebuilt(
    model: Model,
    config: EncoderConfig,
    state: Mapping[str, Tensor],
    text: TextInput | None = None,
    heads: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Model:
    """A model of this shape with these weights; its tasks are the old one's.

    Heads have the old weights too, unless others are given. The old model stays as it was.
    """
    text = text or model.text
    encoder = Encoder(config)
    encoder.load_state_dict(state)
    tasks = tasks_of(model, text, same=text is not model.text)  # only tokens went
    built = {}
    for name, task in tasks.items():
        built[name] = task.build(encoder)
        try:
            built[name].load_state_dict((heads or {}).get(name, model.head(name).state_dict()))
        except RuntimeError:  # of a head whose own shape follows from the encoder's
            raise UserError(
                f"task {name}: a head of kind {task.kind} has parts that follow the encoder's "
                "shape, which would have to be learnt anew; shrink a bundle without this task"
            ) from None
    found = Model(encoder, text, tasks, built, model.pooling)
    found.precision = model.precision
    return found.to(model.device)
