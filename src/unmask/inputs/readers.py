"""The modalities: one file each, one line here."""

from __future__ import annotations

from unmask.encoder import EncoderConfig
from unmask.inputs.audio import AudioInput
from unmask.inputs.image import ImageInput
from unmask.inputs.modalities import Modality


def readers(config: EncoderConfig) -> dict[str, Modality]:
    """What an encoder reads beside text, and how."""
    found: dict[str, Modality] = {}
    if config.image is not None:
        found["image"] = ImageInput(config.image)
    if config.audio is not None:
        found["audio"] = AudioInput(config.audio)
    return found
