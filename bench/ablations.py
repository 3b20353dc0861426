"""The measurements behind the defaults of pretraining, and how much data it needs.

All on the English descriptions of `time_to_loss.py`, with its tokenizer, its pieces of 128 tokens
and its held-out set (15 % hidden, once and for all): 4 × 256 unless a run says otherwise.

    UNMASK_DATA=… .venv/bin/python bench/ablations.py optimiser --json   # by the clock
    UNMASK_DATA=… .venv/bin/python bench/ablations.py rate --json        # by tokens
    UNMASK_DATA=… .venv/bin/python bench/ablations.py data --json        # by tokens

By the clock, the two settings run at the same time, five minutes on a core of their own, with
nothing else on the machine, and change cores from seed to seed: what one feels the other feels too.
By tokens, there are likewise as many runs at once as cores, and the clock does not matter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine, versions
from pyarrow import parquet
from time_to_loss import ours, prepare, texts

MINUTES = "train.minutes=5"  # on one core
TOKENS = "train.tokens=1200000"
PARTS = (16, 8, 4, 2, 1)  # of which the corpus is one

OPTIMISERS = {
    "adamw": [MINUTES, "train.optimiser=adamw", "train.learning_rate=1.5e-3"],
    "muon": [MINUTES, "train.optimiser=muon", "train.learning_rate=1.5e-3"],
}
RATES = {f"{rate:.0%} hidden": [TOKENS, f"tasks.words.rate={rate}"] for rate in (0.15, 0.3, 0.45)}


def parts(folder: Path) -> dict[str, list[str]]:
    """Random parts of the corpus, each holding the smaller ones, at two sizes of model."""
    table = parquet.read_table(texts("train"), columns=["description"])
    order = pa.array(np.random.default_rng(0).permutation(len(table)))
    table = table.take(order)
    settings = {}
    for shape in ("tiny", "mini"):
        for part in PARTS:
            file = folder / f"part-{part}.parquet"
            parquet.write_table(table.slice(0, len(table) // part), file)
            changes = [f"tasks.words.train={file}", f"encoder.shape={shape}"]
            settings[f"{shape}, 1/{part} of the data"] = [*changes, "train.tokens=2400000"]
    return settings


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["optimiser", "rate", "data"])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--change", nargs="*", default=[], help="of every run's recipe")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        settings = {"optimiser": OPTIMISERS, "rate": RATES}.get(options.what) or parts(folder)
        runs: dict[str, list[dict[str, Any]]] = {setting: [] for setting in settings}
        cores = sorted(os.sched_getaffinity(0))
        jobs = [(setting, seed) for seed in range(options.seeds) for setting in settings]

        def run(job: tuple[str, int], core: int) -> dict[str, Any]:
            setting, seed = job
            changes = [*settings[setting], *options.change, f"train.seed={seed}"]
            done = ours(folder, *changes, core=core)
            print(setting, seed, core, done["curve"][-1], file=sys.stderr, flush=True)
            return done

        with ThreadPoolExecutor(len(cores)) as pool:
            for start in range(0, len(jobs), len(cores)):
                together = jobs[start : start + len(cores)]
                for (setting, _), done in zip(
                    together, pool.map(run, together, cores), strict=True
                ):
                    runs[setting].append(done)
                cores = cores[1:] + cores[:1]
    loss = {setting: [run["curve"][-1]["loss"] for run in own] for setting, own in runs.items()}
    result = {
        "ours": {setting: statistics.mean(own) for setting, own in loss.items()},
        "sd": {
            setting: statistics.stdev(own) if len(own) > 1 else None
            for setting, own in loss.items()
        },
        "unit": "nats a hidden token of the held-out texts, at the end of the run",
        "runs": options.seeds,
        "loss": loss,
        "curves": {setting: [run["curve"] for run in own] for setting, own in runs.items()},
        "settings": {setting: runs[setting][0]["changes"] for setting in settings},
        "weights": {setting: runs[setting][0]["weights"] for setting in settings},
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
