"""Promised and kept: a recipe's test rows dealt into two halves, fifty times.

    UNMASK_DATA=… .venv/bin/python bench/coverage.py recipes/banking77.yaml --task intent
    … bench/coverage.py recipes/xlmt.yaml --task mood train.epochs=1        # changes too
    … bench/coverage.py recipes/sst2.yaml --task sentiment
        --other sentiment/xlmt/english/test.parquet --names negative=0 positive=1

The recipe is trained once. Each time one half of the test rows fits the promises and the other is
asked: the share of truths in the sets, their mean size, and the calibration error before and after
a temperature from the same half. With `--other` the rows of another file of the data folder are
asked too, all of them each time: what those promises and that temperature are worth out of domain.
The means over fifty splits go to bench/results/coverage-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import machine, versions
from results import RESULTS, spread
from scipy.special import softmax

import unmask
from unmask.data.sources import read
from unmask.data.splits import split_rows
from unmask.evaluation.calibration import expected_calibration_error
from unmask.evaluation.fitting import look
from unmask.evaluation.held import last_run
from unmask.model import Model
from unmask.recipe import Source
from unmask.tasks.calibration import fit_temperature
from unmask.tasks.promises import bound, label_set, ladder, surprise_of

COVERAGES = (0.8, 0.9, 0.95)
SPLITS = 50


class Asked(NamedTuple):
    """Rows that the model has answered: logits (n, C), truth (n,)."""

    logits: np.ndarray
    truth: np.ndarray

    def of(self, rows: np.ndarray) -> Asked:
        """Some of them."""
        return Asked(self.logits[rows], self.truth[rows])


def one_split(own: Asked, other: Asked | None, seed: int) -> dict[str, float]:
    """What one deal of the rows gives, on the other half and on the rows of another domain."""
    order = np.random.default_rng(seed).permutation(len(own.truth))
    fit, ask = map(own.of, np.array_split(order, 2))
    found = asked(fit, ask)
    if other is not None:
        found |= {f"other: {name}": value for name, value in asked(fit, other).items()}
    return found


def asked(fit: Asked, ask: Asked) -> dict[str, float]:
    """What is kept of promises, and of probabilities, that some rows fitted."""
    found: dict[str, float] = {}
    everyone, surprise = np.arange(len(fit.truth)), surprise_of(ask.logits)
    true = surprise[np.arange(len(ask.truth)), ask.truth]
    for coverage in COVERAGES:
        seen = surprise_of(fit.logits)[everyone, fit.truth]
        limit = bound(ladder(seen), len(seen), coverage)
        sets = [label_set(one, limit) for one in surprise]
        # The promise itself, of sets that may be empty; and of those that are given, never empty.
        found[f"{coverage} kept"] = float(np.mean(true <= limit))
        inside = [label in own for label, own in zip(ask.truth, sets, strict=True)]
        found[f"{coverage} kept, never empty"] = float(np.mean(inside))
        found[f"{coverage} size"] = float(np.mean([len(own) for own in sets]))
    temperature = fit_temperature(fit.logits, fit.truth)["temperature"]
    for name, t in (("before", 1.0), ("after", temperature)):
        p = softmax(ask.logits / t, axis=1)
        found[f"ece {name}"] = expected_calibration_error(p, ask.truth)
    found["accuracy"] = float(np.mean(ask.logits.argmax(1) == ask.truth))
    return found


def rows_of(path: str, names: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of a file of the data folder; those are left out whose labels have no name here."""
    rows = read(Source(path=f"{os.environ['UNMASK_DATA']}/{path}"))
    named = [{**row, "label": names.get(str(row["label"]), "")} for row in rows]
    return [row for row in named if row["label"]]


def answered(model: Model, task: Any, rows: Any) -> Asked:
    """What a model says of rows whose truth is known."""
    seen = look(model, task, rows)
    return Asked(seen.logits.double().numpy(), seen.labels.numpy())


def main() -> None:
    """Train, split, print the means, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    parser.add_argument("--other", help="a file of the data folder, of another domain")
    parser.add_argument("--names", nargs="+", default=[], help="of its labels: THEIRS=OURS")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        trained = unmask.train(options.recipe, Path(folder) / "run", options.changes)
        run = last_run(trained.bundle / "recipe.yaml")
        rows = split_rows(options.task, run.tasks[options.task], run.train.seed).test
        if rows is None:
            raise SystemExit(f"task {options.task} has no test rows")
        task: Any = trained.model.task(options.task)
        own = answered(trained.model, task, rows)
        names = dict(name.split("=") for name in options.names)
        others = rows_of(options.other, names) if options.other else None
        other = answered(trained.model, task, others) if others else None
    runs = [one_split(own, other, seed) for seed in range(SPLITS)]
    scores = {name: spread([one[name] for one in runs]) for name in runs[0]}
    for name, value in scores.items():
        print(f"{name}: {value['mean']:.4f} ± {value['sd']:.4f}")
    gap = max(abs(scores[f"{c} kept"]["mean"] - c) for c in COVERAGES)
    result = {
        "ours": gap,
        "unit": "largest distance of a mean coverage from its promise",
        "goal": 0.01,
        "rows": len(own.truth),
        "other": options.other
        and {"path": options.other, "rows": len(other.truth) if other else 0},
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
