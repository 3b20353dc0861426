"""ELECTRA (arXiv:2003.10555): BERT with narrower embeddings; detector and generator alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.interop.families import bert
from unmask.interop.family import Raw


def read_config(raw: Raw) -> EncoderConfig:
    """The shape."""
    width = raw.get("embedding_size", 128)
    return bert.read_config(raw, embedding_size=None if width == raw["hidden_size"] else width)


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, as config.json says it."""
    return bert.write_config(config) | {"embedding_size": config.embedding_width}


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """BERT's heads, with GELU in all of them whatever the encoder has."""
    head = bert.read_head(kind, raw)
    return head.model_copy(update={"activation": "gelu"}) if head.activation else head


FAMILY = replace(
    bert.FAMILY,
    name="electra",
    classes="Electra",
    prefix="electra",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    encoder={**bert.ENCODER, "embeddings.projection": "embeddings_project"},
    heads={
        "mlm": {
            "transform.dense": "generator_predictions.dense",
            "transform.norm": "generator_predictions.LayerNorm",
            "": "generator_lm_head",
        },
        "classify": {"transform.dense": "classifier.dense", "output": "classifier.out_proj"},
        "tag": {"output": "classifier"},
        "span": {"output": "qa_outputs"},
    },
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    extra=("discriminator_predictions.",),
)
