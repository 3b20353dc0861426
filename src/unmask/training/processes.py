"""The processes of a run: one on a laptop, many under `torchrun`, all drawing the same examples."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from unmask.errors import UserError

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Processes:
    """This process's number among all of them, and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes files."""
        return self.rank == 0

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sum of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: Mapping[str, float]) -> dict[str, float]:
        """The largest of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            self.total({"here": 1})

    def _reduce(
        self, values: Mapping[str, float], how: dist.ReduceOp.RedOpType
    ) -> dict[str, float]:
        if self.size == 1:
            return dict(values)
        # Doubles, so that counts are exact. MPS has none, but no process groups either.
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, how)
        found = dict(zip(values, tensor.tolist(), strict=True))
        if self.device.type == "cpu":
            # A thread of gloo may still hold the tensor, and needs Python to let go of it. Were
            # this the last sum of the run, it would find Python gone, and end in SIGABRT.
            held = weakref.ref(tensor)
            del tensor
            while held() is not None:
                time.sleep(0.0001)
        return found


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """This process alone, or among those that `torchrun` started, until the end of the run.

    A process group that is there already is used, and left as it is. `device` is the recipe's: cpu,
    cuda or auto. Processes with GPUs take one each (nccl), others compute on the CPU (gloo).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if size == 1:
        yield Processes(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    found = dist.is_initialized()
    if not found:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    level = log.level
    try:
        processes = Processes(dist.get_rank(), dist.get_world_size(), chosen)
        if not processes.first:
            log.setLevel(logging.ERROR)  # what is said once is enough
        yield processes
    finally:
        log.setLevel(level)
        if not found:
            dist.destroy_process_group()


def first_process() -> bool:
    """Whether this process, of all that `torchrun` started, speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is this process's GPU, or the CPU where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"train.device {name!r} is not to be had here: {reason}") from None
    return device
