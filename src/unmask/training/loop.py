"""The one training loop, read from top to bottom."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unmask import bundle, files, progress
from unmask.errors import UserError
from unmask.evaluation.scores import Score, headline, judge, scores
from unmask.model import Model
from unmask.recipe import Run, TrainOptions
from unmask.tasks import Row
from unmask.training.optimiser import make_optimiser, rate_at, set_rate
from unmask.training.stream import Chunk, MixedStream
from unmask.training.update import update

log = logging.getLogger("unmask")


@dataclass
class Meter:
    """What a run has used of its budget."""

    options: TrainOptions
    epoch_rows: int  # rows that make one epoch, of all tasks
    steps: int = 0
    tokens: int = 0
    rows: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def count(self, chunks: Sequence[Chunk]) -> None:
        """Take an update's chunks as used."""
        self.steps += 1
        self.tokens += sum(chunk.tokens for chunk in chunks)
        self.rows += sum(chunk.rows for chunk in chunks)

    @property
    def share(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        unit, size = self.options.budget
        used = {
            "steps": self.steps,
            "tokens": self.tokens,
            "minutes": self.seconds / 60,
            "epochs": self.rows / max(self.epoch_rows, 1),
        }
        return min(used[unit] / size, 1.0)


def fit(
    model: Model,
    run: Run,
    rows: Mapping[str, Sequence[Row]],
    valid: Mapping[str, Sequence[Row]],
    folder: Path,
) -> Path | None:
    """Train the model's tasks; the folder of the best checkpoint, or None without valid rows.

    Writes `metrics.jsonl` and, at every evaluation, `checkpoints/last` and `checkpoints/best`.
    """
    options = run.train
    torch.manual_seed(options.seed)
    stream = MixedStream.of(model.tasks, rows, run)
    optimiser = make_optimiser(model, options)
    meter = Meter(options, sum(len(r) for r in rows.values()))
    best = -math.inf
    pace = _Pace(options.evaluate_every)
    with (
        files.told_of_disk(folder / "metrics.jsonl"),
        (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1) as metrics,
        progress.bar("train", 1.0, unit="") as advance,
    ):
        while meter.share < 1:
            share = meter.share
            chunks = stream.take(options.batch_tokens, options.microbatch_tokens)
            meter.count(chunks)
            set_rate(optimiser, rate_at((share + meter.share) / 2, options))
            losses, norm = update(model, optimiser, chunks, options, meter.steps)
            _refuse_nan(losses, norm, meter.steps, folder)
            meter.seconds = time.monotonic() - meter.began
            line: dict[str, Any] = {
                "step": meter.steps,
                "tokens": meter.tokens,
                "rows": meter.rows,
                "seconds": round(meter.seconds, 3),
                "rate": optimiser.param_groups[0]["lr"],
                "gradient_norm": norm,
                "loss": losses,
            }
            metrics.write(json.dumps(line) + "\n")
            advance(meter.share - share, _note(meter, losses))

            if pace.due(meter):
                advance(0, "evaluating …")
                found = evaluate(model, valid, "valid")
                if found:
                    value = _mean_headline(model, found)
                    record = {"step": meter.steps, "valid": [s.record() for s in found]}
                    metrics.write(json.dumps(record, ensure_ascii=False) + "\n")
                    log.info("step %d: %s", meter.steps, _summary(model, found))
                    if value > best:
                        best = value
                        bundle.save(model, folder / "checkpoints" / "best")
                bundle.save(model, folder / "checkpoints" / "last")
    return folder / "checkpoints" / "best" if best > -math.inf else None


def evaluate(model: Model, rows: Mapping[str, Sequence[Row]], split: str) -> list[Score]:
    """Scores of each task on its rows."""
    found: list[Score] = []
    for name, own in rows.items():
        task = model.task(name)
        found += scores(task, split, judge(model, task, own), model.precision)
    return found


class _Pace:
    """When to evaluate: every so many steps, or five times a run, and always at its end."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.fifth = 1

    def due(self, meter: Meter) -> bool:
        share = meter.share
        if self.every is not None:
            return share >= 1 or meter.steps % self.every == 0
        if share < self.fifth / 5:
            return False
        self.fifth = int(share * 5) + 1
        return True


def _mean_headline(model: Model, found: Sequence[Score]) -> float:
    names = {score.task for score in found}
    return sum(headline(model.tasks[name], found) for name in names) / len(names)


def _summary(model: Model, found: Sequence[Score]) -> str:
    whole = {s.task: s for s in reversed(found) if s.metric == model.tasks[s.task].headline}
    return ", ".join(f"{name} {s.metric} {s.value:.4f}" for name, s in sorted(whole.items()))


def _note(meter: Meter, losses: Mapping[str, float]) -> str:
    rate = meter.tokens / max(meter.seconds, 1e-9)
    shown = " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    return f"{rate:,.0f} tokens/s  step {meter.steps}  loss {shown}"


def _refuse_nan(losses: Mapping[str, float], norm: float, step: int, folder: Path) -> None:
    bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
    if bad or not math.isfinite(norm):
        tasks = ", ".join(bad or losses)
        raise UserError(
            f"task {tasks}: the loss or its gradient is not finite at step {step}; lower "
            f"train.learning_rate or set train.precision=fp32. What was saved before stands in "
            f"{folder}/checkpoints"
        )
