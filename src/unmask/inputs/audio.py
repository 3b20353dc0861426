"""Sound as positions for the encoder: a few log-mel frames each, and noise to learn against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unmask.batch import Segment
from unmask.errors import UserError
from unmask.inputs.cells import bytes_of
from unmask.inputs.mel import log_mel, mask_bands, normalised, stacked
from unmask.inputs.modalities import Outline, digest
from unmask.inputs.sound import MAX_BYTES, decode, header, resample
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
        options = self.options
        recording = decode(bytes_of(cell, "recording", MAX_BYTES, self.files), options.seconds)
        samples = resample(recording, options.rate).samples
        change = options.augment
        # As if it had been recorded slower or faster: pitch and speed change together, as in Ko et
        # al. (Interspeech 2015), without a sample being computed anew.
        factor = 1 + rng.uniform(-change.speed, change.speed) if rng and change.speed else 1.0
        frames = self._normalised(samples, round(options.rate * factor))  # (frames, mels)
        if not np.isfinite(frames).all():
            raise UserError("samples so loud that they are no sound; convert it to 16 bits")
        if rng is not None:
            frames = mask_bands(frames, rng, change.times, change.bands)
        left_out = recording.dropped / (options.hop * options.frames)
        values = stacked(frames, options.frames)
        return Segment(values, modality="audio"), math.ceil(left_out)

    def outline(self, cell: Any) -> Outline:
        """The number of positions and samples, by the header."""
        options = self.options
        data = bytes_of(cell, "recording", MAX_BYTES, self.files)
        said = header(data)
        read = min(said.frames, math.ceil(options.seconds * said.rate))  # of each channel
        window, hop = round(options.window * options.rate), round(options.hop * options.rate)
        frames = 1 + max(0, round(read / said.rate * options.rate) - window) // hop
        left_out = (said.frames - read) / said.rate / (options.hop * options.frames)
        positions = math.ceil(frames / options.frames)
        work = read * said.channels + len(data)
        return Outline(positions, math.ceil(left_out), work, digest(data))

    def _normalised(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """The frames of samples that are taken to be at this rate."""
        options = self.options
        top = options.rate / 2
        frames = log_mel(samples, rate, options.mels, options.window, options.hop, top)
        if options.normalise == "recording":
            return normalised(frames)
        return ((frames - options.mean) / options.deviation).astype(np.float32)
