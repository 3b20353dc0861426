"""Sound as positions for the encoder: a few log-mel frames each, and noise to learn against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from unmask.batch import Segment
from unmask.errors import UserError
from unmask.inputs.mel import log_mel, mask_bands, normalised, stacked
from unmask.inputs.sound import Recording, decode, resample


class AudioOptions(BaseModel):
    """What a recording becomes. The defaults give 25 positions a second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Literal[8000, 16000] = Field(
        16000, description="samples a second; all sound is brought to it"
    )
    mels: int = Field(64, ge=8, le=128, description="bands of a frame")
    window: float = Field(0.025, ge=0.005, le=0.1, description="seconds that a frame looks at")
    hop: float = Field(0.01, ge=0.0025, le=0.1, description="seconds from frame to frame")
    frames: int = Field(4, ge=1, le=32, description="frames side by side in one position")
    seconds: float = Field(20.0, gt=0, le=3600, description="of a recording that are read")
    normalise: Literal["recording", "fixed"] = Field(
        "recording",
        description="by the mean of each band of a recording and its deviation, or by `mean` and "
        "`deviation`, which leaves loudness as it is",
    )
    mean: float = Field(-8.0, description="of fixed normalisation, in log power")
    deviation: float = Field(4.0, gt=0)
    speed: float = Field(
        0.0, ge=0, lt=0.5, description="in training: faster or slower by up to this share"
    )
    mask_times: float = Field(
        0.1, ge=0, lt=1, description="in training: the longest stretch of time that is hidden"
    )
    mask_bands: float = Field(
        0.2, ge=0, lt=1, description="in training: the widest stretch of bands that is hidden"
    )

    @property
    def width(self) -> int:
        """Numbers a position."""
        return self.frames * self.mels


@dataclass(frozen=True)
class Sound:
    """A recording as the encoder will see it."""

    values: np.ndarray  # (n, width) float32
    dropped: int  # positions that were cut

    def segment(self, kind: int = 0) -> Segment:
        """These positions for a sequence."""
        return Segment(self.values, kind, "audio")


class AudioInput:
    """Bytes of a recording to positions."""

    def __init__(self, options: AudioOptions) -> None:
        self.options = options

    def encode(
        self, data: bytes, limit: int | None = None, rng: np.random.Generator | None = None
    ) -> Sound:
        """At most `limit` positions of a recording; a UserError where it cannot be read.

        With an `rng` it is changed a little, to learn from: in speed, and by hiding a stretch of
        time and one of frequency.
        """
        options = self.options
        recording = decode(data, options.seconds)
        if rng is not None and options.speed:
            # Played as if at another rate (Ko et al., 2015): pitch and speed change together.
            factor = 1 + rng.uniform(-options.speed, options.speed)
            rate = round(recording.rate * factor)
            recording = Recording(recording.samples, rate, recording.dropped / factor)
        frames = self._normalised(resample(recording, options.rate).samples)  # (F, mels)
        if rng is not None:
            frames = mask_bands(frames, rng, options.mask_times, options.mask_bands)
        values = stacked(frames, options.frames)
        kept = len(values) if limit is None else min(limit, len(values))
        behind = int(np.ceil(recording.dropped / (options.hop * options.frames)))
        return Sound(values[:kept], len(values) - kept + behind)

    def _normalised(self, samples: np.ndarray) -> np.ndarray:
        options = self.options
        frames = log_mel(samples, options.rate, options.mels, options.window, options.hop)
        if options.normalise == "recording":
            return normalised(frames)
        return ((frames - options.mean) / options.deviation).astype(np.float32)


def sound_in(where: str, value: object) -> bytes:
    """The bytes of a recording that stand in a cell; `where` is what a UserError says of it."""
    if isinstance(value, bytes) and value:
        return value
    shown = f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)[:80]
    raise UserError(f"{where} holds {shown} and no recording; mend the row, or drop it")
