"""What recipes score: each run with several seeds, and the mean ± standard deviation of its tests.

    UNMASK_DATA=… .venv/bin/python bench/results.py recipes/banking77.yaml --seeds 3
    … bench/results.py recipes/xlmt.yaml --name xlmt-german tasks.mood.train=…  # changes too

The models are chosen on held-out training rows; the test rows are scored once. Results go to
bench/results/tasks-NAME.json; docs/results.md quotes them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from machine import machine, run_json, versions

import unmask
from unmask.bundle import save
from unmask.data.splits import split_rows
from unmask.evaluation.scores import judge
from unmask.recipe import parse
from unmask.tasks import OPTIONS

RESULTS = Path(__file__).parent / "results"
UNMASK = Path(sys.executable).parent / "unmask"
TAGS = ("language", "domain", "modality")


def told(score: dict[str, Any]) -> str:
    """Mean and standard deviation, where there are several seeds."""
    deviation = f" ± {score['sd']:.4f}" if "sd" in score else ""
    return f"{score['value']:.4f}{deviation}"


def gap(found: dict[str, Any]) -> str:
    """A difference, and its interval where it has one."""
    low, high = found["low"], found["high"]
    return f"{found['difference']:+.4f}" + ("" if low is None else f" ({low:+.4f} … {high:+.4f})")


def run(
    recipe: Path, seed: int, changes: list[str], together: bool = False, uncalibrated: bool = True
) -> dict[str, Any]:
    """One training: seconds, and the scores of its test rows, of the whole and of each tag.

    And all `records` as the command gives them, with their intervals and of other splits.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [str(UNMASK), "train", str(recipe), f"train.seed={seed}", *changes, "--json"]
        done = run_json([*command, "--out", f"{folder}/run"])
        scores = named(done["scores"])
        if uncalibrated and any(name.endswith(" ece") for name in scores):
            bare = named(_uncalibrated(Path(done["bundle"]), Path(folder) / "bare"))
            for name in [name for name in bare if name.endswith((" ece", " brier"))]:
                scores[f"{name} uncalibrated"] = bare[name]
        if together:
            scores["together"] = _together(Path(done["bundle"]))
    return {"seconds": done["seconds"], "scores": scores, "records": done["scores"]}


def _together(bundle: Path) -> float:
    """The share of test rows to which the answers of all tasks are wholly right."""
    model = unmask.load(bundle)
    run = parse(yaml.safe_load((bundle / "recipe.yaml").read_text()), OPTIONS)[""]
    rows = {name: split_rows(name, o, run.train.seed).test for name, o in run.tasks.items()}
    jobs = [(model.task(name), own) for name, own in rows.items() if own is not None]
    right = []
    for judged in zip(*judge(model, jobs), strict=True):  # of one row by each task
        scores = [
            task.score(one.answers, [one.row]) for (task, _), one in zip(jobs, judged, strict=True)
        ]
        right.append(all(s.get("exact_match", s.get("accuracy")) == 1 for s in scores))
    return float(statistics.mean(right))


def named(records: list[dict[str, Any]]) -> dict[str, float]:
    """The test scores by task and metric; those of a part of the rows by its tags too."""
    found: dict[str, float] = {}
    for record in records:
        if record["split"] == "test":
            whole = f"{record['task']} {record['metric']}"  # which comes before its parts
            part = [record[tag] for tag in TAGS if record.get(tag)]
            found[" ".join([whole, *part]) if whole in found else whole] = record["value"]
    return found


def _uncalibrated(bundle: Path, copy: Path) -> list[dict[str, Any]]:
    """Scores of a bundle whose probabilities are as trained.

    What tells strange rows stays: it changes no probability, and its tensors need it.
    """
    model = unmask.load(bundle)
    for task in model.tasks.values():
        task.calibration = {
            key: task.calibration[key] for key in task.calibration if key == "known"
        }
    save(model, copy, recipe=yaml.safe_load((bundle / "recipe.yaml").read_text()))
    scores: list[dict[str, Any]] = run_json([str(UNMASK), "eval", str(copy), "--json"])["scores"]
    return scores


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation and values of each score, and the mean time."""
    table = {
        name: [one["scores"][name] for one in runs]
        for name in runs[0]["scores"]
        if all(isinstance(one["scores"].get(name), float) for one in runs)
    }
    return {
        "seconds": statistics.mean(one["seconds"] for one in runs),
        "scores": {name: spread(values) for name, values in table.items()},
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and values."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": sd, "values": values}


def main() -> None:
    """Run, print a line a score, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--together", action="store_true", help="rows that all tasks get right")
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    options = parser.parse_intermixed_args()
    runs = [
        run(options.recipe, seed, options.changes, options.together)
        for seed in range(options.seeds)
    ]
    found = summary(runs)
    name = options.name or options.recipe.stem
    for score, value in found["scores"].items():
        print(f"{name}: {score} {value['mean']:.4f} ± {value['sd'] or 0:.4f}")
    print(f"{name}: {found['seconds']:.0f} s a run")
    more = {"changes": options.changes, "seeds": options.seeds}
    result = {**found, **more, "machine": machine(), "versions": versions()}
    (RESULTS / f"tasks-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
