"""Pretraining on many tasks against masked words alone, in the same time.

Both sides are recipes/multilingual.yaml: one as it is, the other with two tasks more, of the same
texts: `order` (which part of a description comes first) and `embed` on synopses and their
translations into English. Then, for both: synopses of test packages found among the English ones
by their vectors, and sections learnt from English and told in fifteen languages
(recipes/section.yaml).

    UNMASK_DATA=… .venv/bin/python bench/joint_pretraining.py --minutes 30 --seeds 3
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

import yaml
from machine import machine, run_json, versions
from results import RESULTS, UNMASK, run, spread
from transfer import RECIPES, accuracy

import unmask
from unmask.data.sources import read
from unmask.recipe import Source
from unmask.tasks.search import nearest

Pairs = dict[str, list[tuple[str, str]]]


def pairs(split: str) -> Pairs:
    """Synopses and their English, by language, of packages that have both; no two English alike."""
    folder = Path(os.environ["UNMASK_DATA"]) / "debian" / split
    found: Pairs = {}
    english = {row["id"]: row["synopsis"] for row in read(Source(path=str(folder / "en.parquet")))}
    for file in sorted(folder.glob("*.parquet")):
        if file.stem == "en":
            continue
        own: dict[str, str] = {}
        for row in read(Source(path=str(file))):
            if row["id"] in english:
                own.setdefault(english[row["id"]], row["synopsis"])
        found[file.stem] = [(text, target) for target, text in own.items()]
    return found


def recipes(folder: Path, minutes: float) -> dict[str, Path]:
    """The recipe of each side."""
    alone = yaml.safe_load((RECIPES / "multilingual.yaml").read_text())
    train = {key: value for key, value in alone["train"].items() if key != "tokens"}
    alone["train"] = {**train, "minutes": minutes}
    file = folder / "pairs.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for language, own in pairs("train").items():
            for text, target in own:
                row = {"text": text, "english": target, "language": language}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    words = alone["tasks"]["words"]
    same = {key: words[key] for key in ("train", "input", "tags", "balance")}
    more = {
        "order": {**same, "kind": "order", "valid": None, "max_length": 128},
        "likeness": {
            "kind": "embed",
            "train": str(file),
            "valid": None,
            "input": ["text", "english"],
            "tags": words["tags"],
            "balance": words["balance"],
        },
    }
    joint = {**alone, "tasks": {**alone["tasks"], **more}}
    found: dict[str, Path] = {}
    for side, data in (("masked words alone", alone), ("many tasks", joint)):
        found[side] = folder / f"{len(found)}.yaml"
        found[side].write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return found


def recall(bundle: Path, test: Pairs, limit: int) -> dict[str, float]:
    """How often the nearest of the English synopses is the translation, by language."""
    model = unmask.load(bundle)
    found = {}
    for language, own in test.items():
        some = own[:limit]
        queries, documents = (model.encode([pair[side] for pair in some]) for side in (0, 1))
        tops = nearest(queries, documents, 1, [[] for _ in some])
        found[language] = statistics.mean(top[0] == i for i, top in enumerate(tops))
    return found


def measured(
    side: str, recipe: Path, seed: int, test: Pairs, options: argparse.Namespace
) -> dict[str, Any]:
    """Pretrain one side with one seed; its recall, and what it knows of sections, by language."""
    out = recipe.parent / f"{recipe.stem}-{seed}"
    command = [str(UNMASK), "train", str(recipe), f"train.seed={seed}", "--json"]
    bundle = Path(run_json([*command, "--out", str(out)])["bundle"])
    found = recall(bundle, test, options.limit)
    changes = [f"encoder.from={bundle}", *options.changes]
    done = run(RECIPES / "section.yaml", seed, changes, uncalibrated=False)
    sections = {x: r["value"] for x, r in accuracy(done["records"]).items() if x}
    print(
        f"{side}, seed {seed}: recall {statistics.mean(found.values()):.4f}, "
        f"sections {statistics.mean(sections.values()):.4f}",
        file=sys.stderr,
        flush=True,
    )
    return {"recall_at_1": found, "section": sections}


def main() -> None:
    """Measure, print a line a side, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30, help="of each pretraining")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500, help="synopses of a language")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    parser.add_argument("changes", nargs="*", help="key=value of recipes/section.yaml")
    options = parser.parse_intermixed_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    test = pairs("test")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.at_once) as pool:
        sides = recipes(Path(name), options.minutes)
        # Both sides of a seed one after the other, or at once, so that both meet the same load.
        made = {
            (side, seed): pool.submit(measured, side, recipe, seed, test, options)
            for seed in range(options.seeds)
            for side, recipe in sides.items()
        }
        runs = {
            side: [made[side, seed].result() for seed in range(options.seeds)] for side in sides
        }
    result: dict[str, Any] = {
        "minutes": options.minutes,
        "seeds": options.seeds,
        "at_once": options.at_once,
        "changes": options.changes,
        "sides": {},
    }
    for side, own in runs.items():
        result["sides"][side] = {
            what: {x: spread([one[what][x] for one in own]) for x in own[0][what]}
            for what in own[0]
        }
        means = {
            what: statistics.mean(statistics.mean(one[what].values()) for one in own)
            for what in own[0]
        }
        print(f"{side}: recall at 1 {means['recall_at_1']:.4f}, sections {means['section']:.4f}")
    result |= {"machine": machine(), "versions": versions()}
    (RESULTS / "joint-pretraining.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
