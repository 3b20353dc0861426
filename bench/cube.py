"""The whole cube: one model of ten kinds of task, scored in every cell, and each task's twin.

    UNMASK_DATA=… .venv/bin/python bench/cube.py          # one model, then two seeds of twins
    … bench/cube.py --seeds 0                             # without twins
    … bench/cube.py --rows runs/few --limit 20 --out runs/cube-tried train.tokens=30000

It writes the rows (bench/cube_rows.py), unless they are there, trains recipes/cube.yaml, and writes
the page of its cells and its report. Then `unmask twins` trains each task alone, with what it has
of the joint budget, and the whole again with other seeds. What is finished in `--out` is not done
again. Changes are those of `unmask train`. The result goes to bench/results/cube.json, or to
`--result`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cube_rows
import yaml
from machine import machine, run_json, versions
from results import RESULTS, UNMASK

from unmask.evaluation.cube import AXES, table

RECIPE = Path("recipes/cube.yaml")
ROWS = Path("runs/cube-rows")  # where the recipe looks for them


def moved(rows: Path) -> list[str]:
    """What is to be changed in the recipe for rows in another folder."""
    tasks = yaml.safe_load(RECIPE.read_text())["tasks"]
    return [
        f"tasks.{name}.{split}={rows / Path(source).name}"
        for name, task in tasks.items()
        for split in cube_rows.SPLITS
        if isinstance(source := task.get(split), str) and Path(source).parent == ROWS
    ]


def command(*words: object) -> list[str]:
    """One of ours, said before it is run."""
    print("unmask", *words, file=sys.stderr)
    return [str(UNMASK), *map(str, words)]


def joint(out: Path, changes: Sequence[str], seed: int) -> Path:
    """The run of all tasks, where `unmask twins` looks for it."""
    run = out / "twins" / "together" / f"seed-{seed}"
    if not (run / "scores.json").exists():
        run_json(command("train", RECIPE, *changes, "--resume", "--json", "--out", run))
    return run


def counted(cubes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many cells were measured, and how many have no rows, of each task and in all."""
    tasks = {}
    for cube in cubes:
        _, rows = table(cube, "untagged", "all")
        places = [cell for _, cells in rows for cell in cells]
        tasks[cube["task"]] = {
            "measured": sum(cell is not None and cell["value"] is not None for cell in places),
            "no_score": sum(cell is not None and cell["value"] is None for cell in places),
            "absent": sum(cell is None for cell in places),
            "zero_shot": sum(bool(cell and cell["zero_shot"]) for cell in places),
        }
    total = {key: sum(own[key] for own in tasks.values()) for key in next(iter(tasks.values()))}
    return {**total, "by_task": tasks}


def axes(cubes: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The languages, domains and modalities of all cells; `text+image` is two of the last."""
    found = {axis: {v for cube in cubes for v in cube[axis] if v} for axis in AXES.values()}
    found["modalities"] = {one for both in found["modalities"] for one in both.split("+")}
    return {axis: sorted(values) for axis, values in found.items()}


def measured(run: Path, out: Path) -> dict[str, Any]:
    """Score the bundle in every cell, and write its two pages."""
    bundle = run / "bundle"
    pages = {name: out / f"{name}.html" for name in ("cube", "report")}
    found = run_json(command("eval", bundle, "--html", pages["cube"], "--json"))
    facts = run_json(command("report", run, "--out", pages["report"], "--json"))
    cubes = found["cube"]
    headlines = {
        cube["task"]: score["value"]
        for cube in cubes
        for score in reversed(found["scores"])  # the first is of all rows, and stays
        if (score["task"], score["split"], score["metric"])
        == (cube["task"], cube["split"], cube["metric"])
    }
    return {
        "ours": headlines,
        "unit": "headline score of each task on its test rows",
        "kinds": {one["task"]: one["kind"] for one in facts["model"]["tasks"]},
        **axes(cubes),
        "cells": counted(cubes),
        "cube": cubes,
        "weights": facts["model"]["weights"],
        "bundle_bytes": sum(p.stat().st_size for p in bundle.rglob("*") if p.is_file()),
        "page_bytes": {name: page.stat().st_size for name, page in pages.items()},
        "tokens": facts["cost"]["tokens"],
        "updates": facts["cost"]["steps"],
        "seconds": facts["cost"]["seconds"],  # of training, evaluations included
    }


def alone(out: Path, changes: Sequence[str], seeds: int) -> dict[str, Any]:
    """Each task's twin, and the mean of what being together gives each in per cent of its score."""
    words = ("twins", RECIPE, *changes, "--seeds", seeds, "--out", out / "twins", "--json")
    found = run_json(command(*words))
    pairs = [
        (task["together"]["value"], task["alone"]["value"])
        for task in found["tasks"]
        if task["difference"] is not None and task["alone"]["value"] > 0
    ]
    return {
        "peers": {
            task["task"]: task["alone"] and task["alone"]["value"] for task in found["tasks"]
        },
        "ratio": statistics.median(a / b for a, b in pairs) if pairs else None,
        "twins": found,
    }


def main() -> None:
    """Do what is not done yet, print a line a task, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--limit", type=int, default=cube_rows.LIMIT, help="of bench/cube_rows.py")
    parser.add_argument("--held", type=int, default=cube_rows.HELD, help="of bench/cube_rows.py")
    parser.add_argument("--seeds", type=int, default=2, help="of the twins; 0 for no twins")
    parser.add_argument("--out", type=Path, default=Path("runs/cube"))
    parser.add_argument("--result", type=Path, default=RESULTS / "cube.json")
    options = parser.parse_intermixed_args()
    if not (options.rows / cube_rows.LAST).exists():
        cube_rows.generate(options.rows, options.limit, options.held, 0)
    changes = [*([] if options.rows == ROWS else moved(options.rows)), *options.changes]
    run = joint(options.out, changes, 0)
    result = measured(run, options.out)
    if options.seeds:
        result |= alone(options.out, changes, options.seeds)
    result |= {"runs": options.seeds or 1, "changes": options.changes}
    result |= {"machine": machine(), "versions": versions()}
    options.result.write_text(json.dumps(result, indent=1) + "\n")
    twins = result.get("peers", {})
    for task, value in result["ours"].items():
        print(f"{task} ({result['kinds'][task]}): {value}, alone {twins.get(task)}")
    print({key: result["cells"][key] for key in ("measured", "absent", "zero_shot")})


if __name__ == "__main__":
    main()
