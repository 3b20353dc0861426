"""Sound in: what any file becomes, and that memory and time are bounded."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from unmask.errors import UserError
from unmask.inputs.audio import AudioInput
from unmask.inputs.mel import FLOOR, log_mel, mask_bands, mel_filters, normalised, stacked
from unmask.inputs.sound import Recording, decode, resample
from unmask.recipe import AudioOptions, Disturbance


def file_of(
    samples: np.ndarray, rate: int = 8000, form: str = "WAV", sub: str | None = None
) -> bytes:
    """Samples as a file."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=form, subtype=sub)
    return buffer.getvalue()


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    """A sine of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_mel_filters_and_frames_are_those_of_the_reference(rate: int) -> None:
    width, hop = round(0.025 * rate), round(0.01 * rate)
    size = 1 << (width - 1).bit_length()
    filters = mel_filter_bank(size // 2 + 1, 40, 20.0, rate / 2, rate, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(rate, size, 40, rate / 2), filters, atol=1e-5)
    sound = np.random.default_rng(0).normal(size=rate).astype(np.float32) * 0.1
    theirs = spectrogram(
        sound,
        window_function(width, "hann", periodic=True),
        frame_length=width,
        hop_length=hop,
        fft_length=size,
        power=2.0,
        center=False,
        mel_filters=filters,
        mel_floor=FLOOR,
        log_mel="log",
    ).T
    ours = log_mel(sound, rate, 40, 0.025, 0.01)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize(
    ("form", "sub", "close"),
    [
        ("WAV", "PCM_16", 1e-3),
        ("WAV", "FLOAT", 1e-6),
        ("FLAC", None, 1e-3),
        ("OGG", None, 0.1),
        ("MP3", None, 0.1),
    ],
)
def test_every_format_gives_the_same_sound(form: str, sub: str | None, close: float) -> None:
    wave = tone(440, 1.0, 16000)
    found = decode(file_of(wave, 16000, form, sub), 20)
    assert (found.rate, len(found.samples), found.dropped) == (16000, 16000, 0.0)
    assert np.abs(found.samples - wave)[1000:-1000].max() < close


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_come_to_one(rate: int, channels: int) -> None:
    """A tone is the same tone whatever rate it was kept at, on however many channels."""
    wave = tone(440, 0.5, rate)
    sound = resample(decode(file_of(np.stack([wave] * channels, 1), rate), 20), 8000)
    assert sound.samples.shape == (4000,)
    peak = np.abs(np.fft.rfft(sound.samples)).argmax() * 2  # Hz
    assert peak == 440
    assert np.abs(sound.samples[500:-500] - tone(440, 0.5, 8000)[500:-500]).max() < 0.01


def test_channels_are_averaged() -> None:
    wave = tone(440, 0.1, 8000)
    both = decode(file_of(np.stack([wave, -wave], 1), sub="FLOAT"), 20)
    assert np.abs(both.samples).max() < 1e-6


def test_an_hour_of_sound_is_read_in_bounded_memory() -> None:
    """An hour at 48 kHz is 690 MB of float; what is read of it is said, and what is not."""
    data = file_of(np.zeros(3600 * 8000, np.int16), 8000, "FLAC")
    read = AudioInput(AudioOptions(rate=8000, seconds=30))
    tracemalloc.start()
    sound, dropped = read.segment(data, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    positions = 30 * 100 / 4
    assert abs(len(sound.values) - positions) <= 1
    assert dropped == 3570 * 100 / 4


def test_silence_and_a_single_sample_are_defined() -> None:
    read = AudioInput(AudioOptions())
    for samples in (np.zeros(8000), np.zeros(1), np.full(1, 0.5), np.full(8000, 0.3)):
        found, _ = read.segment(file_of(samples, sub="FLOAT"), None)
        assert len(found.values) >= 1
        assert np.isfinite(found.values).all()
        assert np.abs(found.values).max() < 100
    assert np.abs(read.segment(file_of(np.zeros(8000)), None)[0].values).max() < 1e-3


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    """The bytes with a number changed."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


