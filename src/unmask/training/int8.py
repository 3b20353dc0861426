"""Learning as the int8 form will compute, so that int8 loses less (docs/shrinking.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unmask.batch import Batch, Example, collate
from unmask.encoder.int8 import Scales, scales_of, simulate
from unmask.errors import UserError
from unmask.machine.processor import sums_int8_exactly
from unmask.model import Model
from unmask.tasks import Draw, Row, row_rng

_TEXTS = 64  # of each task, by which scales are measured


class Int8:
    """Keeps a model's trunk computing as in int8; its weights stay plain ones, in floats.

    Scales follow from the weights and the first texts of the training rows. They are measured
    when the run begins and before each evaluation, as the form will measure them in the end.
    """

    def __init__(self, model: Model, rows: Mapping[str, Sequence[Row]]) -> None:
        """A UserError where no row has a text that a form would read."""
        self.encoder = model.encoder
        self.grids = [grid.to(model.device) for grid in _grids(model, rows)]
        if not self.grids:
            raise UserError(
                "train.simulate: int8 learns its scales from texts that the trunk reads without "
                "an adapter, and the training rows have none"
            )
        self.scales: Scales = {}
        self.measure()

    def measure(self) -> None:
        """Measure the scales of the weights as they are now."""
        self.load(scales_of(self.encoder, self.grids))

    def load(self, scales: Scales) -> None:
        """Go on with these scales."""
        self.scales = scales
        simulate(self.encoder, scales, 8 if sums_int8_exactly() else 7)


def _grids(model: Model, rows: Mapping[str, Sequence[Row]]) -> Iterator[Batch]:
    """A grid for each of some texts, of what forms serve."""
    for name, own in rows.items():
        task = model.tasks[name]
        if task.options.adapter is not None:
            continue
        for i in np.unique(np.linspace(0, len(own) - 1, min(_TEXTS, len(own))).astype(int)):
            draw = Draw(row_rng(0, name, 0, int(i)), learn=False, others=own)
            for example in task.examples(own[int(i)], draw):
                for sequence, wanted in zip(example.sequences, example.wanted, strict=True):
                    grid = collate([Example((sequence,), (wanted,))])
                    if set(grid.features) == {"text"}:
                        yield grid
