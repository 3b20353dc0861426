"""From a task's microbatches to its loss and gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.batch import Batch
from unmask.model import Model
from unmask.tasks import Contrast, Task
from unmask.training import parallel
from unmask.training.processes import Processes


@dataclass(frozen=True)
class Part:
    """A microbatch as a grid on the model's device."""

    batch: Batch
    counted: bool  # False: a stand-in, computed so that all processes take the same steps

    def rows(self, table: Tensor) -> Tensor:
        """Of a tensor with a row for each of its sequences or examples, the rows that count."""
        return table if self.counted else table[:0]


def one_by_one(
    model: Model, task: Task[Any, Any], parts: Sequence[Part], targets: float, weight: float
) -> Tensor:
    """A task's loss, the sum over its parts, whose gradient times `weight` is added to `.grad`."""
    total = torch.zeros((), device=model.device)
    for part in parts:
        with model.autocast():
            outputs, batch = model(task, part.batch)
            loss = float(part.counted) * task.loss(outputs, batch) / targets
        torch.autograd.backward(loss * weight)
        total += loss.detach()
    return total


def all_together(
    model: Model,
    task: Contrast[Any, Any],
    parts: Sequence[Part],
    targets: float,
    weight: float,
    processes: Processes,
) -> Tensor:
    """The same for a loss that sets the examples of all parts and processes against one another.

    Gradient cache (Gao et al., arXiv:2101.06983): first the outputs of all parts, without what a
    backward pass needs; then the loss, and its gradient by the outputs; then each part again, to
    hand that gradient on to the weights. So the gradient is that of one large batch, in the memory
    of one part. A part draws the same random numbers each time; the last is computed only once.
    """
    seeds = torch.randint(2**62, (len(parts),)).tolist()  # they follow from the update's own

    def forward(number: int) -> tuple[dict[str, Tensor], Batch]:
        torch.manual_seed(seeds[number])
        with model.autocast():
            return model(task, parts[number].batch)

    last = len(parts) - 1
    outputs, truths = [], []
    for number, part in enumerate(parts):
        with torch.set_grad_enabled(number == last):
            found, batch = forward(number)
        outputs.append((found, part))
        truths.append((batch.truth, part))
    whole, places = parallel.gather(_joined(outputs), processes)
    truth, _ = parallel.gather(_joined(truths), processes)
    for tensor in whole.values():
        tensor.requires_grad_()
    loss = task.contrast(whole, truth) / targets
    gradients = torch.autograd.grad(loss * weight, list(whole.values()), materialize_grads=True)
    pieces = {
        name: torch.split(gradient[places[name]], [len(part.rows(o[name])) for o, part in outputs])
        for name, gradient in zip(whole, gradients, strict=True)
    }
    for number in range(last, -1, -1):
        found = outputs[last][0] if number == last else forward(number)[0]
        counted = parts[number].counted
        torch.autograd.backward(
            list(found.values()),
            [pieces[name][number] if counted else torch.zeros_like(t) for name, t in found.items()],
        )
    return loss.detach() if processes.first else torch.zeros_like(loss)


def _joined(tables: Sequence[tuple[Mapping[str, Tensor], Part]]) -> dict[str, Tensor]:
    """The counted rows of all parts, one below the other."""
    return {
        name: torch.cat([part.rows(table[name].detach()) for table, part in tables])
        for name in tables[0][0]
    }
