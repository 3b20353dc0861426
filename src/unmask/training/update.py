"""One update: forward and backward over its microbatches, each task by its true count, a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unmask.batch import collate
from unmask.model import ROW_TOKENS, Model
from unmask.recipe import TrainOptions
from unmask.tasks import Contrast
from unmask.training import parallel
from unmask.training.backward import Part, all_together, one_by_one
from unmask.training.features import Features
from unmask.training.optimiser import Optimiser, gradient_norm
from unmask.training.processes import Processes
from unmask.training.share import Microbatch, share_out
from unmask.training.stream import Chunk


@dataclass(frozen=True)
class Gradient:
    """What an update found out: the gradient itself is in the weights' `.grad`."""

    losses: dict[str, float]  # the mean of each task, over the targets of all processes
    norm: float


def gradient(
    model: Model,
    chunks: Sequence[Chunk],
    options: TrainOptions,
    step: int,
    processes: Processes,
    features: Features | None = None,
) -> Gradient:
    """The gradient of an update's loss, the same on all processes.

    All that is random in it follows from the seed, the step and the process, so there is no
    random state to keep. `features` are those of a trunk that is frozen.
    """
    torch.manual_seed(_seed(options.seed, step, processes.rank))
    microbatches = share_out(chunks, options.microbatch_tokens, processes)
    tokens = {chunk.task: chunk.tokens for chunk in chunks}
    share = {task: count / sum(tokens.values()) for task, count in tokens.items()}
    scale = parallel.gradient_scale(options.parallel, processes)
    losses = accumulate(model, microbatches, share, processes, options, scale, features)
    parallel.sum_gradients(model, processes)
    return Gradient(losses, float(gradient_norm(model)))


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
) -> dict[str, float]:
    """Add this process's part of the gradient to the weights' `.grad`; the mean loss of each task.

    A task's loss is its sum over all the update's targets divided by their number, however the
    update is split into microbatches and over processes. Tasks are weighted by their `share` of
    the update's tokens and by their own `weight`.
    """
    model.train()
    parts: dict[str, list[Part]] = {task: [] for task in share}
    own: Counter[str] = Counter(dict.fromkeys(share, 0))
    for micro in microbatches:
        batch = collate(micro.examples, ROW_TOKENS).to(model.device)
        task = model.tasks[micro.task]
        hidden = None if features is None else features.hidden(model, task, micro.examples)
        parts[micro.task].append(Part(batch, micro.counted, hidden))
        own[micro.task] += micro.counted and model.tasks[micro.task].targets(batch)
    targets = processes.total(own)
    losses = {}
    for name, some in parts.items():
        task = model.tasks[name]
        weight = task.options.weight * share[name] * scale
        if features is not None:  # the trunk is frozen, and without dropout
            model.encoder.train(task.options.adapter is not None)
        if isinstance(task, Contrast):
            losses[name] = all_together(model, task, some, targets[name], weight, processes)
        else:
            losses[name] = one_by_one(model, task, some, targets[name], weight, options)
    return processes.total({name: float(loss) for name, loss in losses.items()})


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)
