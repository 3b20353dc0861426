"""The modalities: one file each, one line here."""

from __future__ import annotations

from unmask.encoder import EncoderConfig
from unmask.inputs.audio import AudioInput
from unmask.inputs.image import ImageInput
from unmask.inputs.modalities import Modality
from unmask.recipe import AudioOptions, ImageOptions


def readers(config: EncoderConfig) -> dict[str, Modality]:
    """What an encoder reads beside text, and how."""
    return readers_of(config.image, config.audio)


def readers_of(image: ImageOptions | None, audio: AudioOptions | None) -> dict[str, Modality]:
    """The same by the options of each modality, where there are any."""
    found: dict[str, Modality] = {}
    if image is not None:
        found["image"] = ImageInput(image)
    if audio is not None:
        found["audio"] = AudioInput(audio)
    return found
