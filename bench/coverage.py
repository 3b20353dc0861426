"""Promised and kept: a recipe's test rows dealt into two halves, fifty times.

    UNMASK_DATA=… .venv/bin/python bench/coverage.py recipes/banking77.yaml --task intent
    … bench/coverage.py recipes/xlmt.yaml --task mood train.epochs=1        # changes too

The recipe is trained once. Each time one half of the test rows fits the promises and the other is
asked: the share of truths in the sets, their mean size, and the calibration error before and after
a temperature from the same half. The means over fifty splits go to
bench/results/coverage-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, versions
from results import RESULTS, spread
from scipy.special import softmax

import unmask
from unmask.data.splits import split_rows
from unmask.evaluation.calibration import expected_calibration_error
from unmask.evaluation.fitting import look
from unmask.evaluation.held import last_run
from unmask.tasks.calibration import fit_temperature
from unmask.tasks.promises import bound, label_set, ladder, surprise_of

COVERAGES = (0.8, 0.9, 0.95)
SPLITS = 50


def one_split(logits: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, float]:
    """What one deal of the rows gives: logits (n, C), truth (n,)."""
    order = np.random.default_rng(seed).permutation(len(truth))
    fit, ask = np.array_split(order, 2)
    surprise = surprise_of(logits)
    found: dict[str, float] = {}
    for coverage in COVERAGES:
        limit = bound(ladder(surprise[fit, truth[fit]]), len(fit), coverage)
        sets = [label_set(surprise[i], limit) for i in ask]
        # The promise itself, of sets that may be empty; and of those that are given, never empty.
        found[f"{coverage} kept"] = float(np.mean(surprise[ask, truth[ask]] <= limit))
        inside = [truth[i] in own for i, own in zip(ask, sets, strict=True)]
        found[f"{coverage} kept, never empty"] = float(np.mean(inside))
        found[f"{coverage} size"] = float(np.mean([len(own) for own in sets]))
    temperature = fit_temperature(logits[fit], truth[fit])["temperature"]
    for name, t in (("before", 1.0), ("after", temperature)):
        p = softmax(logits[ask] / t, axis=1)
        found[f"ece {name}"] = expected_calibration_error(p, truth[ask])
    found["accuracy"] = float(np.mean(logits[ask].argmax(1) == truth[ask]))
    return found


def main() -> None:
    """Train, split, print the means, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        trained = unmask.train(options.recipe, Path(folder) / "run", options.changes)
        run = last_run(trained.bundle / "recipe.yaml")
        rows = split_rows(options.task, run.tasks[options.task], run.train.seed).test
        if rows is None:
            raise SystemExit(f"task {options.task} has no test rows")
        task: Any = trained.model.task(options.task)
        seen = look(trained.model, task, rows)
    logits, truth = seen.logits.double().numpy(), seen.labels.numpy()
    runs = [one_split(logits, truth, seed) for seed in range(SPLITS)]
    scores = {name: spread([one[name] for one in runs]) for name in runs[0]}
    for name, value in scores.items():
        print(f"{name}: {value['mean']:.4f} ± {value['sd']:.4f}")
    gap = max(abs(scores[f"{c} kept"]["mean"] - c) for c in COVERAGES)
    result = {
        "ours": gap,
        "unit": "largest distance of a mean coverage from its promise",
        "goal": 0.01,
        "rows": len(truth),
        "splits": SPLITS,
        "scores": scores,
        "changes": options.changes,
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    name = options.name or options.recipe.stem
    (RESULTS / f"coverage-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
