"""Sound in: recordings in any common format to one channel at one rate, under caps."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.errors import UserError

MAX_BYTES = 64 << 20  # of a file; compressed, that is hours
MAX_CHANNELS = 32
RATES = (1_000, 384_000)  # samples a second that are believed
_BLOCK = 1 << 16  # samples of a channel decoded at once
_UNKNOWN = 0x7FFF_0000  # a data size from here on means that a stream did not know its length
_SHORT = re.compile(r"data : (\d+) \(should be (\d+)\)")  # libsndfile of a WAV cut short


@dataclass(frozen=True)
class Recording:
    """One channel of sound at a known rate, and how much of the file was left out behind it."""

    samples: np.ndarray  # (n,) float32, between -1 and 1 unless the file goes beyond
    rate: int  # samples a second
    dropped: float = 0.0  # seconds of the file behind them


def decode(data: bytes, max_seconds: float) -> Recording:
    """Decode WAV, FLAC, OGG or MP3 (whatever libsndfile reads), its channels averaged.

    No more than `max_seconds` are decoded, block by block, so an hour of sound takes no more memory
    than what is kept of it. A file that is empty, broken, cut short or beyond the caps is a
    UserError.
    """
    with _opened(data) as file:
        return _read(file, max_seconds)


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    rate: int  # samples a second
    channels: int
    frames: int  # samples of each channel; more than there are where a stream did not know


def header(data: bytes) -> Header:
    """What the header says, without decoding; what `decode` refuses by it is refused here too."""
    with _opened(data) as file:
        return Header(file.samplerate, file.channels, file.frames)


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A file whose header was looked over; whatever is wrong with it is a UserError."""
    sf = _soundfile()
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            _look_over(file)
            yield file
    except sf.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        raise UserError(
            f"no sound that can be read ({reason}); give WAV, FLAC, OGG or MP3, whole"
        ) from None


def _look_over(file: Any) -> None:
    rate, channels = file.samplerate, file.channels
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"a sample rate of {rate} Hz; between {RATES[0]} and {RATES[1]} are read")
    if channels > MAX_CHANNELS:
        raise UserError(f"{channels} channels; at most {MAX_CHANNELS} are read")
    sizes = _SHORT.search(file.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < _UNKNOWN:
        raise UserError(
            f"the file is cut short: its header says {sizes[1]} bytes of sound and {sizes[2]} are "
            "there; fetch it again"
        )
    if "ended unexpectedly" in file.extra_info:  # what libsndfile says of an OGG without its end
        raise UserError("the file is cut short: its stream has no end; fetch it again")


def _read(file: Any, max_seconds: float) -> Recording:
    """The channels' mean."""
    rate, claimed = file.samplerate, file.frames
    wanted = math.ceil(max_seconds * rate)
    blocks = list(_blocks(file, wanted))
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if len(samples) < min(claimed, wanted):
        raise UserError(
            f"the file is cut short: its header says {claimed / rate:.2f} s and it ends after "
            f"{len(samples) / rate:.2f}; fetch it again"
        )
    if not len(samples):
        raise UserError("a recording of 0 samples: drop the row, or record it again")
    if not np.isfinite(samples).all():
        raise UserError("samples that are no finite numbers; record or convert it again")
    return Recording(samples, rate, max(0.0, (claimed - len(samples)) / rate))


def _blocks(file: Any, wanted: int) -> Iterator[np.ndarray]:
    """The first `wanted` samples, one channel, some at a time."""
    while wanted > 0:
        block = file.read(min(_BLOCK, wanted), dtype="float32", always_2d=True)  # (n, channels)
        if not len(block):
            return
        wanted -= len(block)
        yield block.mean(axis=1)


def resample(recording: Recording, rate: int) -> Recording:
    """The same sound at another rate, by `soxr`."""
    if rate == recording.rate:
        return recording
    try:
        import soxr
    except ImportError:
        raise _missing() from None
    samples = soxr.resample(recording.samples, recording.rate, rate)
    return Recording(samples.astype(np.float32), rate, recording.dropped)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: without libsndfile
        raise _missing() from None
    return soundfile


def _missing() -> UserError:
    return UserError("sound needs the extra `audio`: pip install 'unmask[audio]'")
