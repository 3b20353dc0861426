"""From a task's microbatches to its loss and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.batch import Batch
from unmask.model import Model
from unmask.tasks import Task


@dataclass(frozen=True)
class Part:
    """A microbatch as a grid on the model's device."""

    batch: Batch
    counted: bool  # False: a stand-in, computed so that all processes take the same steps


def one_by_one(
    model: Model, task: Task[Any, Any], parts: Sequence[Part], targets: float, weight: float
) -> Tensor:
    """A task's loss, the sum over its parts, whose gradient times `weight` is added to `.grad`."""
    total = torch.zeros((), device=model.device)
    for part in parts:
        with model.autocast():
            outputs, batch = model(task, part.batch)
            loss = float(part.counted) * task.loss(outputs, batch) / targets
        (loss * weight).backward()
        total += loss.detach()
    return total
