"""The encoder, from its bricks.

Read `embeddings`, `attention`, `feed_forward`, `layer`, `encoder`, then `heads`.
"""

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
