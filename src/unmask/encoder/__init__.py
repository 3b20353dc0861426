"""The encoder, from its bricks.

Read `embeddings`, `attention`, `feed_forward`, `layer`, `encoder`, then `heads`, `exits` and
`generator`.
"""

from unmask.encoder.adapters import AdaptedLinear, adapters_of
from unmask.encoder.cache import Cache
from unmask.encoder.config import EncoderConfig, preset
from unmask.encoder.cross_entropy import cross_entropy
from unmask.encoder.encoder import Encoder, Hidden
from unmask.encoder.exits import Exits, doubt
from unmask.encoder.form import Form
from unmask.encoder.generator import DetectHead
from unmask.encoder.heads import HeadConfig, LabelHead, MaskedHead, Pooling, pool_mean

__all__ = [
    "AdaptedLinear",
    "Cache",
    "DetectHead",
    "Encoder",
    "EncoderConfig",
    "Exits",
    "Form",
    "HeadConfig",
    "Hidden",
    "LabelHead",
    "MaskedHead",
    "Pooling",
    "adapters_of",
    "cross_entropy",
    "doubt",
    "pool_mean",
    "preset",
]
