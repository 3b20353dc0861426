"""ModernBERT (arXiv:2412.13663): rotary positions, gated feed-forward, pre-norm, local layers."""

from __future__ import annotations

from typing import Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.errors import UserError
from unmask.interop.family import Family, Raw, read_activation, write_activation

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_TRANSFORM = {"transform.dense": "head.dense", "transform.norm": "head.norm"}


def _layer_types(layers: int, every: int) -> list[str]:
    return [_LOCAL if number % every else _GLOBAL for number in range(layers)]


def _global_every(raw: Raw) -> int:
    """How often a layer is global: older files say it, newer ones list the layers."""
    layers, every = raw["num_hidden_layers"], raw.get("global_attn_every_n_layers", 3)
    types = raw.get("layer_types")
    if types is None:
        return int(every)
    later = [number for number, kind in enumerate(types) if number and kind == _GLOBAL]
    every = later[0] if later else max(every, layers)
    if len(types) != layers or types != _layer_types(layers, every):
        raise UserError("layer_types has its global layers at uneven distances, or none at first")
    return int(every)


def _rotary_base(raw: Raw, kind: str, older: str, default: float) -> float:
    rope: Raw = (raw.get("rope_parameters") or {}).get(kind) or {}
    if rope.get("rope_type", "default") != "default":
        raise UserError(
            f"rope_type is {rope['rope_type']!r} and unmask reads only default; take another model"
        )
    return float(rope.get("rope_theta", raw.get(older, default)))


def _same(raw: Raw, default: Any, *keys: str) -> Any:
    """The value of settings that are one setting in our encoder."""
    values = {key: raw.get(key, default) for key in keys}
    if len(set(values.values())) > 1:
        raise UserError(f"{values} differ and unmask reads only one value for all of them")
    return values[keys[0]]


def read_config(raw: Raw) -> EncoderConfig:
    """The shape."""
    every = _global_every(raw)
    return EncoderConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=raw["num_attention_heads"],
        intermediate_size=raw["intermediate_size"],
        max_positions=raw["max_position_embeddings"],
        num_segments=0,
        position="rotary",
        rotary_base=_rotary_base(raw, _GLOBAL, "global_rope_theta", 160_000.0),
        local_rotary_base=_rotary_base(raw, _LOCAL, "local_rope_theta", 10_000.0),
        window=raw.get("local_attention", 128) // 2 if every > 1 else None,  # 128 is 64 each side
        global_every=every,
        norm_epsilon=raw.get("norm_eps", 1e-5),
        pre_norm=True,
        activation=read_activation(raw.get("hidden_activation", "gelu")),
        gated=True,
        bias=_same(raw, False, "norm_bias", "attention_bias", "mlp_bias"),
        dropout=_same(raw, 0.0, "embedding_dropout", "mlp_dropout"),
        attention_dropout=raw.get("attention_dropout", 0.0),
        initializer_range=raw.get("initializer_range", 0.02),
    )


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, as config.json says it, for older readers and newer ones."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "global_rope_theta": config.rotary_base,
        "local_rope_theta": config.local_rotary_base,
        "rope_parameters": {
            _GLOBAL: {"rope_type": "default", "rope_theta": config.rotary_base},
            _LOCAL: {"rope_type": "default", "rope_theta": config.local_rotary_base},
        },
        "local_attention": 2 * (config.window or 64),
        "global_attn_every_n_layers": config.global_every,
        "layer_types": _layer_types(config.num_layers, config.global_every),
        "norm_eps": config.norm_epsilon,
        "hidden_activation": write_activation(config.activation),
        "norm_bias": config.bias,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
    }


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """The head of a kind of task: all have the same dense layer, activation and norm."""
    return HeadConfig(
        pooling=raw.get("classifier_pooling", "cls") if kind == "classify" else "none",
        activation=read_activation(raw.get("classifier_activation", "gelu")),
        norm=True,
        bias=raw.get("classifier_bias", False),
        dropout=0 if kind == "mlm" else raw.get("classifier_dropout", 0.0),
    )


def write_head(kind: str, head: HeadConfig) -> dict[str, Any]:
    """What config.json says of a head."""
    keys: dict[str, Any] = {"classifier_bias": head.bias, "classifier_dropout": head.dropout}
    if head.activation:
        keys["classifier_activation"] = write_activation(head.activation)
    return keys | ({"classifier_pooling": head.pooling} if kind == "classify" else {})


FAMILY = Family(
    name="modernbert",
    classes="ModernBert",
    prefix="model",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    write_head=write_head,
    encoder={
        "embeddings.token": "embeddings.tok_embeddings",
        "embeddings.norm": "embeddings.norm",
        "layers.#.attention_norm": "layers.#.attn_norm",
        "layers.#.attention.qkv": "layers.#.attn.Wqkv",
        "layers.#.attention.output": "layers.#.attn.Wo",
        "layers.#.feed_forward_norm": "layers.#.mlp_norm",
        "layers.#.feed_forward.inner": "layers.#.mlp.Wi",
        "layers.#.feed_forward.outer": "layers.#.mlp.Wo",
        "norm": "final_norm",
    },
    heads={
        "mlm": {**_TRANSFORM, "": "decoder"},
        "classify": {**_TRANSFORM, "output": "classifier"},
        "tag": {**_TRANSFORM, "output": "classifier"},
        "span": {**_TRANSFORM, "output": "classifier"},
    },
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    fixed={"decoder_bias": True},
)
