"""Early exits: learning heads for lower layers, and how sure they must be to answer.

The heads imitate the whole model's answers on the training rows, its weights frozen (as in DeeBERT,
Xin et al., arXiv:2004.12993, and FastBERT, Liu et al., arXiv:2004.02178). One limit on their doubt
is taken from validation rows, so that answers differ from the whole model's no more often than
was asked (as in CALM, Schuster et al., arXiv:2207.07061).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask import bundle, files, progress
from unmask.batch import Batch, Example
from unmask.data.rows import Rows
from unmask.encoder import Exits, LabelHead, doubt, pool_mean
from unmask.errors import UserError
from unmask.evaluation.fitting import calibrate
from unmask.jobs import unseen
from unmask.model import Model
from unmask.runtime.exits import EXITS, save
from unmask.runtime.stored import CHOICE, FORMS, Settings, record
from unmask.shrink import measure
from unmask.shrink.material import Material
from unmask.tasks import Row
from unmask.tasks.calibration import fit_temperature
from unmask.tasks.classify import Classify
from unmask.tasks.imitation import towards
from unmask.tasks.promises import CERTAINTY

_ROWS = 8192  # training rows that are learnt from, at most
_EPOCHS, _BATCH, _RATE = 20, 128, 1e-3  # of a head, on vectors that are computed once
TIMED, _ROUNDS = 128, 7  # rows that speed is measured on, and how often: it decides
_FASTER = 1.05  # times as fast; less may be noise
_FIT = 5  # a fifth of the validation rows fits temperatures, and says which limits are tried
_STEPS = 100  # of them


@dataclass(frozen=True)
class Seen:
    """Of rows what the head would see below the last layer, and what it says above it."""

    vectors: Tensor  # (n, L - 1, D), pooled
    logits: Tensor  # (n, C), of the whole model


def leave_early(model: Model, material: Material, share: float, place: Path) -> dict[str, Any]:
    """Let the bundle at `place`, which holds this model, answer early; what that promises and does.

    Probabilities and promises are fitted to the answers as they are then. What is known goes, for
    vectors of different layers have no distance. A UserError where this does not pay.
    """
    exits, found = learn(model, material, share)
    early, name = bundle.load(place), found["task"]
    early.exits = {name: exits}
    own = material.splits[name]
    assert own.valid is not None
    calibrate(early, {name: own.valid}, {})
    held = material.held()[name]
    found |= {"split": held.split, **_measured(early, model, name, held.rows)}
    if found["faster"] < _FASTER:
        raise UserError(
            f"--to exits={share:g} does not pay: {found['layers']:.0%} of the layers are computed, "
            f"and answers come {found['faster']:.2f} times as fast; ask for a smaller share"
        )

    def write(folder: Path) -> None:
        form = folder / FORMS / EXITS
        form.mkdir(parents=True)
        save(exits, name, form)
        files.write_json(form / "form.json", record(folder, EXITS))
        calibrations = {name: early.task(name).calibration}
        files.write_json(form / "contract.json", {**found, "calibrations": calibrations})
        files.write_json(folder / CHOICE, {"form": EXITS, "settings": asdict(Settings())})

    bundle.change(place, write)
    return found


def _measured(early: Model, model: Model, name: str, rows: Rows) -> dict[str, Any]:
    """How often answers to rows are the same, where they leave, and how much faster they come."""
    labels, layers = outcome(early, name, rows)
    whole, all_layers = outcome(model, name, rows)
    ours, theirs = (measure.answers(one, name) for one in (early, model))
    speed = measure.speed(ours, theirs, list(rows[:TIMED]), _ROUNDS)
    count = torch.bincount(layers, minlength=int(all_layers[0]) + 1)[1:]
    return {
        "compared": len(rows),
        "same": float((labels == whole).float().mean()),
        "layers": float((layers / all_layers).mean()),
        "left": (count / len(rows)).tolist(),  # the share that left behind each layer
        "faster": speed["faster"],
    }


def can_leave(model: Model, material: Material) -> Classify:
    """The task that can leave early; a UserError says why there is none."""
    said = "--to exits: answers can come early"
    tasks = list(model.tasks.values())
    if len(tasks) != 1 or not isinstance(tasks[0], Classify):
        kinds = ", ".join(f"{one.name} ({one.kind})" for one in tasks) or "no task"
        raise UserError(f"{said} in a bundle with one task, of kind classify; it has {kinds}")
    task = tasks[0]
    if task.options.multi_label or task.options.calibrate == "vector" or task.options.adapter:
        raise UserError(
            f"{said} where a row has one label, without an adapter and `calibrate: vector`; task "
            f"{task.name} is not so"
        )
    if model.encoder.config.num_layers < 2:
        raise UserError(f"{said} where there are two layers or more; there is one")
    own = material.splits.get(task.name)
    if own is None or own.train is None or own.valid is None:
        raise UserError(
            f"{said} by training and validation rows, and task {task.name} has not both: give "
            "--recipe"
        )
    return task


def learn(model: Model, material: Material, share: float) -> tuple[Exits, dict[str, Any]]:
    """Exits by which at least this share of answers stays what it was, and what is promised.

    A UserError where the validation rows cannot promise that.
    """
    task = can_leave(model, material)
    own = material.splits[task.name]
    assert own.train is not None
    assert own.valid is not None
    # By chance, for a file may have its languages one behind the other, or in turn.
    chance = np.random.default_rng(0)
    train, rows = own.train.pick(chance.permutation(len(own.train))[:_ROWS]), own.valid
    with progress.bar("what each layer sees", len(train) + len(rows)) as advance:
        learnt, held = look(model, task, train, advance), look(model, task, rows, advance)
    heads: dict[int, LabelHead] = {}
    with progress.bar("exits", learnt.vectors.shape[1], unit="") as advance:
        for number in range(1, model.encoder.config.num_layers):
            heads[number] = imitating(model, task, learnt.vectors[:, number - 1], learnt.logits)
            advance(1)
    logits, whole = _logits(heads, held.vectors), held.logits.argmax(-1)
    # What is promised is judged by other rows than these.
    fit = torch.from_numpy(chance.permutation(len(rows)) % _FIT == 0)
    temperatures = [
        fit_temperature(own.numpy(), whole[fit].numpy())["temperature"]
        for own in logits[fit].unbind(1)
    ]
    logits = logits / torch.tensor(temperatures)[:, None]
    steps = ladder(limits(logits[fit]), logits[~fit], whole[~fit])
    limit, count = loosest(steps, 1 - share), int((~fit).sum())
    if limit == -math.inf:
        raise UserError(
            f"--to exits={share:g}: {count} validation rows do not show that so many answers would "
            "stay as they are; ask for less, or hold out more rows"
        )
    exits = Exits(heads, dict(zip(heads, temperatures, strict=True)), limit)
    return exits, {"task": task.name, "promised": share, "certainty": CERTAINTY, "rows": count}


def look(model: Model, task: Classify, rows: Sequence[Row], advance: Any = None) -> Seen:
    """Compute rows to the end, and keep what each layer makes of them."""
    head, encoder = model.head(task.name), model.encoder

    def finish(own: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
        batch = model.grid(own)
        S = batch.sequences
        states = encoder(batch, layers=True).layers[1:]
        seen = (batch.gather(encoder.norm(x)) for x in states)
        pooled = [pool_mean(x, batch.wanted_owner, S) for x in seen]  # with `cls` each has one
        logits = head(pooled[-1], torch.arange(S), S)
        return list(zip(torch.stack(pooled[:-1], 1).cpu(), logits.cpu(), strict=True))

    examples = (unseen(task, row, i) for i, row in enumerate(rows))
    vectors, logits = zip(*model.run(examples, finish, advance), strict=True)
    # Cloned, for what was made in inference mode can be part of nothing that learns.
    return Seen(torch.stack(vectors).clone(), torch.stack(logits).clone())


def imitating(model: Model, task: Classify, vectors: Tensor, logits: Tensor) -> LabelHead:
    """A head that makes of vectors (n, D) the logits (n, C); it begins as the task's own."""
    torch.manual_seed(0)
    head = task.build(model.encoder)
    assert isinstance(head, LabelHead)
    head.load_state_dict(model.head(task.name).state_dict())
    optimiser = torch.optim.AdamW(head.parameters(), lr=_RATE)
    for _ in range(_EPOCHS):
        for some in torch.split(torch.randperm(len(vectors)), _BATCH):
            own = head(vectors[some], torch.arange(len(some)), len(some))
            optimiser.zero_grad()
            torch.autograd.backward(towards(own, logits[some]) / len(some))
            optimiser.step()
    return head.eval()


