"""Kinds whose loss sets all examples of an update against one another, and that loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.batch import Batch
from unmask.tasks.base import AnyAnswer, AnyOptions, Outputs, Task


class Contrast(Task[AnyOptions, AnyAnswer]):
    """A kind whose loss is not a sum over examples, since each is told from the others.

    The more there are the better, so training hands `contrast` those of a whole update, however it
    was cut into microbatches and over processes (`training/backward.py`).
    """

    @abstractmethod
    def contrast(self, outputs: Outputs, truth: Mapping[str, Tensor]) -> Tensor:
        """The loss summed over all examples, whose outputs and truth lie one below the other.

        Every output is differentiable, and its first dimension is that of the examples' sequences
        (or of the examples), in their order.
        """

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The loss of a batch's examples among themselves."""
        return self.contrast(outputs, batch.truth)


def info_nce(vectors: Tensor, sizes: Tensor, same: Tensor, temperature: float) -> Tensor:
    """The chance, in nats, of finding each document by its query and each query by its document.

    InfoNCE (arXiv:1807.03748) with in-batch negatives, both directions averaged, summed over the E
    examples: (). An example has `sizes` (E,) sequences of `vectors` (S, D): a query, its document,
    and any negatives of its own. `same` (S,) has equal numbers where two sequences must not be
    told apart: what is the same as a query or as its document is no negative of it, nor is a
    document of the same query.
    """
    query = sizes.cumsum(0) - sizes  # (E,)
    more = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
    more[query] = more[query + 1] = False
    candidate = torch.cat((query + 1, more.nonzero()[:, 0]))  # (C,): documents, then negatives
    scores = vectors[query] @ vectors[candidate].T / temperature  # (E, C)
    E = len(query)
    alike = same[candidate] == same[query + 1][:, None]
    alike |= same[candidate] == same[query][:, None]
    alike[:, :E] |= same[query] == same[query][:, None]
    alike.fill_diagonal_(False)
    scores = scores.masked_fill(alike, -torch.inf)
    own = torch.arange(E, device=vectors.device)
    there = F.cross_entropy(scores, own, reduction="sum")
    back = F.cross_entropy(scores[:, :E].T, own, reduction="sum")
    return (there + back) / 2
