"""The same trunk, rows and epochs: our recipe against `transformers`' Trainer, over three seeds.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/against.py recipes/xlmt.yaml mood
    UNMASK_DATA=… .venv/bin/python bench/against.py recipes/xquad.yaml qa --rates 5e-5 2e-4

None of our training rows are held out here (`valid: null`), so that both learn from the same. The
peer runs in bf16 with fused AdamW and rows grouped by length, which is its fastest setting here.
Of several rates it has the one that does best on the test rows of the first seed, which favours it.
Results go to bench/results/against-RECIPE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from machine import PEERS, machine, run_json, versions
from results import RESULTS, run

from unmask.data.splits import split_rows
from unmask.interop import resolve
from unmask.recipe import TaskOptions, parse, read
from unmask.tasks import OPTIONS
from unmask.tasks.overlap import exact, f1

HERE = Path(__file__).parent
SEEDS = range(3)
HEADLINES = {"classify": "accuracy", "span": "f1"}
PEER_SETTINGS = {"classify": ["--bf16", "--fused", "--group"], "span": []}


def peer(task: str, options: TaskOptions, seed: int, rate: float, model: str) -> dict[str, float]:
    """The peer's scores on the test rows of a task, with this seed's split of it."""
    splits = split_rows(task, options, seed)
    test = list(splits.test or ())
    script = {"classify": "peer_trainer.py", "span": "peer_qa.py"}[options.kind]
    command = [str(PEERS), str(HERE / script), "--model", model, *PEER_SETTINGS[options.kind]]
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("train", splits.train), ("test", test)):
            pq.write_table(pa.Table.from_pylist(list(rows or ())), f"{folder}/{name}.parquet")
            command += [f"--{name}", f"{folder}/{name}.parquet"]
        done = run_json([*command, "--rate", str(rate), "--seed", str(seed)])
    scores: dict[str, float] = {"seconds": done["seconds"]}
    if options.kind == "span":
        golds = [[answer["text"] for answer in row["answers"]] for row in test]
        pairs = list(zip(done["answers"], golds, strict=True))
        scores[f"{task} f1"] = statistics.mean(f1(given, gold) for given, gold in pairs)
        scores[f"{task} exact_match"] = statistics.mean(exact(given, gold) for given, gold in pairs)
        return scores
    scores[f"{task} accuracy"] = statistics.mean(done["right"])
    of: dict[str, list[int]] = {}
    for row, right in zip(test, done["right"], strict=True):
        if "language" in row:
            of.setdefault(row["language"], []).append(right)
    return scores | {f"{task} accuracy {x}": statistics.mean(own) for x, own in of.items()}


def main() -> None:
    """Run both, print a line a score, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("task", help="of kind classify or span, the one that is compared")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-5, 1e-4, 2e-4])
    parser.add_argument("--model", help="a Hugging Face folder with the recipe's encoder")
    options = parser.parse_intermixed_args()
    task = options.task
    tasks = list(parse(read(options.recipe), OPTIONS).values())[-1].tasks
    changes = [*options.changes, *(f"tasks.{name}.valid=null" for name in tasks)]
    run_options = list(parse(read(options.recipe, changes), OPTIONS).values())[-1]
    compared = run_options.tasks[task]
    headline = f"{task} {HEADLINES[compared.kind]}"
    model = str(options.model or resolve(str(run_options.encoder.source)))

    def theirs(rate: float, seed: int) -> dict[str, float]:
        found = peer(task, compared, seed, rate, model)
        print(f"peer, rate {rate}, seed {seed}: {found[headline]:.4f}", file=sys.stderr)
        return found

    tried = {rate: theirs(rate, 0) for rate in options.rates}
    best = max(tried, key=lambda rate: tried[rate][headline])
    found = {"peer": [tried[best], *(theirs(best, seed) for seed in SEEDS[1:])], "ours": []}
    for seed in SEEDS:
        done = run(options.recipe, seed, changes)
        found["ours"].append({**done["scores"], "seconds": done["seconds"]})
        print(f"ours, seed {seed}: {found['ours'][-1][headline]:.4f}", file=sys.stderr)
    result: dict[str, Any] = {"peer_rate": best, "tried": tried, "changes": changes}
    for side, runs in found.items():
        result[side] = {}
        for score in runs[0]:
            values = [one[score] for one in runs]
            if None not in values:
                spread = {"mean": statistics.mean(values), "sd": statistics.stdev(values)}
                result[side][score] = {**spread, "values": values}
                print(f"{side}: {score} {spread['mean']:.4f} ± {spread['sd']:.4f}")
    result |= {"machine": machine(), "versions": versions()}
    name = f"against-{options.recipe.stem}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
