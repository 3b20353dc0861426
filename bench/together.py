"""Six kinds of task in one model: what being together costs, and what the remedies change.

    UNMASK_DATA=… .venv/bin/python bench/together.py
    UNMASK_DATA=… .venv/bin/python bench/together.py train.epochs=null train.tokens=1500000

recipes/six.yaml together and each of its tasks alone (`unmask twins`); then together with tasks
that pull by their losses and tokens, with PCGrad, and with the six single models of the same seed
for teachers; and once with the lengths and conflicts of gradients measured. Each way beside being
together as it is: the difference with its interval, of a paired bootstrap over seeds and rows.
Trainings that are finished in `--out` are not done again. Results go to bench/results/six.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from machine import machine, run_json, versions
from results import RESULTS, UNMASK, gap, told

import unmask
from unmask.evaluation.pairs import compare, held_rows, scored
from unmask.recipe import parse, read
from unmask.tasks import OPTIONS

RECIPE = Path(__file__).parent.parent / "recipes" / "six.yaml"


def trained(out: Path, seed: int, changes: Sequence[str]) -> Path:
    """The run folder of one training, made unless it is there."""
    if not (out / "scores.json").exists():
        print("training", out, file=sys.stderr, flush=True)
        own = [f"train.seed={seed}", *changes, "--resume", "--json", "--out", str(out)]
        run_json([str(UNMASK), "train", str(RECIPE), *own])
    return out


def main() -> None:
    """Train what is not there, compare, print a line a way and a task, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("changes", nargs="*", help="key=value of the recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/six"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    out, seeds = options.out, range(options.seeds)
    (run,) = parse(read(RECIPE, options.changes), OPTIONS).values()
    words = [str(RECIPE), *options.changes, "--seeds", str(options.seeds)]
    twins = run_json([str(UNMASK), "twins", *words, "--out", str(out / "twins"), "--json"])

    def taught(seed: int) -> list[str]:
        alone = out / "twins" / "alone"
        return [f"tasks.{t}.teacher={alone / t / f'seed-{seed}' / 'bundle'}" for t in run.tasks]

    def runs(name: str, own: Callable[[int], list[str]]) -> list[Path]:
        return [trained(out / f"{name}-{s}", s, [*options.changes, *own(s)]) for s in seeds]

    ways = {
        "tokens": runs("tokens", lambda _: ["train.pull=tokens"]),
        "pcgrad": runs("pcgrad", lambda _: ["train.conflicts=pcgrad"]),
        "taught": runs("taught", taught),
    }
    measured = trained(out / "measured", 0, [*options.changes, "train.conflicts=measure"])
    held = {task: held_rows(task, own, seeds) for task, own in run.tasks.items()}

    def scores(folders: Sequence[Path]) -> dict[str, Any]:
        models = [unmask.load(folder / "bundle") for folder in folders]
        return {
            task: [scored(model, task, held[task][i]) for i, model in enumerate(models)]
            for task in run.tasks
        }

    plain = scores([out / "twins" / "together" / f"seed-{s}" for s in seeds])
    first = unmask.load(measured / "bundle")
    found: dict[str, Any] = {}
    for way, folders in ways.items():
        own = scores(folders)
        found[way] = {t: compare(first.task(t), held[t], plain[t], own[t]) for t in run.tasks}
    for task in twins["tasks"]:
        print(f"{task['task']}: alone {told(task['alone'])}, {beside(task, 'together')}")
        for way, tasks in found.items():
            print(f"{task['task']}: {beside(tasks[task['task']], way)} (beside together)")
    result = {
        "twins": twins,
        **found,
        "conflicts": json.loads((measured / "conflicts.json").read_text()),
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    (RESULTS / "six.json").write_text(json.dumps(result, indent=1) + "\n")


def beside(found: dict[str, Any], way: str) -> str:
    """A way's score, and the difference with its interval."""
    return f"{way} {told(found['together'])}, {gap(found)}"


if __name__ == "__main__":
    main()
