"""One update: forward and backward over its microbatches, each task by its true count, a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.batch import collate
from unmask.model import ROW_TOKENS, Model
from unmask.recipe import TrainOptions
from unmask.tasks import Contrast
from unmask.training import parallel
from unmask.training.backward import Member, Part, all_together, one_by_one
from unmask.training.conflicts import Conflicts
from unmask.training.features import Features
from unmask.training.optimiser import Optimiser, gradient_norm
from unmask.training.processes import Processes
from unmask.training.pull import Pull
from unmask.training.share import Microbatch, share_out
from unmask.training.stream import Chunk
from unmask.training.teacher import Teacher


@dataclass(frozen=True)
class Gradient:
    """What an update found out: the gradient itself is in the weights' `.grad`."""

    losses: dict[str, float]  # the mean of each task, over the targets of all processes
    norm: float
    lengths: dict[str, float]  # of the tasks' gradients on the trunk, if looked at
    cosines: dict[str, dict[str, float]]  # of two of them


def gradient(
    model: Model,
    chunks: Sequence[Chunk],
    options: TrainOptions,
    step: int,
    processes: Processes,
    features: Features | None = None,
    teachers: Mapping[str, Teacher] | None = None,
    pull: Pull | None = None,
) -> Gradient:
    """The gradient of an update's loss, the same on all processes.

    All that is random in it follows from the seed, the step and the process, so there is no
    random state to keep. `features` are those of a trunk that is frozen; `teachers` are of some
    tasks; a `pull` looks at each update of a run in turn.
    """
    torch.manual_seed(_seed(options.seed, step, processes.rank))
    microbatches = share_out(chunks, options.microbatch_tokens, processes)
    tokens = {chunk.task: chunk.tokens for chunk in chunks}
    share = {task: count / sum(tokens.values()) for task, count in tokens.items()}
    scale = parallel.gradient_scale(options.parallel, processes)
    conflicts = None
    if options.conflicts or pull is not None:
        rng = np.random.default_rng((options.seed, step))
        conflicts = Conflicts(model, options.conflicts, processes, rng, pull)
        if pull is not None:
            pull.begin()
        share = {task: share[task] for task in conflicts.order(share)}
    losses = accumulate(
        model, microbatches, share, processes, options, scale, features, conflicts, teachers
    )
    if conflicts:
        conflicts.join()
    rest = conflicts.rest(model) if conflicts else model.parameters()
    parallel.sum_gradients(rest, processes)
    lengths, cosines = (conflicts.lengths, conflicts.cosines) if conflicts else ({}, {})
    return Gradient(losses, float(gradient_norm(model)), lengths, cosines)


def apply(optimiser: Optimiser, found: Gradient, options: TrainOptions) -> None:
    """Change the weights by the gradient, scaled down to a norm of at most `clip`."""
    optimiser.step(min(1.0, options.clip / max(found.norm, 1e-12)))


def accumulate(
    model: Model,
    microbatches: Sequence[Microbatch],
    share: dict[str, float],
    processes: Processes,
    options: TrainOptions,
    scale: float = 1.0,
    features: Features | None = None,
    conflicts: Conflicts | None = None,
    teachers: Mapping[str, Teacher] | None = None,
) -> dict[str, float]:
    """Add this process's part of the gradient to the weights' `.grad`; the mean loss of each task.

    A task's loss is its sum over all the update's targets divided by their number, however the
    update is split into microbatches and over processes. Tasks are weighted by their `share` of
    the update's tokens and by their own `weight`.
    """
    model.train()
    parts: dict[str, list[Part]] = {task: [] for task in share}
    contents: dict[str, list[Any]] = {task: [] for task in share}
    own: Counter[str] = Counter(dict.fromkeys(share, 0))
    for micro in microbatches:
        batch = collate(micro.examples, ROW_TOKENS).to(model.device)
        task = model.tasks[micro.task]
        hidden = None if features is None else features.hidden(model, task, micro.examples)
        parts[micro.task].append(Part(batch, micro.counted, hidden))
        contents[micro.task].append([s.content for e in micro.examples for s in e.sequences])
        own[micro.task] += micro.counted and task.targets(batch)
    targets = processes.total(own)
    losses: dict[str, Tensor] = {}
    alone = features is not None or options.r_drop or options.adversarial or conflicts
    for names in [[name] for name in share] if alone else _alike(model, contents):
        members = [
            Member(
                model.tasks[name],
                parts[name],
                targets[name],
                model.tasks[name].options.weight * share[name] * scale,
                (teachers or {}).get(name),
            )
            for name in names
        ]
        first = members[0].task
        if features is not None:  # the trunk is frozen, and without dropout
            model.encoder.train(first.options.adapter is not None)
        if isinstance(first, Contrast):
            losses[names[0]] = all_together(model, first, members[0], processes)
        else:
            losses |= zip(names, one_by_one(model, members, options), strict=True)
        if conflicts:
            conflicts.take(names[0])
    return processes.total({name: float(losses[name]) for name in share})


def _alike(model: Model, contents: Mapping[str, Any]) -> list[list[str]]:
    """The tasks of an update, those together whose microbatches are of the same sequences."""
    groups: list[tuple[Any, list[str]]] = []
    for name, content in contents.items():
        task = model.tasks[name]
        key = (task.options.adapter, content) if task.one_pass else name
        fellows = next((names for known, names in groups if known == key), None)
        if fellows is None or isinstance(task, Contrast):
            groups.append((key, [name]))
        else:
            fellows.append(name)
    return [names for _, names in groups]


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)
