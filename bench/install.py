"""How large a base installation is, what it can do, and how long `import unmask` takes in it.

The wheel is built from this checkout and installed, without extras and with the pinned versions,
into an empty environment: that takes a package registry or pip's cache, a gigabyte and minutes.

    .venv/bin/python bench/install.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from machine import machine, versions

ROOT = Path(__file__).parents[1]
SMOKE = Path(__file__).parent / "smoke.py"
# Nothing of a checkout: what is measured is what was installed.
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def install(folder: Path) -> Path:
    """An environment in `folder` with the base installation; its `bin`."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet"]
    pinned: list[str | Path] = ["--constraint", ROOT / "constraints.txt"]
    wanted: tuple[str | Path, ...] = ("torch", ROOT)
    for what in wanted:  # torch first, as the Makefile does
        subprocess.run([*pip, *pinned, what], check=True, env=BARE)
    return programs


def sizes(folder: Path) -> dict[str, float]:
    """MiB of the whole environment, and of its largest packages."""
    (packages,) = folder.glob("lib/python*/site-packages")
    each = {place.name: _size(place) for place in packages.iterdir()}
    largest = sorted(each, key=lambda name: -each[name])[:8]
    return {"all": _size(folder)} | {name: each[name] for name in largest}


def _size(place: Path) -> float:
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return round(sum(p.stat().st_size for p in files if not p.is_symlink()) / 2**20, 1)


def seconds(command: list[str | Path], runs: int) -> dict[str, float]:
    """The median and the spread of a command's time, after one run that is not counted.

    And the median of its processor time, which other work on the machine changes less.
    """
    taken, busy = [], []
    for _ in range(runs + 1):
        began, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, check=True, capture_output=True, env=BARE)
        taken.append(time.perf_counter() - began)
        busy.append(processor_seconds() - used)
    return {
        "median": round(statistics.median(taken[1:]), 3),
        "least": round(min(taken[1:]), 3),
        "most": round(max(taken[1:]), 3),
        "processor": round(statistics.median(busy[1:]), 3),
    }


def processor_seconds() -> float:
    """What the processes started here have used of processors so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def smoke(python: Path) -> dict[str, Any]:
    """What smoke.py prints: it loads, trains and predicts."""
    used = processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, SMOKE], cwd=folder, env=BARE, stdout=subprocess.PIPE, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "processor": round(processor_seconds() - used, 3)}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        programs = install(Path(place))
        found: dict[str, Any] = {
            "install": round(time.perf_counter() - began, 1),
            "installed_mib": sizes(Path(place)),
            "python": seconds([programs / "python", "-c", "pass"], args.runs),
            "import": seconds([programs / "python", "-c", "import unmask"], args.runs),
            "load": seconds([programs / "python", "-c", "from unmask import load"], args.runs),
            "help": seconds([programs / "unmask", "--help"], args.runs),
            "smoke": smoke(programs / "python"),
        }
    found |= {"runs": args.runs, "unit": "s", "machine": machine(), "versions": versions()}
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
