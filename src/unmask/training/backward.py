"""From a task's microbatches to its loss and gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.batch import Batch
from unmask.encoder import Hidden
from unmask.model import Model
from unmask.recipe import TrainOptions
from unmask.tasks import Contrast, Task
from unmask.training import parallel
from unmask.training.processes import Processes
from unmask.training.teacher import Teacher


@dataclass(frozen=True)
class Part:
    """A microbatch as a grid on the model's device."""

    batch: Batch
    counted: bool  # False: a stand-in, computed so that all processes take the same steps
    hidden: Hidden | None = None  # where it is known already

    def share(self, member: Member) -> float:
        """What its summed loss is multiplied by, to be its part of the update's mean."""
        return float(self.counted) / max(member.targets, 1)

    def rows(self, table: Tensor) -> Tensor:
        """Of a tensor with a row for each of its sequences or examples, the rows that count."""
        return table if self.counted else table[:0]


@dataclass(frozen=True)
class Member:
    """What an update has of one task."""

    task: Task[Any, Any]
    parts: Sequence[Part]
    targets: float  # of all processes
    weight: float  # of its mean loss in the gradient
    teacher: Teacher | None = None


def one_by_one(model: Model, members: Sequence[Member], options: TrainOptions) -> list[Tensor]:
    """The tasks' losses, each the sum over its parts; their weighted gradient is added to `.grad`.

    Several members have the same sequences, part for part, and share each pass. Teachers, and
    regularisers that the options ask for, are in the gradient and not in the losses; regularisers
    are for members on their own.
    """
    totals = [torch.zeros((), device=model.device) for _ in members]
    for parts in zip(*(member.parts for member in members), strict=True):
        if len(members) == 1:
            loss, gradient_of = _alone(model, members[0], parts[0], options)
            losses = [loss]
        else:
            with model.autocast():
                batches = [part.batch for part in parts]
                found = model.shared_outputs([member.task for member in members], batches)
                both = [
                    _loss(member, part, outputs, part.batch)
                    for member, outputs, part in zip(members, found, parts, strict=True)
                ]
            losses = [loss for loss, _ in both]
            weighted = [own * m.weight for (_, own), m in zip(both, members, strict=True)]
            gradient_of = torch.stack(weighted).sum()
        torch.autograd.backward(gradient_of)
        totals = [total + loss.detach() for total, loss in zip(totals, losses, strict=True)]
    return totals


def _alone(
    model: Model, member: Member, part: Part, options: TrainOptions
) -> tuple[Tensor, Tensor]:
    """The loss of one task's part, and what the gradient is to be taken of."""
    task = member.task
    shift = _no_shift(model, part.batch) if options.adversarial else None
    with model.autocast():
        outputs, batch = model(task, part.batch, part.hidden, shift)
        loss, own = _loss(member, part, outputs, batch)
        if options.r_drop:  # (Liang et al., arXiv:2106.14448)
            others, again = model(task, part.batch, part.hidden)
            own = (own + _loss(member, part, others, again)[1]) / 2
            apart = task.divergence(outputs, others) * part.share(member)
            own = own + options.r_drop * apart
    if shift is None:
        return loss, own * member.weight
    torch.autograd.backward(own * member.weight)
    worst = _steepest(shift, part.batch, options.adversarial)
    with model.autocast():
        outputs, batch = model(task, part.batch, part.hidden, worst)
        return loss, _loss(member, part, outputs, batch)[1] * member.weight


def _loss(
    member: Member, part: Part, outputs: dict[str, Tensor], batch: Batch
) -> tuple[Tensor, Tensor]:
    """The loss of a part, and the same with what a teacher says."""
    task, teacher, share = member.task, member.teacher, part.share(member)
    loss = task.loss(outputs, batch) * share
    if teacher is None:
        return loss, loss
    far = task.imitate(outputs, teacher.task, teacher.outputs(batch), batch) * share
    if task.inward:  # there is no truth: the distance is what it has to report
        return far, far
    return loss, teacher.mixed(loss, far)


def _no_shift(model: Model, batch: Batch) -> Tensor:
    """Zeros (B, T, D) to add to the embeddings: their gradient is that of the embeddings."""
    size = (*batch.shape, model.encoder.config.hidden_size)
    return torch.zeros(size, device=model.device, requires_grad=True)


def _steepest(shift: Tensor, batch: Batch, length: float) -> Tensor:
    """The shift of this length, for each sequence, that raises the loss most: (B, T, D).

    Adversarial training on embeddings (Miyato et al., arXiv:1605.07725).
    """
    assert shift.grad is not None
    owner = batch.owner.flatten()  # (B * T,)
    squares = shift.grad.square().sum(-1).flatten()
    total = squares.new_zeros(batch.sequences + 1).index_add_(0, owner, squares)
    norm = total.sqrt().clamp(min=1e-12)[owner].view(*batch.shape, 1)
    return length * shift.grad / norm * (batch.owner > 0).unsqueeze(-1)


def all_together(
    model: Model, task: Contrast[Any, Any], member: Member, processes: Processes
) -> Tensor:
    """The same for a loss that sets the examples of all parts and processes against one another.

    Gradient cache (Gao et al., arXiv:2101.06983): first the outputs of all parts, without what a
    backward pass needs; then the loss, and its gradient by the outputs; then each part again, to
    hand that gradient on to the weights. So the gradient is that of one large batch, in the memory
    of one part. A part draws the same random numbers each time; the last is computed only once.
    """
    parts = member.parts
    seeds = torch.randint(2**62, (len(parts),)).tolist()  # they follow from the update's own

    def forward(number: int) -> tuple[dict[str, Tensor], Batch]:
        torch.manual_seed(seeds[number])
        with model.autocast():
            return model(task, parts[number].batch)

    last = len(parts) - 1
    teacher = member.teacher
    outputs, truths, taught = [], [], []
    for number, part in enumerate(parts):
        with torch.set_grad_enabled(number == last):
            found, batch = forward(number)
        outputs.append((found, part))
        truths.append((batch.truth, part))
        taught.append((teacher.outputs(batch) if teacher else {}, part))
    whole, places = parallel.gather(_joined(outputs), processes)
    truth, _ = parallel.gather(_joined(truths), processes)
    for tensor in whole.values():
        tensor.requires_grad_()
    own = loss = task.contrast(whole, truth) / max(member.targets, 1)
    if teacher:
        others, _ = parallel.gather(_joined(taught), processes)
        far = task.imitate(whole, teacher.task, others, None) / max(member.targets, 1)
        own = teacher.mixed(loss, far)
    gradients = torch.autograd.grad(
        own * member.weight, list(whole.values()), materialize_grads=True
    )
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
