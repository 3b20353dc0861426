"""Spoken digits, alone and connected, of known and unknown speakers; what `reconstruct` gains.

    UNMASK_DATA=… .venv/bin/python bench/speech.py digits       # published split, three seeds
    … bench/speech.py connected                                 # known speakers, joined recordings
    … bench/speech.py unknown                                   # each speaker in turn left out
    … bench/speech.py curve                                     # few labels, pretrained or not

Runs are kept in runs/speech and not done again when they are there. Nothing is chosen by test rows:
each run ends at its last step. Results go to bench/results/speech-WHAT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from machine import machine, run_json, versions
from results import RESULTS, UNMASK, spread
from spoken import generate, speakers

import unmask

RUNS = Path("runs/speech")
DIGITS, CONNECTED = Path("recipes/spoken-digits.yaml"), Path("recipes/connected-digits.yaml")
BEAM = 10  # beside the likeliest path
EACH = (1, 3, 10, 30, 100)  # labelled recordings of each digit
Scores = dict[str, Any]


def trained(recipe: Path, name: str, *changes: str) -> Scores:
    """The test scores of a run by metric, `rows` and its seconds; trained unless it is there."""
    folder = RUNS / name
    if not (folder / "scores.json").exists():
        print(f"training {folder}", file=sys.stderr)
        run_json([str(UNMASK), "train", str(recipe), *changes, "--json", "--out", str(folder)])
    records = json.loads((folder / "scores.json").read_text())
    own = [r for r in records if r["split"] == "test" and not r.get("language")]
    own = own or [r for r in records if r["split"] == "test"]
    last = (folder / "metrics.jsonl").read_text().strip().splitlines()[-1]
    found = {r["metric"]: r["value"] for r in own}
    return {**found, "rows": own[0]["rows"], "seconds": json.loads(last).get("seconds")}


def digits(seeds: int) -> dict[str, Any]:
    """Accuracy on the published test rows, those of all seeds taken together."""
    runs = [trained(DIGITS, f"digits-{seed}", f"train.seed={seed}") for seed in range(seeds)]
    rows = sum(run["rows"] for run in runs)
    right = sum(round(run["accuracy"] * run["rows"]) for run in runs)
    accuracy = spread([run["accuracy"] for run in runs])
    return {"ours": right / rows, "rows": rows, "accuracy": accuracy, "runs": runs}


def connected(seeds: int) -> dict[str, Any]:
    """Word error rate for speakers that were learnt from, by other recordings of theirs."""
    data = RUNS / "connected"
    if not (data / "test.parquet").exists():
        generate(data, 3000, 300, None, 0)
    runs = [_connected(f"connected-{seed}", data, seed) for seed in range(seeds)]
    return {"ours": spread([run["wer"] for run in runs]), "runs": runs}


def unknown(seeds: int) -> dict[str, Any]:
    """Word error rate for a speaker of whom nothing was learnt, for each in turn."""
    found: dict[str, list[Scores]] = defaultdict(list)
    for speaker in speakers("test"):
        data = RUNS / f"without-{speaker}"
        if not (data / "test.parquet").exists():
            generate(data, 3000, 100, speaker, 0)
        for seed in range(seeds):
            found[speaker].append(_connected(f"unknown-{speaker}-{seed}", data, seed))
    values = {speaker: spread([run["wer"] for run in runs]) for speaker, runs in found.items()}
    mean = sum(value["mean"] for value in values.values()) / len(values)
    return {"ours": mean, "speakers": values}


def _connected(name: str, data: Path, seed: int) -> Scores:
    sources = [f"tasks.digits.{s}={data / s}.parquet" for s in ("train", "test")]
    found = trained(CONNECTED, name, *sources, f"train.seed={seed}")
    model = unmask.load(RUNS / name / "bundle")
    rows = pq.read_table(data / "test.parquet").to_pylist()
    answers = model.predict("digits", rows, beam=BEAM)
    return {**found, f"beam_{BEAM}": model.task("digits").score(answers, rows)}


def curve(seeds: int) -> dict[str, Any]:
    """Accuracy by labelled recordings of each digit, from zero and from `reconstruct`.

    Pretraining hears all training recordings, without a label; then both learn the same rows, for
    the same number of steps.
    """
    recipe = yaml.safe_load(DIGITS.read_text())
    source = f"{os.environ['UNMASK_DATA']}/speech/digits/train.parquet"
    RUNS.mkdir(parents=True, exist_ok=True)
    before = {
        "encoder": recipe["encoder"],
        "tasks": {
            "frames": {
                "kind": "reconstruct",
                "input": {"audio": "audio"},
                "train": source,
                "valid": None,
                "span": 3,
                "rate": 0.5,
            }
        },
        "train": {"epochs": 30, "learning_rate": 1e-3, "batch_tokens": 768},
    }
    first, later = _write("pretrain", before), recipe
    later["train"] = {"steps": 300, "learning_rate": 1e-3, "batch_tokens": 768}
    found: dict[str, Any] = {}
    for each in EACH:
        scores: dict[str, list[float]] = {"from zero": [], "after reconstruct": []}
        for seed in range(seeds):
            pretrained = f"pretrained-{seed}"
            if not (RUNS / pretrained / "bundle").exists():
                out = str(RUNS / pretrained)
                run_json(
                    [str(UNMASK), "train", str(first), f"train.seed={seed}", "--json", "--out", out]
                )
            later["tasks"]["digit"]["train"] = str(_few(source, each, seed))
            starts = (recipe["encoder"], {"from": str(RUNS / pretrained / "bundle")})
            for (how, values), start in zip(scores.items(), starts, strict=True):
                name = f"{how.replace(' ', '-')}-{each}-{seed}"
                file = _write(name, {**later, "encoder": start})
                values.append(trained(file, name, f"train.seed={seed}")["accuracy"])
        found[str(each)] = {how: spread(values) for how, values in scores.items()}
    return {"ours": found}


def _write(name: str, recipe: dict[str, Any]) -> Path:
    file = RUNS / f"{name}.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file


def _few(source: str, each: int, seed: int) -> Path:
    """So many rows of each digit, drawn by the seed."""
    file = RUNS / f"few-{each}-{seed}.parquet"
    of: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in pq.read_table(source).to_pylist():
        of[row["digit"]].append(row)
    rng = random.Random(seed)
    rows = [row for digit in sorted(of) for row in rng.sample(of[digit], each)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


WHAT = {
    "digits": (digits, 3),
    "connected": (connected, 1),
    "unknown": (unknown, 1),
    "curve": (curve, 3),
}


def main() -> None:
    """Measure one of them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    measure, seeds = WHAT[options.what]
    result = measure(options.seeds or seeds)
    result |= {"machine": machine(), "versions": versions()}
    print(json.dumps(result))
    file = RESULTS / f"speech-{options.what}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
