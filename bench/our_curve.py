"""One pretraining run of ours with the held-out loss along the way; prints one JSON object.

Run by `bench/time_to_loss.py` and `bench/ablations.py`. The loop is the one that `unmask train`
runs; looks at the held-out set stand outside its clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from unmask import recipe
from unmask.batch import Example, Segment, Sequence, collate
from unmask.machine.memory import reuse_freed_memory
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.tasks import OPTIONS
from unmask.training.loop import Loop
from unmask.training.prepare import fitting_precision, prepare
from unmask.training.processes import Processes, choose_device


def held_out_loss(model: Model, held: dict[str, np.ndarray]) -> float:
    """Mean loss at the hidden tokens of texts that stand alone, in fp32."""
    task = next(iter(model.tasks.values()))
    model.eval()
    precision, model.precision = model.precision, "fp32"
    order = np.argsort(held["lengths"])
    total, count = 0.0, 0
    for start in range(0, len(order), 32):
        examples = []
        for i in order[start : start + 32]:
            n = held["lengths"][i]
            wanted = np.flatnonzero(held["truth"][i] >= 0)
            sequence = Sequence((Segment(held["ids"][i][:n]),))
            truth = {"token": held["truth"][i][wanted]}
            examples.append(Example((sequence,), (wanted,), truth))
        with torch.inference_mode():
            outputs, batch = model(task, collate(examples, 64).to(model.device))
            total += float(task.loss(outputs, batch))
        count += task.targets(batch)
    model.precision = precision
    return total / count


def main() -> None:
    """Run, and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True, help="one stage with one task of kind mlm")
    parser.add_argument("--held-out", required=True, help=".npz: ids, lengths, truth (-1: none)")
    parser.add_argument("--looks", type=int, default=10, help="at the held-out set")
    parser.add_argument("--core", type=int, help="compute on this one alone")
    parser.add_argument("changes", nargs="*")
    options = parser.parse_args()

    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    data = recipe.read(Path(options.recipe), options.changes)
    run = next(iter(recipe.parse(data, OPTIONS).values()))
    use_available_cpus()
    reuse_freed_memory()
    alone = Processes(device=choose_device(run.train.device))
    prepared = prepare(run, alone.device)
    model = prepared.model
    model.precision = fitting_precision(run.train.precision, alone.device)
    held = dict(np.load(options.held_out))
    curve = []
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(model, run, prepared.rows("train"), {}, Path(folder), alone, {})
        looks = 0
        while loop.meter.share < 1:
            loop.step()
            if loop.meter.share * options.looks >= looks + 1:
                looks = int(loop.meter.share * options.looks)
                began = time.monotonic()
                used = {"step": loop.meter.steps, "tokens": loop.meter.tokens}
                seconds, loss = loop.meter.seconds, held_out_loss(model, held)
                curve.append({**used, "seconds": seconds, "loss": loss})
                loop.meter.wait(time.monotonic() - began)
    print(
        json.dumps(
            {
                "changes": options.changes,
                "weights": sum(p.numel() for p in model.parameters()),
                "rows": {name: len(rows) for name, rows in prepared.rows("train").items()},
                "curve": curve,
            }
        )
    )


if __name__ == "__main__":
    main()
