"""The one training loop, read from top to bottom."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask import progress
from unmask.data.corpus import CorpusRows
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.scores import Score, headline, judge, scores
from unmask.model import Model
from unmask.recipe import Run
from unmask.tasks import Row
from unmask.training import checkpoint, parallel
from unmask.training.checkpoint import Checkpoint
from unmask.training.features import ROOM, Features
from unmask.training.guard import Guard
from unmask.training.int8 import EVERY, Int8
from unmask.training.journal import Journal
from unmask.training.meter import Meter
from unmask.training.optimiser import make_optimiser
from unmask.training.processes import Processes
from unmask.training.pull import Pull
from unmask.training.schedule import batch_tokens_at, longest_at, rate_at
from unmask.training.stop import Stop, Stopped
from unmask.training.stream import MixedStream
from unmask.training.teacher import Teacher
from unmask.training.update import apply, gradient

log = logging.getLogger("unmask")


class Loop:
    """One run from its first update, or from a checkpoint, to the end of its budget."""

    def __init__(
        self,
        model: Model,
        run: Run,
        rows: Mapping[str, Sequence[Row]],
        valid: Mapping[str, Sequence[Row]],
        folder: Path,
        processes: Processes,
        teachers: Mapping[str, Teacher],
    ) -> None:
        """Take up a model, whose weights are the same on all processes."""
        self.model, self.options = model, run.train
        self.rows = {name: fingerprint(own, valid.get(name)) for name, own in rows.items()}
        self.valid, self.folder, self.processes = valid, folder, processes
        self.teachers = teachers
        parallel.spread(model, self.options.parallel, processes)
        # What is sharded is gathered by a pass through the whole model, and by no other.
        room = 0 if self.options.parallel == "shard" else ROOM
        self.features = Features(room) if run.train.frozen else None
        self.int8 = Int8(model, rows) if self.options.simulate else None
        self.stream = MixedStream.of(model.tasks, rows, run)
        self.pull = Pull.of({name: model.tasks[name] for name in rows}, self.options)
        self.optimiser = make_optimiser(model, self.options)
        self.meter = Meter(self.options, sum(len(r) for r in rows.values()))
        most = model.text.max_length
        self.longest = max(task.options.max_length or most for task in model.tasks.values())
        self.guard = Guard(self.options.clip, rows, self.options.lost_task == "leave")
        self.best = -math.inf  # the highest mean of the tasks' headlines
        self.worse = 0  # evaluations since then
        self.last = folder / "checkpoints"  # the newest checkpoint, once there is one
        self.journal = Journal(folder / "metrics.jsonl" if processes.first else None)

    def resume(self, start: Checkpoint, force: bool = False) -> None:
        """Go on from a checkpoint, whose weights the model holds already.

        Other rows than those it began with are refused unless forced.
        """
        state = start.state
        other = [name for name, rows in self.rows.items() if state["rows"].get(name) != rows]
        if other:
            said = f"{start.path} was made with other rows of {', '.join(other)} than there are now"
            if not force:
                raise UserError(f"{said}: bring those back, or go on with --force")
            log.warning("%s; going on all the same", said)
        for key, value in self.machine().items():
            if state["machine"].get(key) != value:
                log.warning(
                    "the run had %s %s and has %s now: its last digits will differ from those of "
                    "a run that never stopped", key, state["machine"].get(key), value
                )  # fmt: skip
        self.optimiser.load(start.moments)
        start.moments.clear()  # they take twice the memory of the model
        self.last = start.path
        self.guard.load(state["guard"])
        self._leave_lost()
        if self.int8 is not None and state.get("int8"):
            self.int8.load(state["int8"])
        if self.pull is not None and state.get("pull"):
            self.pull.load(state["pull"])
        self.stream.load(state["stream"])
        self.meter.load(state["meter"])
        self.best = -math.inf if state["best"] is None else state["best"]
        self.worse = state["worse"]
        if checkpoint.best_hash(self.folder / "checkpoints") != state["best_hash"]:
            log.info("checkpoints/best is not what it was then: it is chosen anew from here on")
            self.best = -math.inf
        self.journal.back_to(state["lines"])

    def fit(self) -> Path:
        """Train; the folder of the best checkpoint, or of the last where no valid rows choose.

        Writes `metrics.jsonl`, `checkpoints/step-…` to go on from, and at an evaluation that beats
        those before it `checkpoints/best`. SIGTERM and Ctrl-C end it after the update under way,
        once that is saved.
        """
        meter = self.meter
        with (
            Stop() as stop,
            progress.bar("train", 1.0, unit="", shown=self.processes.first) as advance,
        ):
            advance(meter.share, "")
            while (meter.share < 1 and not self.tired) or meter.score_due:
                before = meter.share
                losses = {} if meter.score_due else self.step()  # due: it was broken off
                advance(meter.share - before, self._note(losses))
                if meter.score_due:
                    advance(0, "evaluating …")
                    with suppress(Stopped):  # then the scores are made when the run goes on
                        self.score(stop)
                asked = self.processes.largest({"stop": stop.asked or 0})["stop"]
                if asked or meter.save_due or self.tired:
                    self.save()
                if asked:
                    log.info("step %d is saved; go on from there with --resume", meter.steps)
                    stop.go(int(asked))
            if stop.asked:  # since the last look
                stop.go(stop.asked)
        self.guard.end(meter.steps)
        return self.folder / "checkpoints" / checkpoint.BEST if self.best > -math.inf else self.last

    @property
    def tired(self) -> bool:
        """Whether the scores have stopped to rise, and the recipe has no patience left."""
        return self.worse >= (self.options.patience or math.inf)

    def step(self) -> dict[str, float]:
        """One update; the mean loss of each task."""
        meter, options = self.meter, self.options
        if self.int8 is not None and meter.steps % EVERY == 0:
            self.int8.measure()
        share = meter.share
        chunks = self.stream.take(
            batch_tokens_at(share, options),
            share,
            longest_at(share, self.longest, options),
        )
        meter.count(chunks)
        self.optimiser.set_rate(rate_at((share + meter.share) / 2, options))
        found = gradient(
            self.model,
            chunks,
            options,
            meter.steps,
            self.processes,
            self.features,
            self.teachers,
            self.pull,
        )
        if self.guard.judge(meter.steps, found.losses, found.norm):
            apply(self.optimiser, found, options)
        self.optimiser.zero_grad()
        self._leave_lost()
        meter.seconds = self.processes.largest({"seconds": meter.elapsed()})["seconds"]
        self.journal.write(
            {
                "step": meter.steps,
                "tokens": meter.tokens,
                "rows": meter.rows,
                "seconds": round(meter.seconds, 3),
                "rate": self.optimiser.rate,
                "gradient_norm": _finite(found.norm),
                "loss": _finites(found.losses),
                **({"lengths": _finites(found.lengths)} if found.lengths else {}),
                **(
                    {"cosines": {a: _finites(own) for a, own in found.cosines.items()}}
                    if found.cosines
                    else {}
                ),
            }
        )
        return found.losses

    def _leave_lost(self) -> None:
        """Do without the tasks that the guard has given up, which are then not chosen by either."""
        for name in self.guard.left.keys() & self.stream.streams.keys():
            self.meter.leave(len(self.stream.streams[name].rows))
            self.stream.leave(name)
            self.valid = {other: rows for other, rows in self.valid.items() if other != name}
            # A mean of other tasks is no better or worse than what there was.
            self.best, self.worse = -math.inf, 0

    def score(self, stop: Stop) -> None:
        """Score the validation rows; keep the model if it is the best so far."""
        model, step = self.model, self.meter.steps
        if self.int8 is not None:
            self.int8.measure()
        # Processes that share weights need one another to the end of it.
        with nullcontext() if self.options.parallel == "shard" else stop.at_once():
            found = evaluate(model, self.valid, "valid")
        self.meter.score_done()
        if not found:
            return
        self.journal.write({"step": step, "valid": [s.record() for s in found]})
        log.info("step %d: %s", step, _summary(model, found))
        if not any(model.tasks[score.task].chooses for score in found):
            return
        value = _mean_headline(model, found) if self.processes.first else -math.inf
        value = self.processes.largest({"value": value})["value"]  # all take it for the same
        if value > self.best:
            self.best = value
            self.worse = 0
            checkpoint.save_best(self.folder / "checkpoints", model, self.processes)
        else:
            self.worse += 1
            if self.tired:
                log.info("step %d: %d evaluations without a better score", step, self.worse)

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        meter = self.meter
        meter.saved = meter.seconds
        self.journal.flush()
        place = self.folder / "checkpoints"
        state = {
            "stream": self.stream.state(),
            "meter": meter.state(),
            "guard": self.guard.state(),
            "int8": self.int8.state() if self.int8 is not None else None,
            "pull": self.pull.state() if self.pull is not None else None,
            "best": self.best if self.best > -math.inf else None,
            "best_hash": checkpoint.best_hash(place),
            "worse": self.worse,
            "lines": self.journal.lines,
            "rows": self.rows,
            "machine": self.machine(),
        }
        self.last = checkpoint.save(
            place, meter.steps, self.model, self.optimiser, state, self.processes
        )

    def machine(self) -> dict[str, Any]:
        """What the last digits of a result depend on."""
        return {
            "processes": self.processes.size,
            "threads": torch.get_num_threads(),
            "device": self.processes.device.type,
            "precision": self.model.precision,
            "torch": torch.__version__,
        }

    def _note(self, losses: Mapping[str, float]) -> str:
        meter = self.meter
        shown = " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        pace = meter.tokens / max(meter.seconds, 1e-9)
        return f"{pace:,.0f} tokens/s  step {meter.steps}  loss {shown}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no word for the others


def _finites(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def fingerprint(*splits: Sequence[Row] | None) -> str:
    """A short name for these rows: their number, their places, and some of them."""
    digest = blake2b(digest_size=8)
    for rows in splits:
        if rows is not None:
            some = [rows[i] for i in range(0, len(rows), max(len(rows) // 64, 1))]
            digest.update(json.dumps([len(rows), some], default=repr).encode())
            if isinstance(rows, CorpusRows):
                digest.update("".join([repr(rows.ids), *rows.content()]).encode())
            elif isinstance(rows, Rows):
                digest.update(np.asarray(rows.ids).tobytes())
    return digest.hexdigest()


def evaluate(
    model: Model, rows: Mapping[str, Sequence[Row]], split: str, resample: bool = False
) -> list[Score]:
    """Scores of each task on its rows, with intervals if asked for."""
    tasks = [(model.task(name), own) for name, own in rows.items()]
    judged = judge(model, tasks)
    return [
        score
        for (task, _), own in zip(tasks, judged, strict=True)
        for score in scores(task, split, own, model.precision, resample)
    ]


def _mean_headline(model: Model, found: Sequence[Score]) -> float:
    names = {score.task for score in found if model.tasks[score.task].chooses}
    return sum(headline(model.tasks[name], found) for name in names) / len(names)


def _summary(model: Model, found: Sequence[Score]) -> str:
    whole = {s.task: s for s in reversed(found) if s.metric == model.tasks[s.task].headline}
    return ", ".join(
        f"{name} {s.metric} {s.reason if s.value is None else format(s.value, '.4f')}"
        for name, s in sorted(whole.items())
    )
