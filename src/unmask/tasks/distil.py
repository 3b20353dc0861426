"""`distil`: give within what a teacher gives, from texts alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, Hidden
from unmask.encoder.layer import Layer
from unmask.errors import UserError
from unmask.recipe import Source, TaskOptions
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task


class DistilOptions(TaskOptions):
    """What of the teacher's layers is imitated; nothing is scored, so no rows are held out."""

    kind: Literal["distil"] = "distil"
    valid: Source | float | None = Field(None, description="none: the other tasks are scored")
    teacher_share: float = Field(1.0, ge=1, le=1, description="there is no truth beside it")
    states: bool = Field(True, description="hidden states, layer by layer, where widths are alike")
    relations: bool = Field(True, description="how positions relate to one another (MiniLM)")

    @model_validator(mode="after")
    def _taught(self) -> DistilOptions:
        if self.teacher is None:
            raise ValueError("teacher: name the bundle to learn from")
        if self.valid is not None or self.test is not None:
            raise ValueError("valid, test: there is nothing to score; leave them out")
        if self.adapter is not None:
            raise ValueError("adapter: the trunk itself is taught; leave it out")
        if not (self.states or self.relations):
            raise ValueError("states, relations: both are off, so nothing would be learnt")
        return self


class Inside(nn.Module):
    """What is compared of an encoder; it has no weights of its own."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple, so that its weights stay the encoder's alone

    def forward(self, hidden: Hidden) -> Outputs:
        """States (L, B, T, D), and the last layer's queries, keys and values (3, H, B, T, D/H)."""
        assert hidden.last is not None
        layer = self._encoder[0].layers[-1]
        assert isinstance(layer, Layer)
        x = hidden.layers[-2]
        qkv = layer.attention.qkv(layer.attention_norm(x) if layer.pre_norm else x)
        heads = qkv.unflatten(-1, (3, layer.attention.heads, -1)).permute(2, 3, 0, 1, 4)
        return {"states": torch.stack([*hidden.layers[1:-1], hidden.last]), "heads": heads}


class Distil(Task[DistilOptions, Answer]):
    """Hidden states layer by layer, and the last layer's relations between positions.

    Relations are the softmax of products of queries with queries, keys with keys, and values with
    values (MiniLM, Wang et al., arXiv:2002.10957 and arXiv:2012.15828), so that width and number
    of heads may differ. States are compared directly where both are equally wide (as in TinyBERT,
    arXiv:1909.10351), and otherwise by their relations, as one more kind of them.
    """

    kind = "distil"
    Options = DistilOptions
    headline = "none"
    inward: ClassVar[bool] = True

    @property
    def chooses(self) -> bool:
        return False

    @property
    def one_pass(self) -> bool:
        """It needs a pass that keeps what every layer gave."""
        return False

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        for part in self.windows(row, self.written(row), draw):
            yield Example((part.sequence(),), (np.arange(len(part.ids)),))

    def build(self, encoder: Encoder) -> nn.Module:
        if not encoder.config.num_layers:
            raise UserError(f"task {self.name}: an encoder without layers has nothing to imitate")
        return Inside(encoder)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        found: Outputs = head(hidden)
        return found

    def targets(self, batch: Batch) -> int:
        """Every position."""
        return len(batch.wanted)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Nothing: there is no truth."""
        return outputs["states"].sum() * 0

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        assert batch is not None
        ours, theirs = outputs["states"].float(), others["states"].float()
        alike = ours.shape[-1] == theirs.shape[-1]
        total = ours.new_zeros(())
        if self.options.states and alike:
            total = total + _apart(ours, theirs, batch.wanted)
        related = [*zip(outputs["heads"].float(), others["heads"].float(), strict=True)]
        related = related if self.options.relations else []
        if self.options.states and not alike:
            related.append((ours[-1][None], theirs[-1][None]))
        sees = batch.visible()
        for own, other in related:
            total = total + relation(own, other, sees, batch.wanted) / len(related)
        return total

    def answers(self, outputs: Outputs, batch: Batch, examples: Sequence[Example]) -> list[Answer]:
        raise UserError(f"task {self.name}: kind distil answers nothing; it is there to learn by")

    def surprise(self, answer: Answer, row: Row) -> float:
        return 0.0

    def truth(self, row: Row) -> str:
        return self.shown(row)

    def explain_target(self, outputs: Outputs, answer: Answer) -> Tensor:
        return outputs["states"][-1].sum()


def _apart(ours: Tensor, theirs: Tensor, wanted: Tensor) -> Tensor:
    """Squared distances of states (L, B, T, D) in the unit of the teacher's variance: ().

    Each of our layers is compared with the teacher's at the same height, and they are averaged;
    positions are summed.
    """
    L, K = len(ours), len(theirs)
    total = ours.new_zeros(())
    for i in range(L):
        x, y = (s.flatten(0, 1)[wanted] for s in (ours[i], theirs[round((i + 1) * K / L) - 1]))
        total = total + (x - y).square().mean(-1).sum() / y.var().clamp(min=1e-6)
    return total / L


def relation(ours: Tensor, theirs: Tensor, sees: Tensor | None, wanted: Tensor) -> Tensor:
    """How differently vectors (H, B, T, W) relate positions to those they see: (), summed.

    Both are cut into as many relation heads as divide the heads of each; `sees` is (B, 1, T, T).
    """
    R = math.gcd(len(ours), len(theirs))
    logs = []
    for x in (theirs, ours):
        H, B, T, W = x.shape
        x = x.view(R, H // R, B, T, W).permute(2, 0, 3, 1, 4).flatten(3)  # (B, R, T, W H / R)
        products = x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1])  # (B, R, T, T)
        if sees is not None:  # what padding sees does not count below
            products = products.masked_fill(~sees, -1e4)
        logs.append(products.log_softmax(-1).transpose(1, 2).flatten(0, 1)[wanted])  # (N, R, T)
    p, q = logs
    return F.kl_div(q, p, reduction="sum", log_target=True) / R
