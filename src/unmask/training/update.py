"""One update: forward and backward over an update's chunks, each task by its true count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unmask.batch import collate
from unmask.model import ROW_TOKENS, Model
from unmask.tasks import row_rng
from unmask.training.stream import Chunk


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
    for number, chunk in enumerate(chunks):
        task = model.tasks[chunk.task]
        batch = collate(chunk.examples, ROW_TOKENS).to(model.device)
        batch = task.prepare(batch, model, row_rng(seed, task.name, step, number))
        batches.append((task, batch))
        targets[task.name] += task.targets(batch)
        tokens[task.name] += chunk.tokens
    losses: dict[str, float] = dict.fromkeys(targets, 0.0)
    for task, batch in batches:
        with model.autocast():
            loss = task.loss(model(task, batch), batch) / targets[task.name]
        share = tokens[task.name] / tokens.total()
        (loss * task.options.weight * share).backward()
        losses[task.name] += float(loss.detach())
    return losses
