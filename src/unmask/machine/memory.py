"""Freed memory: kept for the next step, or given back to the system."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt(3)


def reuse_freed_memory() -> None:
    """Tell glibc to keep freed memory in the process; nothing where another allocator serves.

    A training step frees and asks for the same large tensors (the gradient of the token vectors
    alone is 47 MB for MiniLM). By default each goes back to the system and comes anew, page by
    page and zeroed, which took 7 % of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back_freed_memory() -> None:
    """Let glibc return what lies free between what is in use; nothing where there is no such call.

    Batches of ever other shapes leave gaps that the next one does not fit into. To map each large
    tensor by itself would leave none, and fill its pages with zeros each time.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
