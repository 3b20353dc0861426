"""What it takes to build a corpus: peak memory of all processes, seconds, and bytes on disk.

    .venv/bin/python bench/corpus.py --documents 10000 100000 --memory 2GB --workers 2

Distinct sentences come from a deterministic generator, with a share of exact and of near
duplicates. Each size is built in a process of its own, with each engine that is installed; the
sum of the proportional set sizes of it and all its children is sampled twenty times a second. The
result goes to bench/results/corpus-DATE.json, with what a billion documents would take at the
largest size's pace.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, versions

from unmask.corpus.minhash import SIZE

RESULTS = Path(__file__).parent / "results"
BILLION = 1_000_000_000
EXACT, NEAR = 0.05, 0.05  # shares of the documents
_SYLLABLES = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s")]


def made(numbers: np.ndarray) -> list[str]:
    """The sentences of some numbers: 8 to 23 words, and no two the same.

    The first word says the number; the others have three syllables drawn by hashing it.
    """
    places = np.arange(1, 23 * 3 + 1, dtype=np.uint64)
    drawn = numbers.astype(np.uint64)[:, None] * np.uint64(1 << 7) + places  # SplitMix64 of these
    drawn *= np.uint64(0x9E3779B97F4A7C15)
    drawn = (drawn ^ (drawn >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    drawn = (drawn ^ (drawn >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn ^= drawn >> np.uint64(31)
    syllables = (drawn % np.uint64(len(_SYLLABLES))).tolist()
    found = []
    for number, row in zip(numbers.tolist(), syllables, strict=True):
        first, rest = "", number
        for _ in range(4):
            rest, place = divmod(rest, len(_SYLLABLES))
            first += _SYLLABLES[place]
        words = [first]
        for i in range(0, 3 * (7 + number % 16), 3):
            a, b, c = row[i : i + 3]
            words.append(_SYLLABLES[a] + _SYLLABLES[b] + _SYLLABLES[c])
        found.append(" ".join(words))
    return found


def sentences(count: int) -> Iterator[str]:
    """So many sentences; some repeat the fiftieth before them, or all of it but its last letter."""
    exact, near = round(EXACT * 100), round((EXACT + NEAR) * 100)
    for start in range(0, count, 1 << 14):
        numbers = np.arange(start, min(start + (1 << 14), count))
        kind = np.where(numbers < 50, 100, numbers * 37 % 100)
        texts = made(numbers - np.where(kind < near, 50, 0))
        for text, own in zip(texts, kind.tolist(), strict=True):
            yield text[:-1] + "x" if exact <= own < near else text


def write(folder: Path, count: int, files: int = 16) -> Path:
    """The sources and a recipe with a tokenizer learnt from some of them."""
    from unmask.inputs.vocabulary import learn
    from unmask.recipe import NewTokenizer

    size = -(-count // files)
    rows = sentences(count)
    for i in range(files):
        with (folder / f"{i:02d}.txt").open("w", encoding="utf-8") as file:
            for _, text in zip(range(size), rows, strict=False):
                file.write(text + "\n")
    options = NewTokenizer(vocab_size=8192)
    some = made(np.arange(min(count, 20_000)))
    tokenizer = learn(lambda: some, options)
    tokenizer.save(str(folder / "tokenizer.json"))
    recipe = {
        "sources": [{"path": f"{folder}/*.txt", "tags": {"language": "x", "domain": "made"}}],
        "tokenizer": str(folder),
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def build(recipe: Path, memory: str, workers: int, engine: str) -> dict[str, Any]:
    """One build: seconds, peak memory, and bytes on disk at its height and at its end."""
    out = recipe.parent / f"corpus-{engine}"
    options = ["--memory", memory, "--workers", str(workers), "--engine", engine, "--json"]
    command = [sys.executable, "-m", "unmask", "corpus", "build", str(recipe), *options]
    began = time.perf_counter()
    peak = disk = 0
    with (recipe.parent / f"{engine}.json").open("w+") as said:
        process = subprocess.Popen([*command, "--out", str(out)], stdout=said)
        looked = 0.0
        while process.poll() is None:
            peak = max(peak, sum(map(proportional, tree(process.pid))))
            if time.perf_counter() - looked > 2:
                disk = max(disk, used(out.with_name(f"{out.name}.work")))
                looked = time.perf_counter()
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        said.seek(0)
        total = json.load(said)["total"]
    return {
        "seconds": seconds,
        "peak_memory": peak,
        "working_disk": disk,
        "disk": used(out),
        "dropped": total["dropped"],
        "tokens": sum(total[split]["tokens"] for split in ("train", "valid")),
        "manifest": hashlib.sha256((out / "corpus.json").read_bytes()).hexdigest(),
    }


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found, new = [pid], [pid]
    while new:
        below: list[int] = []
        for one in new:
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                with suppress(OSError):  # it has ended
                    below += map(int, task.read_text().split())
        found += below
        new = below
    return found


def proportional(pid: int) -> int:
    """Bytes of a process, each shared page divided by those that share it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def used(folder: Path) -> int:
    """Bytes of all files below a folder."""
    sizes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has been renamed
                sizes += (Path(place) / name).stat().st_size
    return sizes


def main() -> None:
    """Build at each size with each engine, print a line for each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where there is room (default: temporary)")
    options = parser.parse_args()
    engines = ["processes", "ray"] if find_spec("ray") else ["processes"]
    runs = []
    for count in options.documents:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            recipe = write(Path(name), count)
            source = sum(file.stat().st_size for file in Path(name).glob("*.txt"))
            found = {e: build(recipe, options.memory, options.workers, e) for e in engines}
        for engine, one in found.items():
            run = {"documents": count, "engine": engine, "source": source, **one}
            runs.append(run)
            print(
                f"{count:,} with {engine}: {run['seconds']:.1f} s, "
                f"{run['peak_memory'] / 2**20:,.0f} MB at most, "
                f"{run['working_disk'] / 2**20:,.0f} MB of disk at work, "
                f"{run['disk'] / 2**20:,.0f} MB at the end; dropped {run['dropped']}"
            )
        assert len({one["manifest"] for one in found.values()}) == 1, "the engines differ"
    last = max((r for r in runs if r["engine"] == "processes"), key=lambda r: r["documents"])
    scale = BILLION / last["documents"]
    result = {
        "runs": runs,
        "per_billion": {
            "hours": last["seconds"] * scale / 3600,
            "working_disk_tb": last["working_disk"] * scale / 1e12,
            "disk_tb": last["disk"] * scale / 1e12,
            "of": "the largest size, in proportion; memory stays what --memory says",
        },
        "hashes": SIZE,
        "memory": options.memory,
        "workers": options.workers,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result["per_billion"]))
    (RESULTS / f"corpus-{date.today()}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
