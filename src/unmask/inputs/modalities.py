"""What a modality is beside text: a cell of a row becomes a segment of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

from unmask.batch import Segment


@dataclass(frozen=True)
class Outline:
    """What the header of a picture or a recording says of it, before anything is decoded."""

    positions: int  # of its segment; of sound at another rate, to one or two
    dropped: int  # positions that the modality's own caps will cut
    work: int  # bytes of the file, and pixels or samples that will be decoded
    digest: bytes  # of the file


def digest(data: bytes) -> bytes:
    """What tells a file from others: 16 bytes."""
    return blake2b(data, digest_size=16).digest()


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

    def outline(self, cell: Any) -> Outline:
        """What will become of a cell, without decoding it; what can be seen already is refused."""
