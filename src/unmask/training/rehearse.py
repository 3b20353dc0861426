"""A rehearsal of a run: what the model will see, how much is cut, and what it will cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unmask import recipe
from unmask.batch import Example
from unmask.errors import UserError
from unmask.machine.threads import use_available_cpus
from unmask.recipe import Run
from unmask.tasks import OPTIONS, Draw, Row, Task, row_rng
from unmask.training.int8 import Int8
from unmask.training.optimiser import make_optimiser
from unmask.training.prepare import Prepared, prepare
from unmask.training.processes import Processes, choose_device
from unmask.training.pull import Pull
from unmask.training.stream import MixedStream
from unmask.training.update import apply, gradient

SHOWN = 3
SAMPLED = 1000
UPDATES = 4


def rehearse(source: str | Path | Mapping[str, Any], changes: Iterable[str] = ()) -> dict[str, Any]:
    """Encode a sample of each task's rows and time a few updates; nothing is written.

    Returns, for each task, three encoded examples and the share of rows and tokens cut; and the
    minutes and memory that the run will take. A staged recipe's first stage is rehearsed, since
    the others start from what it leaves.
    """
    data = recipe.read(source if isinstance(source, Mapping) else Path(source), changes)
    run = next(iter(recipe.parse(data, OPTIONS).values()))
    use_available_cpus()
    prepared = prepare(run, choose_device(run.train.device))
    tasks = {
        name: _look(prepared.model.tasks[name], splits.train, run.train.seed)
        for name, splits in prepared.splits.items()
    }
    return {"tasks": tasks, "cost": _cost(prepared, run)}


def _look(task: Task[Any, Any], rows: Any, seed: int) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(rows))[:SAMPLED]
    examples: list[Example] = []
    shown: list[dict[str, Any]] = []
    for row in order.tolist():
        rng = row_rng(seed, task.name, 0, int(rows.ids[row]))
        own = list(task.examples(rows[row], Draw(rng, others=rows)))
        examples += own
        if own and len(shown) < SHOWN:
            shown.append(_shown(task, rows[row], own[0]))
    if not examples:
        raise UserError(f"task {task.name}: no row of a sample of {len(order)} gives an example")
    lengths = [example.length for example in examples]
    dropped = [sum(s.dropped for s in example.sequences) for example in examples]
    return {
        "kind": task.kind,
        "rows": len(rows),
        "sampled": len(order),
        "tokens": {"mean": float(np.mean(lengths)), "longest": int(max(lengths))},
        "cut": {
            "rows": float(np.mean([d > 0 for d in dropped])),
            "tokens": sum(dropped) / (sum(lengths) + sum(dropped)),
        },
        "examples": shown,
    }


def _shown(task: Task[Any, Any], row: Row, example: Example) -> dict[str, Any]:
    parts = example.sequences[0].segments
    ids = [int(i) for part in parts if part.modality == "text" for i in part.values]
    others = [f"({len(p.values)} of {p.modality})" for p in parts if p.modality != "text"]
    return {
        "tokens": [*(task.text.tokenizer.id_to_token(i) for i in ids), *others],
        "ids": ids,
        "wanted": len(example.wanted[0]),
        "truth": task.truth(row),
    }


def _cost(prepared: Prepared, run: Run) -> dict[str, Any]:
    """Minutes and memory, from a few real updates whose weights are thrown away."""
    model, options = prepared.model, run.train
    prepared.compute_in(options.precision)
    rows = prepared.rows("train")
    if options.simulate:
        Int8(model, rows)
    stream = MixedStream.of(model.tasks, rows, run)
    optimiser = make_optimiser(model, options)
    seconds, tokens = [], []
    alone = Processes(device=model.device)
    pull = Pull.of(model.tasks, options)
    for step in range(UPDATES):
        began = time.perf_counter()
        chunks = stream.take(options.batch_tokens, progress=1.0)  # all warm-ups are over
        found = gradient(model, chunks, options, step, alone, None, prepared.teachers, pull)
        apply(optimiser, found, options)
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(chunk.tokens for chunk in chunks))
    pace = float(np.median(seconds[1:]))
    unit, size = options.budget
    updates = {
        "steps": size,
        "tokens": size / float(np.mean(tokens)),
        "epochs": size * sum(map(len, rows.values())) / (max(stream.finished, 1) / UPDATES),
        "minutes": size * 60 / pace,
    }[unit]
    return {
        "updates": round(updates),
        "tokens_per_second": float(np.mean(tokens)) / pace,
        "minutes": updates * pace / 60,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "precision": model.precision,
        "note": "training alone, by the pace of its first updates; evaluations come on top",
    }