WHOLE = file_of(tone(440, 1, 8000))
BAD = {
    "nothing": (b"", "is no recording|0 bytes"),
    "text": (b"hello " * 100, "no sound that can be read"),
    "a WAV cut short": (WHOLE[:5000], "cut short: its header says 16000 bytes"),
    "only a header": (WHOLE[:44], "cut short"),
    "half a header": (WHOLE[:30], "no sound that can be read"),
    "FLAC cut short": (file_of(tone(440, 1, 8000), form="FLAC")[:2000], "no sound|cut short"),
    "OGG cut short": (file_of(tone(440, 1, 8000), form="OGG")[:-600], "no sound|cut short"),
    "MP3 cut short": (file_of(tone(440, 1, 16000), 16000, "MP3")[:1500], "no sound|cut short"),
    "0 samples": (file_of(np.zeros(0)), "0 samples"),
    "a rate of 0": (patched(WHOLE, 24, "<I", 0), "no sound|sample rate"),
    "a rate of 2 GHz": (patched(WHOLE, 24, "<I", 2_000_000_000), "a sample rate of"),
    "1000 channels": (patched(WHOLE, 22, "<H", 1000), "channels|no sound"),
    "not a number": (file_of(np.array([0.0, np.nan, 0.1]), sub="FLOAT"), "no finite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_line(name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(UserError, match=said):
        AudioInput(AudioOptions()).segment(data, None)


def test_a_file_over_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.inputs.audio.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="at most 0 MB are read"):
        AudioInput(AudioOptions()).segment(WHOLE, None)


def test_a_stream_of_unknown_length_is_read() -> None:
    """As programs write it that cannot go back to the header."""
    found = decode(patched(WHOLE, 40, "<I", 0xFFFFFFFF), 20)
    assert len(found.samples) == 8000


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_to_a_file_does_anything_else(data: st.DataObject) -> None:
    """Any bytes changed: a UserError or finite positions, and nothing else."""
    form = data.draw(st.sampled_from(["WAV", "FLAC", "OGG"]))
    whole = bytearray(file_of(tone(440, 0.2, 8000), form=form))
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(st.integers(0, min(200, len(whole) - 1)))
        whole[where] = data.draw(st.integers(0, 255))
    try:
        found, _ = AudioInput(AudioOptions(seconds=2)).segment(bytes(whole), None)
    except UserError:
        return
    assert np.isfinite(found.values).all()
    assert 1 <= len(found.values) <= 60


@given(
    st.integers(1, 60), st.integers(8, 40), st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 99)
)
def test_masking_hides_one_stretch_of_each(
    F: int, M: int, times: float, bands: float, seed: int
) -> None:
    frames = np.ones((F, M), np.float32)
    found = mask_bands(frames, np.random.default_rng(seed), times, bands)
    again = mask_bands(frames, np.random.default_rng(seed), times, bands)
    np.testing.assert_array_equal(found, again)
    assert frames.all()
    rows, columns = ~found.any(1), ~found.any(0)
    if not (rows.all() or columns.all()):
        assert rows.sum() <= round(times * F)
        assert columns.sum() <= round(bands * M)
        for hidden in (rows, columns):
            assert (np.diff(hidden.astype(int)) == 1).sum() + hidden[0] <= 1
        np.testing.assert_array_equal(found == 0, rows[:, None] | columns[None])


def test_frames_are_normalised_and_stacked() -> None:
    frames = np.random.default_rng(0).normal(3, 2, (10, 8)).astype(np.float32)
    found = normalised(frames)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    assert found.std() == pytest.approx(1, abs=1e-5)
    rows = stacked(found, 4)
    assert rows.shape == (3, 32)
    np.testing.assert_array_equal(rows.reshape(12, 8)[:10], found)
    assert not rows.reshape(12, 8)[10:].any()


def test_what_is_learnt_from_is_changed_by_its_own_randomness() -> None:
    read = AudioInput(AudioOptions(rate=8000, augment=Disturbance(speed=0.1)))
    plain, _ = read.segment(WHOLE, None)
    one, same, other = (read.segment(WHOLE, np.random.default_rng(s))[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(one.values, same.values)
    assert one.values.shape != plain.values.shape or (one.values != plain.values).any()
    assert one.values.shape != other.values.shape or (one.values != other.values).any()


def test_a_faster_recording_sounds_higher_and_is_shorter() -> None:
    """As by resampling, without it."""
    noise = np.random.default_rng(0).normal(size=8000) * 0.1
    wave = noise.cumsum() / 20 + tone(600, 1, 8000)
    ours = log_mel(wave, 8800, 40, 0.025, 0.01, 4000)
    again = resample(Recording(wave.astype(np.float32), 8800), 8000)
    theirs = log_mel(again.samples, 8000, 40, 0.025, 0.01)
    assert abs(len(ours) - len(theirs)) <= 1
    assert len(ours) < len(log_mel(wave, 8000, 40, 0.025, 0.01)) - 5
    n = min(len(ours), len(theirs))
    assert np.abs(ours[:n].mean(0) - theirs[:n].mean(0)).mean() < 0.3


def test_fixed_normalisation_keeps_loudness() -> None:
    read = AudioInput(AudioOptions(rate=8000, normalise="fixed"))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    loud, quiet = (read.segment(file_of(a * noise), None)[0].values for a in (1, 0.1))
    assert (loud - quiet).mean() > 0.5
    either = AudioInput(AudioOptions(rate=8000))
    a, b = (either.segment(file_of(x * noise, sub="FLOAT"), None)[0].values for x in (1, 0.5))
    np.testing.assert_allclose(a, b, atol=0.05)


@settings(deadline=None)
@given(
    samples=st.integers(1, 30_000),
    rate=st.sampled_from((8000, 11_025, 44_100)),
    form=st.sampled_from(("WAV", "FLAC", "OGG", "MP3")),
    channels=st.integers(1, 2),
)
def test_the_outline_is_what_the_recording_becomes(
    samples: int, rate: int, form: str, channels: int
) -> None:
    wave = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    data = file_of(wave, rate, form)
    reader = AudioInput(AudioOptions(rate=8000, seconds=1))
    found, (segment, dropped) = reader.outline(data), reader.segment(data, None)
    assert abs(found.positions - len(segment.values)) <= 1
    assert found.dropped == dropped
    assert found.work <= rate * channels + len(data)
    assert found.digest == reader.outline(data).digest


@pytest.mark.parametrize("name", ["nothing", "text", "a WAV cut short", "a rate of 2 GHz"])
def test_the_outline_refuses_what_the_header_tells(name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(UserError, match=said):
        AudioInput(AudioOptions()).outline(data)


def test_a_stream_of_unknown_length_counts_for_what_may_be_read() -> None:
    found = AudioInput(AudioOptions(seconds=2)).outline(patched(WHOLE, 40, "<I", 0xFFFFFFFF))
    assert 1 <= found.positions <= 50
