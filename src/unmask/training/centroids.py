"""A new cosine head begins where its labels' training rows lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.batch import Example
from unmask.encoder import LabelHead
from unmask.model import Model
from unmask.tasks import Draw, Row, Task, row_rng
from unmask.tasks.classify import Classify

PER_LABEL = 64  # rows; more would move the mean little


def begin_at_centroids(model: Model, task: Task[Any, Any], rows: Sequence[Row]) -> None:
    """Let the weights of each label be the mean direction of its first rows' vectors.

    Only in a cosine head for one label a row: others keep the weights that they have. With few
    rows that is a better start than chance (prototypes, Snell et al., arXiv:1703.05175; imprinted
    weights, Qi et al., arXiv:1712.07136).
    """
    head = model.head(task.name)
    if not isinstance(task, Classify) or task.options.multi_label or task.head.cosine is None:
        return
    assert isinstance(head, LabelHead)

    def directions(examples: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
        batch = model.grid(examples)
        wanted = model.encoder(batch, narrow=True, adapter=task.options.adapter).wanted
        vectors = head.vectors(wanted, batch.wanted_owner, batch.sequences)  # (S, D)
        return list(zip(F.normalize(vectors.float(), dim=-1), batch.truth["label"], strict=True))

    weight = head.output.weight  # (C, D)
    sums = torch.zeros_like(weight)
    for direction, label in model.run(_first(task, rows), directions):
        sums[label] += direction
    with torch.no_grad():
        weight.copy_(F.normalize(sums, dim=-1))


def _first(task: Classify, rows: Sequence[Row]) -> Iterator[Example]:
    """Examples of the first rows of each label."""
    seen: Counter[str] = Counter()
    for i, row in enumerate(rows):
        label = task.truth(row)
        seen[label] += 1
        if seen[label] <= PER_LABEL:
            yield from task.examples(row, Draw(row_rng(0, task.name, 0, i), learn=False))
