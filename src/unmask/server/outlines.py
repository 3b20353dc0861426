"""Pictures and recordings as far as the server itself reads them: their headers.

What strangers send is decoded in the workers alone. The server counts the positions and what the
decoding will cost, and refuses what can be seen to be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from unmask.batch import Segment, Sequence
from unmask.inputs.modalities import Modality, Outline
from unmask.inputs.readers import readers_of
from unmask.recipe import AudioOptions, ImageOptions

WORK = 1 << 14  # pixels or samples whose decoding counts as one token


class Outlined:
    """A modality whose segments are as long as they will be, and hold nothing."""

    files = False  # nobody's request names a file of this machine

    def __init__(self, name: str, reader: Modality) -> None:
        self.name = name
        self.reader = reader
        self.cuttable = reader.cuttable
        reader.files = False

    @property
    def width(self) -> int:
        """Numbers that a position has."""
        return self.reader.width

    def outline(self, cell: Any) -> Outline:
        """The reader's own."""
        return self.reader.outline(cell)

    def segment(self, cell: Any, rng: np.random.Generator | None) -> tuple[Segment, int]:
        """Zeros (n, width), whose origin is the outline, and how many positions will be cut."""
        found = self.reader.outline(cell)
        values = np.broadcast_to(np.float32(0), (found.positions, self.width))
        return Segment(values, modality=self.name, origin=found), found.dropped


def outlined(encoder: Mapping[str, Any]) -> dict[str, Modality]:
    """What an encoder reads beside text, by its configuration as plain data."""
    image, audio = encoder["image"], encoder["audio"]
    found = readers_of(
        image and ImageOptions.model_validate(image), audio and AudioOptions.model_validate(audio)
    )
    return {name: Outlined(name, reader) for name, reader in found.items()}


def outlines(sequences: Iterable[Sequence]) -> list[Outline]:
    """Those of all pictures and recordings in some sequences."""
    parts = (part for sequence in sequences for part in sequence.segments)
    return [part.origin for part in parts if isinstance(part.origin, Outline)]
