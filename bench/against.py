"""The same trunk, rows and epochs: our recipe against `transformers`' Trainer, over three seeds.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/against.py recipes/xlmt.yaml mood
    UNMASK_DATA=… .venv/bin/python bench/against.py recipes/xquad.yaml qa --rates 1e-4 2e-4
    .venv/bin/python bench/against.py recipes/from-zero-zh.yaml sentiment \
        stages.sentiment.train.epochs=1

Where a recipe has stages, those before the last make the trunk, anew for each seed and for both.
None of our training rows are held out here (`valid: null`), so that both learn from the same. The
peer runs in bf16 (where the machine has it) with fused AdamW and rows grouped by length, its
fastest setting here. Of several rates it has the one that does best on the test rows of the first
seed, which favours it. Results go to bench/results/against-RECIPE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from machine import PEERS, machine, run_json, versions
from results import RESULTS, UNMASK, run, spread

from unmask.data.splits import split_rows
from unmask.interop import resolve
from unmask.recipe import Run, parse, read
from unmask.tasks import OPTIONS, Row
from unmask.tasks.overlap import exact, f1
from unmask.tasks.regress import RegressOptions

HERE = Path(__file__).parent
HEADLINES = {"classify": "accuracy", "regress": "spearman", "span": "f1"}
FASTEST = ["--bf16", "--fused", "--group"]
PEER_SETTINGS = {"classify": FASTEST, "regress": FASTEST, "span": []}


@dataclass(frozen=True)
class Compared:
    """What is compared: our recipe, the task, and the encoder that both start from."""

    recipe: Path
    run: Run
    model: str  # its folder in the Hugging Face layout

    @classmethod
    def make(cls, data: dict[str, Any], task: str, seed: int, folder: Path) -> Compared:
        """Train the stages before the last, if there are any, and write the last as a recipe."""
        stages = data.get("stages")
        if stages:
            common = {key: value for key, value in data.items() if key != "stages"}
            *early, last = stages
            train = {**common.get("train", {}), "seed": seed}
            first = {**common, "train": train, "stages": {name: stages[name] for name in early}}
            (folder / "early.yaml").write_text(yaml.safe_dump(first, allow_unicode=True))
            command = [str(UNMASK), "train", str(folder / "early.yaml"), "--json"]
            bundle = run_json([*command, "--out", str(folder / "early")])["bundle"]
            model = folder / "model"
            head = next(iter(stages[early[-1]]["tasks"]))  # any: it is the encoder that is wanted
            command = [str(UNMASK), "export", bundle, str(model), "--task", head]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            data = {**common, **stages[last], "encoder": {"from": bundle}}
        tasks = {name: {**options, "valid": None} for name, options in data["tasks"].items()}
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**data, "tasks": tasks}, allow_unicode=True))
        (parsed,) = parse(read(recipe), OPTIONS).values()
        if parsed.train.epochs is None:
            raise SystemExit("both sides train for the same epochs: set train.epochs")
        if not stages:
            model = resolve(str(parsed.encoder.source))
        return cls(recipe, parsed, str(model))


def peer(task: str, compared: Compared, seed: int, rate: float) -> dict[str, float]:
    """The peer's scores on the test rows of a task, with this seed's split of it."""
    options = compared.run.tasks[task]
    splits = split_rows(task, options, seed)
    test = list(splits.test or ())
    script = "peer_qa.py" if options.kind == "span" else "peer_trainer.py"
    command = [str(PEERS), str(HERE / script), "--model", compared.model]
    command += [*PEER_SETTINGS[options.kind], "--epochs", str(compared.run.train.epochs)]
    values = options.values if isinstance(options, RegressOptions) else None
    if values:
        command += ["--values", json.dumps(values)]
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("train", splits.train), ("test", test)):
            pq.write_table(pa.Table.from_pylist(list(rows or ())), f"{folder}/{name}.parquet")
            command += [f"--{name}", f"{folder}/{name}.parquet"]
        done = run_json([*command, "--rate", str(rate), "--seed", str(seed)])
    if options.kind == "span":
        found = of_answers(done["answers"], test)
    elif values:
        found = of_numbers(done["numbers"], test, values)
    else:
        found = by_language("accuracy", [float(x) for x in done["right"]], test)
    return {f"{task} {name}": value for name, value in found.items()} | {"seconds": done["seconds"]}


def of_answers(given: list[str], rows: Sequence[Row]) -> dict[str, float]:
    """F1 and exact matches, as `span` scores them."""
    golds = [[answer["text"] for answer in row["answers"]] for row in rows]
    pairs = list(zip(given, golds, strict=True))
    return {
        "f1": statistics.mean(f1(text, gold) for text, gold in pairs),
        "exact_match": statistics.mean(exact(text, gold) for text, gold in pairs),
    }


def of_numbers(
    given: list[float], rows: Sequence[Row], values: dict[str, float]
) -> dict[str, float]:
    """The rank correlation, and the accuracy of the nearest classes, as `regress` scores them."""
    from scipy.stats import spearmanr

    truth = [values[row["label"]] for row in rows]
    near = [min(values.values(), key=lambda value: abs(value - x)) for x in given]
    right = [float(x == y) for x, y in zip(near, truth, strict=True)]
    return {
        "spearman": float(spearmanr(given, truth).statistic),
        **by_language("accuracy", right, rows),
    }


def by_language(name: str, scores: list[float], rows: Sequence[Row]) -> dict[str, float]:
    """The mean of the rows' scores, whole and of each language."""
    of: dict[str, list[float]] = {}
    for row, score in zip(rows, scores, strict=True):
        if "language" in row:
            of.setdefault(row["language"], []).append(score)
    means = {f"{name} {x}": statistics.mean(own) for x, own in of.items()}
    return {name: statistics.mean(scores), **means}


