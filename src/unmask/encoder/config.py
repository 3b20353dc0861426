"""One description for the classic BERT encoder and the modern one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unmask.recipe import AdapterOptions, AudioOptions, ImageOptions

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]


class EncoderConfig(BaseModel):
    """The shape of an encoder. The defaults are BERT-base (Devlin et al., arXiv:1810.04805)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(30522, gt=0)
    hidden_size: int = Field(768, gt=0, description="D, the width of a hidden state")
    num_layers: int = Field(12, ge=0)
    num_heads: int = Field(12, gt=0, description="H; each head is D / H wide")
    head_size: int | None = Field(
        None, gt=0, description="width of a head where that is not D / H (heads pruned away)"
    )
    intermediate_size: int = Field(3072, gt=0, description="width inside the feed-forward block")
    embedding_size: int | None = Field(
        None, description="width of the embeddings where it differs from D (ELECTRA)"
    )
    max_positions: int = Field(512, gt=0, description="longest sequence")
    num_segments: int = Field(2, ge=0, description="token types; 0 for none")
    position: Literal["learned", "rotary"] = "learned"
    position_offset: int = Field(0, ge=0, description="number of the first position (RoBERTa: 2)")
    rotary_base: float = Field(160_000.0, gt=0)
    local_rotary_base: float = Field(10_000.0, gt=0, description="base in sliding-window layers")
    window: int | None = Field(
        None, gt=0, description="positions seen on each side in a sliding-window layer"
    )
    global_every: int = Field(1, gt=0, description="every n-th layer, from the first, is global")
    global_layers: tuple[int, ...] | None = Field(
        None, description="the global layers, where they are not every n-th (layers pruned away)"
    )
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 1e-12
    pre_norm: bool = Field(False, description="normalise before a block (modern) or after (BERT)")
    embedding_norm: bool = Field(True, description="a norm behind the embeddings; ViT has none")
    activation: Activation = "gelu"
    gated: bool = Field(False, description="gated feed-forward (GeGLU, arXiv:2002.05202)")
    bias: bool = Field(True, description="biases in attention, feed-forward and norms")
    dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    initializer_range: float = 0.02
    adapters: dict[str, AdapterOptions] = Field({}, description="by name; none is active by itself")
    image: ImageOptions | None = Field(None, description="how pictures are read; None: not at all")
    audio: AudioOptions | None = Field(None, description="how recordings are read")

    @model_validator(mode="after")
    def _consistent(self) -> EncoderConfig:
        if self.head_size is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.position == "rotary" and self.head_width % 2:
            raise ValueError("rotary positions need an even hidden_size / num_heads")
        if (self.global_every > 1 or self.global_layers is not None) and self.window is None:
            raise ValueError("global_every above 1 needs a window for the layers between")
        if not (self.embedding_norm or self.pre_norm):
            raise ValueError("without pre_norm there must be a norm behind the embeddings")
        return self

    @property
    def embedding_width(self) -> int:
        """Width of the token vectors: E."""
        return self.embedding_size or self.hidden_size

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.head_size or self.hidden_size // self.num_heads

    def layer_window(self, layer: int) -> int | None:
        """The attention window of a layer; None for global attention."""
        every = layer % self.global_every == 0
        sees_all = every if self.global_layers is None else layer in self.global_layers
        return None if sees_all else self.window


# (layers, D, heads): the compact BERTs of Turc et al. (arXiv:1908.08962), and BERT-base.
_SHAPES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "base": (12, 768, 12)}


def preset(shape: str, style: str, **changes: Any) -> EncoderConfig:
    """A named shape (tiny, mini, small, base) in a style (classic, modern).

    `modern` follows ModernBERT (Warner et al., arXiv:2412.13663): rotary positions, GeGLU,
    pre-norm, no biases, and two local layers between global ones. Its feed-forward is narrower,
    because a gate costs a third matrix: both styles have about the same number of weights.
    """
    layers, width, heads = _SHAPES[shape]
    config: dict[str, Any] = {
        "num_layers": layers,
        "hidden_size": width,
        "num_heads": heads,
        "intermediate_size": 4 * width,
    }
    if style == "modern":
        config |= {
            "intermediate_size": (8 * width // 3 + 31) // 32 * 32,
            "max_positions": 1024,
            "num_segments": 0,
            "position": "rotary",
            "window": 64,
            "global_every": 3,
            "norm_epsilon": 1e-5,
            "pre_norm": True,
            "gated": True,
            "bias": False,
            "dropout": 0.0,
            "attention_dropout": 0.0,
        }
    return EncoderConfig(**(config | changes))
