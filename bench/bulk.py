"""A bulk job killed ten times, against the same undisturbed: the same bytes, and memory flat.

200,000 distinct texts through a tiny model with random weights (what is answered costs the same).
Each job is the command in a process of its own; its memory is read while it runs.

    .venv/bin/python bench/bulk.py --json
    … bench/bulk.py --bundle BUNDLE --texts 1000000 --kills 0    # the memory of another model alone
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine, versions

from unmask import bundle
from unmask.encoder import Encoder, preset
from unmask.files import sha256
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import learn
from unmask.model import Model
from unmask.recipe import NewTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prepare(folder: Path, count: int, model: Path | None) -> Path:
    """A file of distinct texts; a tiny bundle, unless there is another."""
    dice = random.Random(0)
    words = ["".join(dice.choices(LETTERS, k=dice.randint(2, 8))) for _ in range(2000)]
    texts = folder / "texts.txt"
    with texts.open("w", encoding="utf-8") as file:
        for i in range(count):
            file.write(" ".join(dice.choices(words, k=dice.randint(3, 12))) + f" {i}\n")
    if model is not None:
        return model.absolute()
    options = NewTokenizer(kind="wordpiece", vocab_size=2000)
    text = TextInput(learn(lambda: words, options))
    config = preset("tiny", "classic", vocab_size=text.vocab_size)
    bundle.save(Model(Encoder(config), text), folder / "bundle")
    return folder / "bundle"


def start(folder: Path, model: Path, name: str, part: int) -> subprocess.Popen[bytes]:
    """The command, under way."""
    command = [sys.executable, "-m", "unmask", "embed", str(model)]
    command += ["--input", str(folder / "texts.txt"), "--output", str(folder / name)]
    command += ["--part", str(part)]
    return subprocess.Popen(command)


def watched(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Seconds to the end, and the most resident memory of each quarter of the way."""
    began, memory = time.perf_counter(), []
    while process.poll() is None:
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
            memory += [int(x.split()[1]) / 1024 for x in text.splitlines() if "VmRSS" in x]
        except OSError:
            break
        time.sleep(0.2)
    if process.wait():
        raise SystemExit("the command failed")
    quarter = max(len(memory) // 4, 1)
    return {
        "seconds": time.perf_counter() - began,
        "memory_mb_quarters": [max(memory[i * quarter : (i + 1) * quarter]) for i in range(4)],
        "memory_mb_peak": max(memory),
    }


def main() -> None:
    """Run the job undisturbed, then killed, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--part", type=int, default=4096, help="rows of a part")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--bundle", type=Path, help="in place of a tiny one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = prepare(folder, options.texts, options.bundle)
        whole = watched(start(folder, model, "whole.npy", options.part))
        parts = -(-options.texts // options.part)
        journal = folder / "killed.npy.work" / "journal"
        dice = random.Random(1)
        for kill in range(options.kills):
            process = start(folder, model, "killed.npy", options.part)
            target = (kill + 1) * parts // (options.kills + 2)
            while process.poll() is None and len(list(journal.glob("0*.json"))) < target:
                time.sleep(0.01)
            time.sleep(dice.random())  # somewhere in a part
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                raise SystemExit("the job ended before it was killed: give more --texts")
        last, same = None, None
        if options.kills:
            last = watched(start(folder, model, "killed.npy", options.part))
            same = sha256(folder / "whole.npy") == sha256(folder / "killed.npy")
    result = {
        "ours": options.texts / whole["seconds"],
        "peers": {},
        "ratio": None,
        "unit": "texts a second, undisturbed",
        "runs": 1,
        "texts": options.texts,
        "kills": options.kills,
        "model": str(options.bundle or "tiny"),
        "same_bytes": same,
        "undisturbed": whole,
        "after_the_last_kill": last,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
