"""One update: forward and backward over its chunks, each task by its true count, and a step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from unmask.batch import collate
from unmask.model import ROW_TOKENS, Model
from unmask.recipe import TrainOptions
from unmask.training.optimiser import clip_gradient
from unmask.training.stream import Chunk


def update(
    model: Model,
    optimiser: torch.optim.Optimizer,
    chunks: Sequence[Chunk],
    options: TrainOptions,
    step: int,
) -> tuple[dict[str, float], float]:
    """Change the weights once; the mean loss of each task and the norm of the gradient.

    The weights stay as they are when the gradient is not finite.
    """
    losses = accumulate(model, chunks, options.seed, step)
    norm = clip_gradient(model, options.clip)
    if math.isfinite(norm):
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return losses, norm


def accumulate(model: Model, chunks: Sequence[Chunk], seed: int, step: int) -> dict[str, float]:
    """Add the gradient of an update's loss to the weights' `.grad`; the mean loss of each task.

    A task's loss is its sum over all the update's targets divided by their number, however the
    update is split into chunks. Tasks are weighted by their share of the update's tokens and by
    their own `weight`.
    """
    model.train()
    batches = []
    targets: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for chunk in chunks:
        task = model.tasks[chunk.task]
        batch = collate(chunk.examples, ROW_TOKENS).to(model.device)
        batches.append((task, batch))
        targets[task.name] += task.targets(batch)
        tokens[task.name] += chunk.tokens
    losses: dict[str, float] = dict.fromkeys(targets, 0.0)
    for task, batch in batches:
        with model.autocast():
            loss = task.loss(*model(task, batch)) / targets[task.name]
        share = tokens[task.name] / tokens.total()
        (loss * task.options.weight * share).backward()
        losses[task.name] += float(loss.detach())
    return losses
