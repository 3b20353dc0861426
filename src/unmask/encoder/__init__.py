"""The encoder, from its bricks: read `embeddings`, `attention`, `feed_forward`, `layer`, `encoder`."""

from unmask.encoder.config import EncoderConfig, preset
from unmask.encoder.encoder import Encoder, Hidden
from unmask.encoder.heads import HeadConfig, LabelHead, MaskedHead, Pooling, pool_mean

__all__ = [
    "Encoder",
    "EncoderConfig",
    "HeadConfig",
    "Hidden",
    "LabelHead",
    "MaskedHead",
    "Pooling",
    "pool_mean",
    "preset",
]
