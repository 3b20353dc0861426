"""Sound as positions for the encoder: a few log-mel frames each, and noise to learn against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unmask.batch import Segment
from unmask.inputs.cells import bytes_of
from unmask.inputs.mel import log_mel, mask_bands, normalised, stacked
from unmask.inputs.sound import MAX_BYTES, Recording, decode, resample
from unmask.recipe import AudioOptions


class AudioInput:
    """How one encoder reads recordings."""

    cuttable = True

    def __init__(self, options: AudioOptions) -> None:
        self.options = options
        self.files = True

    @property
    def width(self) -> int:
        """F, the numbers in a position."""
        return self.options.width

    def segment(self, cell: Any, rng: np.random.Generator | None) -> tuple[Segment, int]:
        """The frames of the recording in a cell, (n, F), and how many positions were not read."""
        recording = decode(bytes_of(cell, "recording", MAX_BYTES, self.files), self.options.seconds)
        if rng is not None:
            recording = self._hurried(recording, rng)
        frames = self._normalised(resample(recording, self.options.rate).samples)  # (F, mels)
        if rng is not None:
            change = self.options.augment
            frames = mask_bands(frames, rng, change.times, change.bands)
        left_out = recording.dropped / (self.options.hop * self.options.frames)
        values = stacked(frames, self.options.frames)
        return Segment(values, modality="audio"), math.ceil(left_out)

    def _hurried(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The recording as if played at another rate: pitch and speed change together.

        Ko et al. (Interspeech 2015).
        """
        most = self.options.augment.speed
        if not most:
            return recording
        factor = 1 + rng.uniform(-most, most)
        rate = round(recording.rate * factor)
        return Recording(recording.samples, rate, recording.dropped / factor)

    def _normalised(self, samples: np.ndarray) -> np.ndarray:
        options = self.options
        frames = log_mel(samples, options.rate, options.mels, options.window, options.hop)
        if options.normalise == "recording":
            return normalised(frames)
        return ((frames - options.mean) / options.deviation).astype(np.float32)

