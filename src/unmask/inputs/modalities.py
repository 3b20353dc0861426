"""What a modality is beside text: a cell of a row becomes a segment of a sequence."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from unmask.batch import Segment


class Modality(Protocol):
    """One way in, made of the encoder's options for it; it has no weights."""

    files: bool  # whether a cell may name a file of this machine; a server says no
    cuttable: bool  # whether the first positions are worth something without the rest

    @property
    def width(self) -> int:
        """Numbers that a position has."""

    def segment(self, cell: Any, rng: np.random.Generator | None) -> tuple[Segment, int]:
        """A cell as a segment, and how many positions its own caps cut.

        With `rng` it is to be learned from, and may be augmented. What cannot be read is a
        UserError.
        """
