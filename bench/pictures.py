"""Pictures: handwritten digits (5 folds) and the groups of emoji, beside two plain baselines.

    UNMASK_DATA=… .venv/bin/python bench/pictures.py digits
    UNMASK_DATA=… .venv/bin/python bench/pictures.py emoji

Ours is the recipe in recipes/, a new encoder each time. The baselines see the same rows: a logistic
regression on pixels, and a small convolutional network that is trained for as many epochs, with the
same augmentation. Nothing is chosen by test rows: each model is scored once, as its training left
it. Results go to bench/results/pictures-WHAT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from machine import machine, versions
from pyarrow import parquet
from results import RESULTS, run
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from unmask.inputs.image import ImageInput
from unmask.recipe import Run, parse, read
from unmask.tasks import OPTIONS

FOLDS = 5
HOUSE = Path(__file__).parent.parent


def folds(what: str, folder: Path) -> list[list[str]]:
    """For each training, what the recipe's sources are to be."""
    if what == "emoji":
        return [[]]
    made = []
    for fold in range(FOLDS):
        own = folder / str(fold)
        script = HOUSE / "examples" / "handwriting.py"
        subprocess.run(
            [sys.executable, str(script), str(own), "--fold", str(fold)],
            check=True,
            capture_output=True,
        )
        made.append([f"tasks.digit.{s}={own}/{s}.parquet" for s in ("train", "test")])
    return made


class Rows:
    """The training and test rows of a recipe's one task, as the encoder sees their pictures."""

    def __init__(self, run: Run) -> None:
        (task,) = run.tasks.values()
        assert run.encoder.image is not None
        self.reader = ImageInput(run.encoder.image)
        self.cells, self.labels = {}, {}
        for split in ("train", "test"):
            path = os.path.expandvars(getattr(task, split).path)
            table = parquet.read_table(path, columns=[task.input.image, task.label])
            self.cells[split] = table.column(0).to_pylist()
            self.labels[split] = np.array(table.column(1).to_pylist())
        self.names = sorted(set(self.labels["train"]))

    def pixels(self, split: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Pictures (N, channels, H, W), augmented where there is `rng`."""
        values = np.stack([self.reader.values(cell, rng) for cell in self.cells[split]])
        return values.transpose(0, 3, 1, 2)

    def accuracy(self, guesses: np.ndarray) -> float:
        """Of guessed labels of the test rows."""
        return float(np.mean(guesses == self.labels["test"]))


def logistic(rows: Rows) -> float:
    """On standardised pixels."""
    train, test = (rows.pixels(s).reshape(len(rows.cells[s]), -1) for s in ("train", "test"))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, rows.labels["train"])
    return rows.accuracy(model.predict(test))


def convolutions(rows: Rows, epochs: int, seed: int) -> float:
    """Three convolutions with batch norm, a mean over the picture, and one matrix."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    channels = rows.pixels("test").shape[1]
    layers: list[nn.Module] = []
    for before, after, stride in ((channels, 32, 1), (32, 64, 2), (64, 128, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, len(rows.names))
    )
    truth = torch.tensor([rows.names.index(label) for label in rows.labels["train"]])
    steps = epochs * -(-len(truth) // 64)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(epochs):
        pixels = torch.from_numpy(rows.pixels("train", rng))
        for some in torch.split(torch.from_numpy(rng.permutation(len(truth))), 64):
            loss = nn.functional.cross_entropy(model(pixels[some]), truth[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    with torch.inference_mode():
        found = model.eval()(torch.from_numpy(rows.pixels("test"))).argmax(-1)
    return rows.accuracy(np.array(rows.names)[found.numpy()])


def one(recipe: Path, changes: list[str], seed: int) -> dict[str, float]:
    """Accuracies of one training of each, and the seconds of ours."""
    (parsed,) = parse(read(recipe, changes), OPTIONS).values()
    rows, (name,) = Rows(parsed), parsed.tasks
    ours = run(recipe, seed, changes, uncalibrated=False)
    found = {
        "ours": ours["scores"][f"{name} accuracy"],
        "logistic regression": logistic(rows),
        "convolutions": convolutions(rows, int(parsed.train.epochs or 0), seed),
        "seconds": ours["seconds"],
    }
    print(found, flush=True)
    return found


def measured(what: str, seeds: int, at_once: int) -> dict[str, list[float]]:
    """What `one` finds for each fold, and for each seed."""
    recipe = HOUSE / "recipes" / ("handwriting.yaml" if what == "digits" else "emoji-groups.yaml")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        jobs = [
            pool.submit(one, recipe, changes, seed)
            for changes in folds(what, Path(folder))
            for seed in range(seeds)
        ]
        done = [job.result() for job in jobs]
    return {key: [each[key] for each in done] for key in done[0]}


def main() -> None:
    """Train, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("digits", "emoji"))
    parser.add_argument("--seeds", type=int, help="1 for the digits' folds, 3 for emoji")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.what == "digits" else 3)
    found = measured(options.what, seeds, options.at_once)
    seconds = found.pop("seconds")
    means = {name: statistics.mean(own) for name, own in found.items()}
    best = max((name for name in means if name != "ours"), key=lambda name: means[name])
    result = {
        "ours": means["ours"],
        "peers": {name: mean for name, mean in means.items() if name != "ours"},
        "ratio": means["ours"] / means[best],
        "unit": "accuracy on test rows, mean",
        "runs": found,
        "seconds": seconds,  # of ours; they mean little where several ran at once
        "at_once": options.at_once,
        "seeds": seeds,
        "machine": machine(),
        "versions": versions(),
    }
    (RESULTS / f"pictures-{options.what}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(means))


if __name__ == "__main__":
    main()
