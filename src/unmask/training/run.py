"""A whole run: from a recipe to a run folder with its bundle and scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unmask import bundle, files, recipe
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.fitting import calibrate
from unmask.evaluation.scores import Score
from unmask.machine.memory import reuse_freed_memory
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Run
from unmask.tasks import OPTIONS
from unmask.training import checkpoint, conflicts
from unmask.training.card import model_card
from unmask.training.checkpoint import Checkpoint
from unmask.training.folder import check_recipe, check_room, clear, finished, forget, sweep, tidy
from unmask.training.loop import Loop, evaluate
from unmask.training.prepare import Prepared, prepare
from unmask.training.processes import Processes, joined
from unmask.training.teacher import look_for_teachers

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    folder: Path
    model: Model
    scores: list[Score]
    seconds: float
    anew: bool = True  # trained by this call; False: it was finished before

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
    made: list[Path] = []  # on the way, before the stage that is looked at
    for stage, later in list(runs.items())[1:]:
        for task, options in later.tasks.items():
            split_rows(task, options, later.train.seed)
        made.append(places[list(places)[len(made)]] / "bundle")
        if not (resume and bundle.is_bundle(places[stage] / "bundle")):
            look_for_teachers(later.tasks, made)
    trained: Trained | None = None
    with joined(runs[last].train.device) as processes:
        for stage, run in runs.items():
            if early:
                log.info("stage %s", stage)
            first = trained is None
            if trained is not None:
                run = _from(run, trained.bundle)
                resume = resume and not trained.anew
            place = places[stage]
            start = None
            if resume:
                if finished(place, run, first):
                    log.info("%s is finished: nothing is left to do", place)
                    trained = _trained(place, processes)
                    continue
                check_recipe(place, run, force, first)
                start = checkpoint.newest(place / "checkpoints")
                _check_same(start, processes)
            if start is not None:
                log.info("going on from %s", start.path)
            prepared = prepare(run, processes.device, start.model if start else None)
            processes.wait()  # all have looked at what is there
            if processes.first:
                if first and not resume:
                    clear(folder)
                elif not resume:
                    forget(place)
                sweep(place)
                text = yaml.safe_dump(run.dump(), sort_keys=False, allow_unicode=True)
                files.write_text(place / "recipe.yaml", text)
            processes.wait()
            trained = _train_one(prepared, run, place, processes, start, force)
    assert trained is not None  # a recipe has at least one run
    return trained


def _from(run: Run, start: Path) -> Run:
    kept = {"dropout": run.encoder.dropout, "attention_dropout": run.encoder.attention_dropout}
    return run.model_copy(
        update={"encoder": recipe.EncoderOptions(source=os.fspath(start), **kept)}
    )


def _check_same(start: Checkpoint | None, processes: Processes) -> None:
    """Refuse to go on from different places, as where each node has a run folder of its own."""
    step = start.state["meter"]["steps"] if start is not None else -1
    found = processes.largest({"newest": step, "oldest": -step})
    if found["newest"] != -found["oldest"]:
        raise UserError(
            f"the processes find different checkpoints, of steps {-found['oldest']:.0f} to "
            f"{found['newest']:.0f}: give all of them one run folder, on a file system they share"
        )


def _trained(place: Path, processes: Processes) -> Trained:
    """A run that was finished before; what is left to tidy is tidied."""
    if processes.first:
        tidy(place)
    scores = [Score(**one) for one in files.read_json(place / "bundle" / "scores.json")]
    return Trained(place, bundle.load(place / "bundle"), scores, 0.0, anew=False)


def _train_one(
    prepared: Prepared,
    run: Run,
    folder: Path,
    processes: Processes,
    start: Checkpoint | None,
    force: bool,
) -> Trained:
    model = prepared.model
    prepared.compute_in(run.train.precision)
    made = f"in {model.precision} with seed {run.train.seed}"
    rows = prepared.rows("train")
    teachers = prepared.teachers
    loop = Loop(model, run, rows, prepared.rows("valid"), folder, processes, teachers)
    if start is not None:
        loop.resume(start, force)
    best = loop.fit()
    processes.wait()  # until it is written
    model = bundle.load(best).to(processes.device)
    calibrate(model, prepared.rows("valid"), rows)
    found = evaluate(model, prepared.rows("valid"), "valid", resample=True)
    found += evaluate(model, prepared.rows("test"), "test", resample=True)
    seconds = loop.meter.seconds
    if processes.first:
        records = [score.record() for score in found]
        told = _conflicts(folder) if run.train.conflicts else []
        made = f"{made}, in {seconds / 60:.1f} minutes" + "".join(
            f"; task {name} was left out at step {step}, as its loss was not finite"
            for name, step in loop.guard.left.items()
        )
        card = model_card(model, run, found, made, told)
        bundle.save(model, folder / "bundle", recipe=run.dump(), scores=records, card=card)
        tidy(folder)
    processes.wait()
    return Trained(folder, model, found, seconds)


def _conflicts(folder: Path) -> list[str]:
    """Write how the tasks' gradients got on into the run folder, and say it."""
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        found = conflicts.summary(lines)
    files.write_json(folder / "conflicts.json", found)
    told = conflicts.said(found)
    for line in told:
        log.info("%s", line)
    return told
