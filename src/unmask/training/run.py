"""A whole run: from a recipe to a run folder with its bundle and scores."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from unmask.training import checkpoint
from unmask.training.card import model_card
from unmask.training.checkpoint import Checkpoint
from unmask.training.loop import Loop, evaluate
from unmask.training.prepare import Prepared, fitting_precision, prepare
from unmask.training.processes import Processes, joined

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
    resume: bool = False,
    force: bool = False,
) -> Trained:
    """Train a recipe (a file, or its content) into the run folder `out`, or `runs/RECIPE`.

    The folder gets `bundle/`, `scores.json`, `metrics.jsonl`, `recipe.yaml` (with every default
    written out) and `checkpoints/`. A recipe with stages has a folder in `stages/` for each stage
    but the last. An old run there goes only with `overwrite`, and only once all rows of the new
    one have been read and its first stage stands ready.

    With `resume` a run that was broken off goes on from its last whole checkpoint as if it had
    never stopped; where there is none it begins. Another recipe, or other rows, than it began with
    are refused unless `force` is set. Under `torchrun` every process calls this alike.
    """
    data = recipe.read(source if isinstance(source, Mapping) else Path(source), changes)
    runs = recipe.parse(data, OPTIONS)
    name = "run" if isinstance(source, Mapping) else Path(source).stem
    folder = Path(out or Path("runs") / name)
    if force and not resume:
        raise UserError("--force is for going on with a run: it needs --resume")
    check_room(folder, overwrite, resume)
    use_available_cpus()
    reuse_freed_memory()
    *early, last = runs
    places = {**{stage: folder / "stages" / stage for stage in early}, last: folder}
    for later in list(runs.values())[1:]:
        for task, options in later.tasks.items():
            split_rows(task, options, later.train.seed)
    trained: Trained | None = None
    with joined(runs[last].train.device) as processes:
        for stage, run in runs.items():
            if early:
                log.info("stage %s", stage)
            if trained is not None:
                run = _from(run, trained.bundle)
            place = places[stage]
            same = not resume or _same_recipe(place, run, force, first=trained is None)
            if resume and same and bundle.is_bundle(place / "bundle"):
                trained = _finished(place)
                continue
            start = checkpoint.newest(place / "checkpoints") if resume else None
            if start is not None:
                log.info("going on from %s", start.path)
            prepared = prepare(run, processes.device, start.model if start else None)
            processes.wait()  # all have looked at what is there
            if processes.first:
                if trained is None and not resume:
                    clear(folder)
                files.sweep(place)
                text = yaml.safe_dump(run.dump(), sort_keys=False, allow_unicode=True)
                files.write_text(place / "recipe.yaml", text)
            processes.wait()
            trained = _train_one(prepared, run, place, processes, start, force)
    assert trained is not None  # a recipe has at least one run
    return trained


def check_room(folder: Path, overwrite: bool, resume: bool = False) -> None:
    """Refuse a folder that holds something else, or a run that may not be replaced."""
    if overwrite and resume:
        raise UserError("--overwrite begins anew and --resume goes on: choose one of them")
    if files.empty_or_new(folder):
        return
    if not (folder / "recipe.yaml").is_file() and not (folder / "stages").is_dir():
        raise UserError(f"{folder} exists and is no run folder: choose another with --out")
    if not overwrite and not resume:
        raise UserError(
            f"{folder} holds a run: choose another folder with --out, go on with it by --resume, "
            "or replace it with --overwrite"
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


def _same_recipe(place: Path, run: Run, force: bool, first: bool) -> bool:
    """Whether a run folder's recipe is this one; another is said, and refused unless forced."""
    if not (place / "recipe.yaml").is_file():
        return True
    old, new = recipe.read(place / "recipe.yaml"), run.dump()
    if not first:  # it starts from the stage before it, wherever that lies now
        old["encoder"] = new["encoder"]
    changes = list(_changes(old, new))
    if not changes:
        return True
    said = f"{place} holds a run of another recipe ({'; '.join(changes[:5])})"
    if not force:
        raise UserError(f"{said}: choose another folder with --out, or go on with --force")
    if any(change.startswith("encoder.") for change in changes):
        raise UserError(f"{said}: a run's encoder stays what it is; choose another folder")
    log.warning("%s; going on all the same", said)
    return False


def _changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield f"{name}: {old} there, {new} here"


def _finished(place: Path) -> Trained:
    log.info("%s is finished: nothing is left to do", place)
    scores = files.read_json(place / "bundle" / "scores.json")
    if not (place / "scores.json").is_file():
        files.write_json(place / "scores.json", scores)
    return Trained(place, bundle.load(place / "bundle"), [Score(**one) for one in scores], 0.0)


def _train_one(
    prepared: Prepared,
    run: Run,
    folder: Path,
    processes: Processes,
    start: Checkpoint | None,
    force: bool,
) -> Trained:
    model = prepared.model
    model.precision = fitting_precision(run.train.precision, model.device)
    made = f"in {model.precision} with seed {run.train.seed}"
    rows = prepared.rows("train")
    loop = Loop(model, run, rows, prepared.rows("valid"), folder, processes)
    if start is not None:
        loop.resume(start, force)
    best = loop.fit()
    processes.wait()  # until it is written
    model = bundle.load(best).to(processes.device)
    found = evaluate(model, prepared.rows("valid"), "valid")
    found += evaluate(model, prepared.rows("test"), "test")
    seconds = loop.meter.seconds
    if processes.first:
        records = [score.record() for score in found]
        card = model_card(model, run, found, f"{made}, in {seconds / 60:.1f} minutes")
        bundle.save(model, folder / "bundle", recipe=run.dump(), scores=records, card=card)
        files.write_json(folder / "scores.json", records)
        checkpoint.keep_newest(folder / "checkpoints")
    processes.wait()
    return Trained(folder, model, found, seconds)
