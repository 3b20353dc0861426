"""BERT (arXiv:1810.04805), and all that share its shape: MiniLM, BGE, E5, Chinese BERT and more."""

from __future__ import annotations

from typing import Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.interop.family import Family, Names, Raw, read_activation, write_activation

ENCODER: Names = {
    "embeddings.token": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.#.attention.qkv": (
        "encoder.layer.#.attention.self.query",
        "encoder.layer.#.attention.self.key",
        "encoder.layer.#.attention.self.value",
    ),
    "layers.#.attention.output": "encoder.layer.#.attention.output.dense",
    "layers.#.attention_norm": "encoder.layer.#.attention.output.LayerNorm",
    "layers.#.feed_forward.inner": "encoder.layer.#.intermediate.dense",
    "layers.#.feed_forward.outer": "encoder.layer.#.output.dense",
    "layers.#.feed_forward_norm": "encoder.layer.#.output.LayerNorm",
}


def read_config(raw: Raw, **changes: Any) -> EncoderConfig:
    """The shape; `changes` are a sibling family's differences."""
    config = {
        "vocab_size": raw["vocab_size"],
        "hidden_size": raw["hidden_size"],
        "num_layers": raw["num_hidden_layers"],
        "num_heads": raw["num_attention_heads"],
        "intermediate_size": raw["intermediate_size"],
        "max_positions": raw["max_position_embeddings"],
        "num_segments": max(1, raw.get("type_vocab_size", 2)),
        "norm_epsilon": raw.get("layer_norm_eps", 1e-12),
        "activation": read_activation(raw.get("hidden_act", "gelu")),
        "dropout": raw.get("hidden_dropout_prob", 0.1),
        "attention_dropout": raw.get("attention_probs_dropout_prob", 0.1),
        "initializer_range": raw.get("initializer_range", 0.02),
    }
    return EncoderConfig(**(config | changes))


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, as config.json says it."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_segments,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": write_activation(config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.initializer_range,
        "position_embedding_type": "absolute",
    }


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """The head of a kind of task: a classifier stands on the pooler, whose activation is tanh."""
    dropout = raw.get("classifier_dropout")
    if dropout is None:
        dropout = raw.get("hidden_dropout_prob", 0.1)
    if kind == "mlm":
        activation = read_activation(raw.get("hidden_act", "gelu"))
        return HeadConfig(pooling="none", activation=activation, norm=True, dropout=0)
    if kind == "classify":
        return HeadConfig(pooling="cls", activation="tanh", dropout=dropout)
    return HeadConfig(pooling="none", dropout=dropout if kind == "tag" else 0)


def write_head(kind: str, head: HeadConfig) -> dict[str, Any]:
    """What config.json says of a head."""
    return {"classifier_dropout": head.dropout} if kind in ("classify", "tag") else {}


FAMILY = Family(
    name="bert",
    classes="Bert",
    prefix="bert",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    write_head=write_head,
    encoder=ENCODER,
    heads={
        "mlm": {
            "transform.dense": "cls.predictions.transform.dense",
            "transform.norm": "cls.predictions.transform.LayerNorm",
            "": "cls.predictions",
        },
        "classify": {"transform.dense": "bert.pooler.dense", "output": "classifier"},
        "tag": {"output": "classifier"},
        "span": {"output": "qa_outputs"},
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    extra=("bert.pooler.", "cls.seq_relationship."),
)
