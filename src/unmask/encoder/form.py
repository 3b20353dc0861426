"""What stands for the encoder where it was compiled for a machine."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from unmask.batch import Batch


class Form(Protocol):
    """The trunk of a model, compiled: from a grid to what heads see of it.

    Heads stay in torch, so any task, any mixture of tasks in one pass and any calibration go on as
    they are. What a form does not serve (its `serves` says so) torch computes.
    """

    name: str  # such as openvino-int8
    precision: str  # fp32, bf16 or int8
    streams: int  # grids that are computed at the same time
    batch_tokens: int  # positions of a grid, padding included

    def serves(self, batch: Batch, adapter: str | None) -> bool:
        """Whether this grid can be computed: one sequence a row, each seeing all of itself."""

    def wanted(self, batch: Batch) -> Tensor:
        """Hidden states at the wanted positions, (N, D)."""

    def pooled(self, batch: Batch, how: Literal["mean", "cls"]) -> Tensor:
        """One vector a sequence: the mean of its hidden states, or the first, (S, D)."""
