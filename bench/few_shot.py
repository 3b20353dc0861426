"""Intents from a few questions of each: `recipes/few-shot.yaml` over draws of training rows.

    UNMASK_DATA=… .venv/bin/python bench/few_shot.py --rows 5 10 --draws 10
    … bench/few_shot.py --rows 10 --draws 3 --name r-drop train.r_drop=1      # changes too

Each draw takes that many rows of each of Banking77's intents, and trains with its number as the
seed; all test rows are scored once. The recipe was chosen on training rows that no draw took.
Results go to bench/results/tasks-few-shot-N.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from machine import machine, versions
from results import RESULTS, run, summary

from unmask.data.sources import read
from unmask.recipe import Source

RECIPE = Path(__file__).parent.parent / "recipes" / "few-shot.yaml"


def draw(rows: int, number: int, file: Path) -> None:
    """Write so many rows of each intent, drawn by this number."""
    source = Source(path=f"{os.environ['UNMASK_DATA']}/intent/banking77/train.parquet")
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read(source):
        of[row["label"]].append({"text": row["text"], "label": row["label"]})
    rng = random.Random(f"{rows}-{number}")
    chosen = [row for label in sorted(of) for row in rng.sample(of[label], rows)]
    file.write_text("\n".join(map(json.dumps, chosen)) + "\n", encoding="utf-8")


def main() -> None:
    """Run, print a line a draw, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=[5, 10], help="of each intent")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--name", help="of changes, in the name of the result")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    options = parser.parse_intermixed_args()
    for rows in options.rows:
        runs = []
        for number in range(options.draws):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["FEW_ROWS"] = f"{folder}/few.jsonl"
                draw(rows, number, Path(os.environ["FEW_ROWS"]))
                runs.append(run(RECIPE, number, options.changes))
            accuracy = runs[-1]["scores"]["intent accuracy"]
            print(f"{rows} rows, draw {number}: {accuracy:.4f}, {runs[-1]['seconds']:.0f} s")
        found = summary(runs)
        whole = found["scores"]["intent accuracy"]
        print(f"{rows} rows of each intent: {whole['mean']:.4f} ± {whole['sd'] or 0:.4f}")
        more = {"draws": options.draws, "changes": options.changes}
        result = {**found, **more, "machine": machine(), "versions": versions()}
        name = "-".join(["tasks-few-shot", str(rows), *([options.name] if options.name else [])])
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