def main() -> None:
    """Run both, print a line a score, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("task", help="of kind classify, regress or span, the one that is compared")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-5, 1e-4, 2e-4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as place:
        result = compare(options, Path(place))
    for side in ("peer", "ours"):
        for score, own in result[side].items():
            print(f"{side}: {score} {own['mean']:.4f} ± {own['sd'] or 0:.4f}")
    result |= {"machine": machine(), "versions": versions()}
    name = f"against-{options.name or options.recipe.stem}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


def compare(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Both sides' scores: mean, standard deviation and values."""
    task = options.task
    data = read(options.recipe, options.changes)
    made = {}
    for seed in range(options.seeds):
        folder = place / str(seed)
        folder.mkdir()
        made[seed] = Compared.make(data, task, seed, folder)
    headline = f"{task} {HEADLINES[made[0].run.tasks[task].kind]}"

    def theirs(rate: float, seed: int) -> dict[str, float]:
        found = peer(task, made[seed], seed, rate)
        print(f"peer, rate {rate}, seed {seed}: {found[headline]:.4f}", file=sys.stderr)
        return found

    tried = {rate: theirs(rate, 0) for rate in options.rates}
    best = max(tried, key=lambda rate: tried[rate][headline])
    others = [theirs(best, seed) for seed in range(1, options.seeds)]
    found = {"peer": [tried[best], *others], "ours": []}
    for seed, compared in made.items():
        done = run(compared.recipe, seed, [])
        found["ours"].append({**done["scores"], "seconds": done["seconds"]})
        print(f"ours, seed {seed}: {found['ours'][-1][headline]:.4f}", file=sys.stderr)
    result: dict[str, Any] = {"peer_rate": best, "tried": tried, "changes": options.changes}
    for side, runs in found.items():
        result[side] = {}
        for score in runs[0]:
            values = [one[score] for one in runs]
            if None not in values:
                result[side][score] = spread(values)
    return result


if __name__ == "__main__":
    main()
