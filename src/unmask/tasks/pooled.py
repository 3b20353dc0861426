"""What the kinds share whose head sees one vector a sequence."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import nn

from unmask.batch import Batch, Sequence
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.recipe import TaskOptions
from unmask.tasks.base import AnyAnswer, AnyOptions, Outputs, Task


class PooledOptions(TaskOptions):
    """How that vector is made."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "label")

    label: str = Field("label", description="the column with the truth")
    head: HeadConfig | None = Field(
        None, description="how logits are made (as the encoder's family makes them unless said)"
    )

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and the label's."""
        return (*super().needed, *((self.label,) if self.label else ()))

    @field_validator("head")
    @classmethod
    def _pooled(cls, head: HeadConfig | None) -> HeadConfig | None:
        if head is not None and head.pooling == "none":
            raise ValueError("pooling: a text has one label, so pool by cls or mean")
        return head


class PooledTask(Task[AnyOptions, AnyAnswer]):
    """A task whose outputs are `width` numbers for each sequence."""

    @property
    def head(self) -> HeadConfig:
        """How this task's logits are made."""
        return getattr(self.options, "head", None) or HeadConfig()

    @property
    def pools(self) -> Literal["mean", "cls"] | None:
        return "mean" if self.head.pooling == "mean" else "cls"

    width: int  # numbers a sequence that the head gives

    def wanted(self, sequence: Sequence) -> np.ndarray:
        """The positions that the head pools."""
        return np.arange(1 if self.head.pooling == "cls" else sequence.length)

    def build(self, encoder: Encoder) -> nn.Module:
        return LabelHead(encoder.config, self.head, self.width)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        x = hidden.wanted  # (N, D)
        return {"logits": head(x, batch.wanted_owner, batch.sequences)}  # (S, width)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["label"])
