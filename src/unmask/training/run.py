"""A whole run: from a recipe to a run folder with its bundle and scores."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from unmask import bundle, files, recipe
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.scores import Score
from unmask.model import Model
from unmask.recipe import Run
from unmask.runtime.memory import reuse_freed_memory
from unmask.runtime.threads import use_available_cpus
from unmask.tasks import OPTIONS
from unmask.training.card import model_card
from unmask.training.loop import evaluate, fit
from unmask.training.prepare import Prepared, prepare

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    folder: Path
    model: Model
    scores: list[Score]
    seconds: float

    @property
    def bundle(self) -> Path:
        """The folder of the trained bundle."""
        return self.folder / "bundle"


def train(
    source: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    changes: Iterable[str] = (),
    overwrite: bool = False,
) -> Trained:
    """Train a recipe (a file, or its content) into the run folder `out`, or `runs/RECIPE`.

    The folder gets `bundle/`, `scores.json`, `metrics.jsonl`, `recipe.yaml` (with every default
    written out) and `checkpoints/`. A recipe with stages has a folder in `stages/` for each stage
    but the last. An old run there goes only with `overwrite`, and only once all rows of the new
    one have been read and its first stage stands ready.
    """
    data = recipe.read(source if isinstance(source, Mapping) else Path(source), changes)
    runs = recipe.parse(data, OPTIONS)
    name = "run" if isinstance(source, Mapping) else Path(source).stem
    folder = Path(out or Path("runs") / name)
    check_room(folder, overwrite)
    use_available_cpus()
    reuse_freed_memory()
    *early, last = runs
    places = {**{stage: folder / "stages" / stage for stage in early}, last: folder}
    for later in list(runs.values())[1:]:
        for task, options in later.tasks.items():
            split_rows(task, options, later.train.seed)
    trained: Trained | None = None
    for stage, run in runs.items():
        if early:
            log.info("stage %s", stage)
        if trained is not None:
            run = _from(run, trained.bundle)
        prepared = prepare(run)
        if trained is None:
            clear(folder)
        trained = _train_one(prepared, run, places[stage])
    assert trained is not None  # a recipe has at least one run
    return trained


def check_room(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or a run that may not be replaced."""
    if files.empty_or_new(folder):
        return
    if not (folder / "recipe.yaml").is_file():
        raise UserError(f"{folder} exists and is no run folder: choose another with --out")
    if not overwrite:
        raise UserError(
            f"{folder} holds a run: choose another folder with --out, or replace it "
            "with --overwrite"
        )


def clear(folder: Path) -> None:
    """An empty folder, whatever stood there."""
    with files.told_of_disk(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


def _from(run: Run, start: Path) -> Run:
    kept = {"dropout": run.encoder.dropout, "attention_dropout": run.encoder.attention_dropout}
    return run.model_copy(
        update={"encoder": recipe.EncoderOptions(source=os.fspath(start), **kept)}
    )


def _train_one(prepared: Prepared, run: Run, folder: Path) -> Trained:
    text = yaml.safe_dump(run.dump(), sort_keys=False, allow_unicode=True)
    files.write_text(folder / "recipe.yaml", text)
    model = prepared.model
    model.precision = fitting_precision(run.train.precision, model.device)
    made = f"in {model.precision} with seed {run.train.seed}"
    began = time.monotonic()
    best = fit(model, run, prepared.rows("train"), prepared.rows("valid"), folder)
    seconds = time.monotonic() - began
    if best is not None:
        model = bundle.load(best).to(model.device)
    model.precision = "fp32"
    found = evaluate(model, prepared.rows("valid"), "valid")
    found += evaluate(model, prepared.rows("test"), "test")
    records = [score.record() for score in found]
    card = model_card(model, run, found, f"{made}, in {seconds / 60:.1f} minutes")
    bundle.save(model, folder / "bundle", recipe=run.dump(), scores=records, card=card)
    files.write_json(folder / "scores.json", records)
    return Trained(folder, model, found, seconds)


def fitting_precision(wanted: str, device: torch.device) -> Any:
    """bf16 where the processor computes in it, else fp32, and said."""
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() if device.type == "cpu" else True
    if wanted == "bf16" and not native:
        log.warning("this processor has no bf16 arithmetic: training in fp32 instead")
        return "fp32"
    return wanted
