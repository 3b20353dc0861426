"""What this processor can compute."""

from __future__ import annotations

import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")
_EXACT = {"avx_vnni", "avx512_vnni", "amx_int8"}


def sums_int8_exactly() -> bool:
    """Whether products of 8 bits by 8 bits are summed without running over.

    x86 processors without VNNI add two of them in 16 bits, which cuts off what is larger. Where
    it is not known the answer is no.
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    lines = INFO.read_text().splitlines() if INFO.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return not _EXACT.isdisjoint(flags)
