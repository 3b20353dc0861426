"""DistilBERT (arXiv:1910.01108): BERT with half the layers and no token types."""

from __future__ import annotations

from typing import Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.interop.family import Family, Raw, read_activation, write_activation


def read_config(raw: Raw) -> EncoderConfig:
    """The shape."""
    return EncoderConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["dim"],
        num_layers=raw["n_layers"],
        num_heads=raw["n_heads"],
        intermediate_size=raw["hidden_dim"],
        max_positions=raw["max_position_embeddings"],
        num_segments=0,
        norm_epsilon=1e-12,  # not a setting there
        activation=read_activation(raw.get("activation", "gelu")),
        dropout=raw.get("dropout", 0.1),
        attention_dropout=raw.get("attention_dropout", 0.1),
        initializer_range=raw.get("initializer_range", 0.02),
    )


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, as config.json says it."""
    return {
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "hidden_dim": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "activation": write_activation(config.activation),
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
    }


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """The head of a kind of task."""
    if kind == "mlm":
        activation = read_activation(raw.get("activation", "gelu"))
        return HeadConfig(pooling="none", activation=activation, norm=True, dropout=0)
    if kind == "classify":
        dropout = raw.get("seq_classif_dropout", 0.2)
        return HeadConfig(pooling="cls", activation="relu", dropout=dropout)
    return HeadConfig(
        pooling="none", dropout=raw.get("qa_dropout" if kind == "span" else "dropout", 0.1)
    )


def write_head(kind: str, head: HeadConfig) -> dict[str, Any]:
    """What config.json says of a head."""
    keys = {"classify": "seq_classif_dropout", "span": "qa_dropout"}
    return {keys[kind]: head.dropout} if kind in keys else {}


FAMILY = Family(
    name="distilbert",
    classes="DistilBert",
    prefix="distilbert",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    write_head=write_head,
    encoder={
        "embeddings.token": "embeddings.word_embeddings",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.norm": "embeddings.LayerNorm",
        "layers.#.attention.qkv": (
            "transformer.layer.#.attention.q_lin",
            "transformer.layer.#.attention.k_lin",
            "transformer.layer.#.attention.v_lin",
        ),
        "layers.#.attention.output": "transformer.layer.#.attention.out_lin",
        "layers.#.attention_norm": "transformer.layer.#.sa_layer_norm",
        "layers.#.feed_forward.inner": "transformer.layer.#.ffn.lin1",
        "layers.#.feed_forward.outer": "transformer.layer.#.ffn.lin2",
        "layers.#.feed_forward_norm": "transformer.layer.#.output_layer_norm",
    },
    heads={
        "mlm": {
            "transform.dense": "vocab_transform",
            "transform.norm": "vocab_layer_norm",
            "": "vocab_projector",
        },
        "classify": {"transform.dense": "pre_classifier", "output": "classifier"},
        "tag": {"output": "classifier"},
        "span": {"output": "qa_outputs"},
    },
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)
