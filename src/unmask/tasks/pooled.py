"""What the kinds share whose head sees one vector a sequence."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from unmask.batch import Batch, Sequence
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.recipe import TaskOptions
from unmask.tasks.base import AnyAnswer, AnyOptions, Outputs, Row, Task
from unmask.tasks.known import Known, Score, judge, needs_vectors


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

    width: int  # numbers a sequence that the head gives
    watched: bool = False  # whether outputs hold the vectors too, which say what is known

    def wanted(self, sequence: Sequence) -> np.ndarray:
        """The positions that the head pools."""
        return np.arange(1 if self.head.pooling == "cls" else sequence.length)

    def build(self, encoder: Encoder) -> nn.Module:
        return LabelHead(encoder.config, self.head, self.width)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        seen = hidden.wanted, batch.wanted_owner, batch.sequences  # (N, D), (N,)
        found = {"logits": head(*seen)}  # (S, width)
        if self.watched or needs_vectors(self.calibration.get("known")):
            assert isinstance(head, LabelHead)
            found["vector"] = head.vectors(*seen)  # (S, D)
        return found

    @property
    def known_by(self) -> Score | None:
        """The score that is to say what is known, if any."""
        return None

    def known_of(self, outputs: Outputs) -> Many[Known | None]:
        """Of each sequence whether it is like those learnt from; None where nothing can tell."""
        record = self.calibration.get("known")
        if not record:
            return [None] * len(outputs["logits"])
        own = {name: outputs[name].detach() for name in ("logits", "vector") if name in outputs}
        ready = self._ready(own["logits"].device)
        return judge(record, ready, own.get("vector"), own["logits"])

    def _ready(self, device: torch.device) -> dict[str, Tensor]:
        """The tensors where they are needed, in fp32; made once, or each text would wait."""
        kept: tuple[Any, ...] = self.__dict__.get("_kept", ())
        if not kept or kept[0] is not self.tensors or kept[1] != device:
            ready = {name: t.to(device, torch.float32) for name, t in self.tensors.items()}
            kept = self.__dict__["_kept"] = (self.tensors, device, ready)
        return dict(kept[2])

    def groups(self, rows: Many[Row]) -> np.ndarray:
        """The group of each row, (n,), among which a strange row has no place: its label's."""
        return np.zeros(len(rows), dtype=np.int64)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["label"])
