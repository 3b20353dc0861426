"""One model on many processes: copied to each, or its weights sharded among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from unmask.model import Model
from unmask.training.processes import Processes

_BUCKET = 1 << 23  # elements summed over the processes at once: 32 MB


def spread(model: Model, how: str, processes: Processes) -> None:
    """Make the model ready for its processes, all of which hold the same weights by now.

    `shard` leaves each process a part of every weight, gathered layer by layer when it is needed
    (ZeRO, arXiv:1910.02054; torch's `fully_shard`); `replicate` leaves it whole.
    """
    if how == "shard" and processes.size > 1:
        mesh = init_device_mesh(processes.device.type, (processes.size,))
        for layer in model.encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        register_fsdp_forward_method(model, "shared_outputs")  # weights are gathered for it too


def sum_gradients(weights: Iterable[nn.Parameter], processes: Processes) -> None:
    """Add up the gradients of whole weights over the processes; sharded ones add up on their own.

    Done once an update, after all its microbatches. torch's DistributedDataParallel adds up during
    the last backward pass, and leaves out the weights that only earlier microbatches used, such as
    another task's head.
    """
    if processes.size == 1:
        return
    bucket: list[Tensor] = []
    for p in weights:
        if p.grad is None or isinstance(p.grad, DTensor):
            continue
        bucket.append(p.grad)
        if sum(g.numel() for g in bucket) >= _BUCKET:
            _sum(bucket)
            bucket = []
    if bucket:
        _sum(bucket)


def _sum(gradients: list[Tensor]) -> None:
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat, [g.numel() for g in gradients])
    torch._foreach_copy_(
        gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
    )


def gather(
    tensors: Mapping[str, Tensor], processes: Processes
) -> tuple[dict[str, Tensor], dict[str, slice]]:
    """Each tensor with the rows of all processes, in their order; and where this one's rows are.

    All processes call this with tensors of the same names and widths. The result is a copy.
    """
    counts = processes.total(
        {
            f"{rank} {name}": float(len(tensor) * (rank == processes.rank))
            for rank in range(processes.size)
            for name, tensor in tensors.items()
        }
    )
    whole, places = {}, {}
    for name, tensor in tensors.items():
        sizes = [int(counts[f"{rank} {name}"]) for rank in range(processes.size)]
        start = sum(sizes[: processes.rank])
        places[name] = slice(start, start + len(tensor))
        whole[name] = tensor.new_zeros(sum(sizes), *tensor.shape[1:])
        whole[name][places[name]] = tensor
        if processes.size > 1:
            dist.all_reduce(whole[name])  # of different lengths, they are gathered as a sum
    return whole, places


def gradient_scale(how: str, processes: Processes) -> float:
    """What a loss is multiplied by so that gradients add up: `fully_shard` averages them."""
    return float(processes.size) if how == "shard" else 1.0


def whole(tensors: Iterable[tuple[str, Tensor]], processes: Processes) -> dict[str, Tensor]:
    """Named tensors on the CPU of the first process, gathered one by one where they are sharded.

    All processes take part; the others keep nothing.
    """
    found = {}
    for name, tensor in tensors:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if processes.first:
            found[name] = full.detach().cpu().contiguous()
    return found
