"""Learning as the int8 form will compute, so that int8 loses less (docs/shrinking.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from unmask.batch import Batch, Example, collate
from unmask.encoder.int8 import Scales, scales_of, simulate
from unmask.errors import UserError
from unmask.machine.processor import sums_int8_exactly
from unmask.model import Model
from unmask.tasks import Draw, Row, row_rng

EVERY = 50  # updates, after which the scales are measured anew
_TEXTS = 64  # of each task, by which they are


class Int8:
    """Keeps a model's trunk computing as in int8; its weights stay plain ones, in floats.

    Scales follow from the weights and some texts of the training rows. They are measured when the
    run begins, as it goes on, and before each evaluation, as the form will measure them in the end.
    """

    def __init__(self, model: Model, rows: Mapping[str, Sequence[Row]]) -> None:
        """A UserError where a task's passes are none that a form would serve."""
        self.encoder = model.encoder
        self.grids = [grid.to(model.device) for grid in texts_of(model, rows)]
        self.bits = 8 if sums_int8_exactly() else 7  # of matrices, for as long as the run lasts
        self.scales: Scales = {}
        self.measure()

    def measure(self) -> None:
        """Measure the scales of the weights as they are now."""
        self.scales = scales_of(self.encoder, self.grids)
        simulate(self.encoder, self.scales, self.bits)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"bits": self.bits, "scales": self.scales}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as a checkpoint has it."""
        self.bits, self.scales = int(state["bits"]), dict(state["scales"])
        simulate(self.encoder, self.scales, self.bits)


def texts_of(model: Model, rows: Mapping[str, Sequence[Row]]) -> list[Batch]:
    """A grid for each of some texts; a UserError names a task that no int8 form serves."""
    found = []
    for name, own in rows.items():
        task = model.tasks[name]
        reason = "has an adapter" if task.options.adapter is not None else None
        for i in np.unique(np.linspace(0, len(own) - 1, min(_TEXTS, len(own))).astype(int)):
            draw = Draw(row_rng(0, name, 0, int(i)), learn=False, others=own)
            for example in islice(task.examples(own[int(i)], draw), 1):
                for sequence, wanted in zip(example.sequences, example.wanted, strict=True):
                    found.append(collate([Example((sequence,), (wanted,))]))
                    if set(found[-1].features) != {"text"}:
                        reason = "reads more than text"
                    elif sequence.prefix is not None:
                        reason = "writes"
        if reason is not None:
            raise UserError(
                f"task {name} {reason}, which no int8 form serves: leave train.simulate out, or "
                "let this task learn in a run of its own"
            )
    if not found:
        raise UserError("train.simulate: int8 learns its scales from texts, and the rows have none")
    return found
