"""`unmask doctor`: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from packaging.requirements import Requirement

from unmask.machine.threads import available_cpus

PURPOSES = {
    "hub": "data by the name of a hub's data set",
    "ray": "corpora and bulk jobs on many machines",
    "rouge": "ROUGE of summaries",
    "zh": "words of Chinese, for hiding whole words and spans",
    "onnx": "ONNX: compiled forms and export",
    "openvino": "OpenVINO: compiled forms, int8 and export",
    "image": "pictures",
    "audio": "recordings",
    "serve": "the server and its page",
    "otel": "traces of the server",
    "docs": "the site of the documentation",
    "tensorflow": "Google's own checkpoints",
}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine can do, what is missing, and the command that mends it.

    The exit code is 1 where something that every command needs is missing.

    Example: unmask doctor
    """
    from unmask.cli.output import print_json, print_table

    machine, extras, advice = _machine(), _extras(), _advice()
    if json:
        print_json({"machine": machine, "extras": extras, "advice": advice})
    else:
        print_table("This machine", ["what", ""], list(machine.items()))
        rows = [[e["extra"] or "–", e["for"], "yes" if e["ready"] else e["mend"]] for e in extras]
        print_table("\nExtras", ["extra", "for", "here"], rows)
        for line in advice:
            print(f"\n{line}")
    if not extras[0]["ready"]:  # what every command needs
        raise typer.Exit(1)


def _machine() -> dict[str, Any]:
    """Processor, memory, devices and the versions that matter."""
    import torch

    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    cuda = torch.cuda.is_available()
    disk = shutil.disk_usage(Path.cwd())
    return {
        "unmask": metadata.version("unmask"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processors": available_cpus(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 on the processor": "yes" if bf16 else "no: training and inference stay in fp32",
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "GPU": torch.cuda.get_device_name(0) if cuda else "none",
        "room on this disk": f"{disk.free / 2**30:.1f} GiB",
    }


def _memory() -> int:
    """Bytes that this process may use: the machine's, or the container's where that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return whole if limit == "max" else min(whole, int(limit))


def _extras() -> list[dict[str, Any]]:
    """Each extra, what it is for, and what of it is missing; first what every command needs."""
    needs = [Requirement(line) for line in metadata.requires("unmask") or ()]
    found = []
    for extra in ("", *PURPOSES):
        own = [r for r in needs if _belongs(r, extra)]
        missing = [str(r).split(";")[0].strip() for r in own if not _installed(r)]
        name = f"unmask[{extra}]" if extra else "unmask"
        found.append(
            {
                "extra": extra,
                "for": PURPOSES.get(extra, "every command"),
                "ready": not missing,
                "missing": missing,
                "mend": f"pip install '{name}'",
            }
        )
    return found


def _belongs(requirement: Requirement, extra: str) -> bool:
    """Whether it comes with this extra, and only with it."""
    if requirement.marker is None:
        return not extra
    return requirement.marker.evaluate({"extra": extra}) and (
        not extra or not requirement.marker.evaluate({"extra": ""})
    )


def _installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _advice() -> list[str]:
    """What slows this machine down, or will surprise."""
    advice = []
    threads, processors = os.environ.get("OMP_NUM_THREADS"), available_cpus()
    if threads and threads.isdigit() and int(threads) > processors:
        advice.append(
            f"OMP_NUM_THREADS is {threads}, but this process may use {processors} processors: "
            "threads will wait for one another. Unset it."
        )
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        advice.append("HF_HUB_OFFLINE=1: hub ids are found only where they were fetched before.")
    return advice
