"""What a figure was measured on, for every benchmark's JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unmask.machine.threads import available_cpus

PEERS = Path(".venv-peers/bin/python")
EMBED_PEERS = Path(".venv-embed/bin/python")  # those of bench/embed.py and bench/latency.py


def machine() -> dict[str, Any]:
    """The day, the processor, cores, memory, and the GPU that torch sees."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = {line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line}
    flags = {"avx512_bf16", "avx512_vnni", "amx_bf16"} & set(text.split())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": date.today().isoformat(),
        "processor": ", ".join(names) or platform.processor(),
        "flags": sorted(flags),
        "cores": available_cpus(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_gib": round(pages / 2**30, 1),
    }


def peak_memory_mb() -> float:
    """The most memory that this process had, in MB; unlike `ru_maxrss`, nothing of its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def versions() -> dict[str, str]:
    """Our versions; a peer says its own."""
    return {name: version(name) for name in ("unmask", "torch", "tokenizers")} | {
        "python": platform.python_version()
    }


def run_json(command: list[str]) -> dict[str, Any]:
    """Run a command whose last line of output is JSON, or all of whose output is."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found
