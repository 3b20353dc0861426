"""All that is known of a run, as plain data: the report and the model card are made of it."""

from __future__ import annotations

import json
import logging
import platform
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask import bundle, files
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.held import own_run, rows_of
from unmask.machine.threads import available_cpus
from unmask.model import Model
from unmask.recipe import Run
from unmask.report.examples import typical
from unmask.tasks import Task

log = logging.getLogger("unmask")

LISTS = ("tasks", "scores", "cube", "duplicates", "confusion", "calibration", "doubt", "worst")
SAMPLE = 500  # rows of a split whose tokens are counted


def gather(run: Path, examples: int = 2, check: Path | None = None) -> dict[str, Any]:
    """The facts of a run folder, or of a bundle that has its recipe with it.

    Its held-out rows are scored anew and `examples` typical hits and misses of each task explained,
    as far as the rows can still be read; else the scores of its training stand, and that is said.
    `check` is a file with what `unmask check --json` printed.
    """
    folder = run / "bundle" if bundle.is_bundle(run / "bundle") else run
    if not bundle.is_bundle(folder):
        raise UserError(f"{run} holds no bundle: give the folder of a finished run, or a bundle")
    own = own_run(folder)
    if own is None:
        raise UserError(f"{folder} was not trained by a recipe, so there is no run to report on")
    behaviour = _behaviour(check)
    model = bundle.load(folder)
    facts: dict[str, Any] = {
        "run": run.resolve().name,
        "bundle": str(folder),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": _model(model, own),
        "weights": files.read_json(folder / bundle.MANIFEST)["sha256"]["model.safetensors"],
        "recipe": (folder / "recipe.yaml").read_text(encoding="utf-8"),
        "seed": own.train.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("unmask", "torch", "tokenizers")},
        },
        "cost": _cost(run / "metrics.jsonl"),
        "machine": _machine(),
        "data": [],
        "explained": [],
        "notes": [],  # beside those of the scores
        "behaviour": behaviour,
    }
    facts["found"] = _scored(folder, own, facts["model"])
    for name, task in model.tasks.items():
        if name in own.tasks:
            _of_task(facts, model, task, own, examples)
    return facts


def _scored(folder: Path, own: Run, trunk: Mapping[str, Any]) -> dict[str, Any]:
    """The result of `evaluate`; where the rows are gone, what of it training has left."""
    try:
        return evaluate(folder, errors=5)
    except UserError as error:
        said = (
            f"its rows could not be scored anew, so the scores are those of its training: {error}"
        )
        path = folder / "scores.json"
        return {
            "bundle": str(folder),
            "bundles": [{"bundle": str(folder), "seed": own.train.seed}],
            "recipe": None,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "precision": "fp32",
            "trunk": trunk,
            "notes": [said],
            **{name: [] for name in LISTS},
            "scores": files.read_json(path) if path.is_file() else [],
        }


def _of_task(
    facts: dict[str, Any], model: Model, task: Task[Any, Any], own: Run, examples: int
) -> None:
    """The task's rows, and explanations of some that were held out."""
    try:
        splits, _ = rows_of(task.name, own.tasks[task.name], own.train.seed)
    except UserError as error:
        facts["notes"].append(f"task {task.name}: its rows cannot be read any more: {error}")
        return
    parts = {split: getattr(splits, split) for split in ("train", "valid", "test")}
    facts["data"] += [
        {"task": task.name, "split": split, **_data(task, rows)}
        for split, rows in parts.items()
        if rows is not None
    ]
    held = parts["test"] if parts["test"] is not None else parts["valid"]
    if held is not None and examples:
        facts["explained"] += typical(model, task, held, examples)


def _model(model: Model, own: Run) -> dict[str, Any]:
    config = model.encoder.config
    return {
        "layers": config.num_layers,
        "width": config.hidden_size,
        "weights": sum(p.numel() for p in model.parameters()),
        "max_length": model.text.max_length,
        "from": own.encoder.source,
        "tasks": [
            {"task": name, "kind": task.kind, "trained": _trained_on(own, name)}
            for name, task in model.tasks.items()
        ],
    }


def _trained_on(own: Run, name: str) -> str | None:
    options = own.tasks.get(name)
    return options.train.path if options is not None and options.train is not None else None


def _cost(path: Path) -> dict[str, Any] | None:
    """What training took, by its journal; None where that is not at hand."""
    if not path.is_file():
        return None
    last: Mapping[str, Any] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if "tokens" in record:
                last = record
    keys = {"steps": "step", "tokens": "tokens", "rows": "rows", "seconds": "seconds"}
    return {name: last.get(key) for name, key in keys.items()} if last else None


def _machine() -> dict[str, Any]:
    """The machine that the report is written on."""
    names = re.search(r"model name\s*:\s*(.+)", _text(Path("/proc/cpuinfo")))
    return {
        "processor": names[1] if names else platform.processor() or platform.machine(),
        "processors": available_cpus(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _data(task: Task[Any, Any], rows: Rows) -> dict[str, Any]:
    """How many rows there are, how long, and of which labels."""
    rng = np.random.default_rng(0)
    some = rng.choice(len(rows), min(len(rows), SAMPLE), replace=False)
    counts = []
    for i in some:
        try:
            counts.append(task.text.count(task.shown(rows[int(i)])))
        except UserError:  # a row that the task refuses is said by `unmask eval`
            continue
    column = getattr(task.options, "label", None)
    labels: Counter[str] = Counter()
    if column and task.kind == "classify":
        values = (rows[i].get(column) for i in range(len(rows)))
        labels.update(str(value) for value in values if isinstance(value, str | int | bool))
    return {
        "rows": len(rows),
        "origin": rows.origin,
        "median_tokens": float(np.median(counts)) if counts else None,
        "long_tokens": float(np.quantile(counts, 0.95)) if counts else None,
        "of": len(counts),
        "number_of_labels": len(labels),
        "labels": labels.most_common(10),
    }


def _behaviour(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("tests"), list):
        raise UserError(f"{path} is not what `unmask check --json` prints: run it again")
    return found
