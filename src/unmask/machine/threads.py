"""How many processors this process may really use, and by how many threads."""

from __future__ import annotations

import os
from pathlib import Path


def use_available_cpus() -> None:
    """Let torch use a thread for each processor there is, unless OMP_NUM_THREADS says."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())


def threads_each(processes: int = 1) -> int:
    """Threads that each of so many processes computes with, at least 1.

    As many as OMP_NUM_THREADS says, of a list such as `4,2` the first, as for torch, but no more
    than there are processors; where it says nothing, a share of those.
    """
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdecimal() and int(said):
        return min(int(said), available_cpus())
    return max(available_cpus() // processes, 1)


def available_cpus() -> int:
    """Processors left after affinity and the container's quota (cgroup v2), at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count or 1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here: affinity is all there is to know
    return max(count or 1, 1)
