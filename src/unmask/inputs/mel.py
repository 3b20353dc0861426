"""From a wave to log-mel frames, and the masking of time and frequency."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

FLOOR = 1e-6  # of a power: what is softer, such as the rounding of 16 bits, is silence
_LEAST = 0.1  # what a deviation is taken for that is smaller: next to nothing is not blown up


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """Pitch in mel as it is heard (O'Shaughnessy, 1987): 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hertz, dtype=float) / 700)


def hertz(mels: np.ndarray) -> np.ndarray:
    """The inverse of `mel`."""
    return 700 * (10 ** (np.asarray(mels) / 2595) - 1)


@lru_cache
def mel_filters(rate: int, size: int, mels: int, top: float) -> np.ndarray:
    """Triangles over the bins of a transform of `size` samples: (size // 2 + 1, mels).

    Their corners are evenly spaced in mel from 20 to `top` Hz; each peak is 1.
    """
    bins = np.linspace(0, rate / 2, size // 2 + 1)[:, None]  # Hz
    corners = hertz(np.linspace(mel(20.0), mel(top), mels + 2))
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - left) / (peak - left), (right - bins) / (right - peak)
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters.flags.writeable = False  # it is shared
    return filters


@lru_cache
def hann(width: int) -> np.ndarray:
    """A periodic window of raised cosines, (width,)."""
    found: np.ndarray = np.hanning(width + 1)[:-1].astype(np.float32)
    found.flags.writeable = False
    return found


def log_mel(
    samples: np.ndarray, rate: int, mels: int, window: float, hop: float, top: float | None = None
) -> np.ndarray:
    """Log-mel energies of (n,) samples: one frame (mels,) each `hop` seconds, (F, mels) float32.

    Each frame is a Hann window of `window` seconds that lies wholly within the sound; one shorter
    than that is filled up with silence, so there is always a frame (Davis & Mermelstein, 1980).
    The bands reach up to `top` Hz, half the rate unless said.
    """
    width, step = round(window * rate), round(hop * rate)
    samples = np.pad(samples, (0, max(0, width - len(samples))))
    size = 1 << (width - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples, width)[::step]  # (F, width)
    filters = mel_filters(rate, size, mels, top or rate / 2)
    found = np.empty((len(frames), mels), np.float32)
    for start in range(0, len(frames), 1024):  # the spectra of long sound would be large
        part = slice(start, start + 1024)
        power = np.abs(np.fft.rfft(frames[part] * hann(width), size)) ** 2  # (f, size // 2 + 1)
        found[part] = np.log(np.maximum(power.astype(np.float32) @ filters, FLOOR))
    return found


def normalised(frames: np.ndarray) -> np.ndarray:
    """Each mel band of a recording at mean 0, the whole of it at deviation 1: (F, mels).

    The mean takes the room and the microphone away. What does not vary, as silence, is all zeros.
    """
    centred = frames - frames.mean(axis=0)
    return centred / max(float(centred.std()), _LEAST)


def mask_bands(
    frames: np.ndarray, rng: np.random.Generator, times: float, bands: float
) -> np.ndarray:
    """A copy with one stretch of time and one of frequency set to 0, the mean of normalised frames.

    SpecAugment (Park et al., arXiv:1904.08779). Their lengths are uniform from 0 to the share
    `times` of all frames and `bands` of all mel bands.
    """
    found = frames.copy()
    for axis, share in ((0, times), (1, bands)):
        size = frames.shape[axis]
        length = int(rng.integers(0, round(share * size) + 1))
        start = int(rng.integers(0, size - length + 1))
        found[(slice(None),) * axis + (slice(start, start + length),)] = 0
    return found


def stacked(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames side by side in each position, the last filled up with zeros: (n, count * M).

    Fewer and wider positions than frames, as in Sak et al. (arXiv:1507.06947).
    """
    missing = -len(frames) % count
    return np.pad(frames, ((0, missing), (0, 0))).reshape(-1, count * frames.shape[1])