def limits(logits: Tensor) -> list[float]:
    """Limits on doubt, strict first: by each 1 % more of these rows, (n, L - 1, C), leave."""
    least = doubt(logits).amin(1)  # (n,), in double
    return least.quantile(torch.arange(1, _STEPS + 1).double() / _STEPS).tolist()


def ladder(limits: Sequence[float], logits: Tensor, whole: Tensor) -> list[tuple[float, int, int]]:
    """Of each limit: itself, how many rows there are, and how many get another label by it.

    `logits` (n, L - 1, C) are those of the exits, and `whole` (n,) what the model says at its end.
    """
    doubts, said = doubt(logits), logits.argmax(-1)  # (n, L - 1)
    found = []
    for limit in limits:
        sure = doubts <= limit
        first = sure.int().argmax(1, keepdim=True)
        other = sure.any(1) & (said.gather(1, first).squeeze(1) != whole)
        found.append((limit, len(whole), int(other.sum())))
    return found


def loosest(steps: Sequence[tuple[float, int, int]], risk: float) -> float:
    """The loosest limit by which no more than this share of answers to come changes.

    From strict to loose, until one where so few changes would not be unlikely were the share any
    larger (a test in a fixed order: Angelopoulos et al., arXiv:2110.01052). Minus infinity where
    the strictest is one such.
    """
    from scipy.stats import binom

    found = -math.inf
    for limit, rows, changed in steps:
        if binom.cdf(changed, rows, risk) > 1 - CERTAINTY:
            break
        found = limit
    return found


def outcome(model: Model, name: str, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Which label rows get, and how many layers that took: (n,) each."""
    task, most = model.task(name), model.encoder.config.num_layers

    def finish(
        outputs: dict[str, Tensor], batch: Batch, own: Sequence[Example]
    ) -> list[tuple[int, int]]:
        labels = outputs["logits"].argmax(-1)
        layers = outputs.get("layers", torch.full_like(labels, most))
        return list(zip(labels.tolist(), layers.tolist(), strict=True))

    examples = (unseen(task, row, i) for i, row in enumerate(rows))
    labels, layers = zip(*model.runner(task)(examples, finish), strict=True)
    return torch.tensor(labels), torch.tensor(layers)


def _logits(heads: Mapping[int, LabelHead], vectors: Tensor) -> Tensor:
    """What heads say of vectors (n, L - 1, D): (n, L - 1, C)."""
    n = len(vectors)
    with torch.inference_mode():
        own = [heads[i + 1](x, torch.arange(n), n) for i, x in enumerate(vectors.unbind(1))]
    return torch.stack(own, 1)
