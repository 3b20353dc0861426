"""RoBERTa (arXiv:1907.11692): BERT whose positions are counted from the padding token's id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.interop.families import bert
from unmask.interop.family import Raw


def read_config(raw: Raw) -> EncoderConfig:
    """The shape. The first position is numbered one after the padding token's id."""
    offset = 1 + max(0, raw.get("pad_token_id", 1))
    return bert.read_config(
        raw, position_offset=offset, max_positions=raw["max_position_embeddings"] - offset
    )


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, as config.json says it."""
    return bert.write_config(config) | {
        "max_position_embeddings": config.max_positions + config.position_offset,
        "pad_token_id": config.position_offset - 1,
    }


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """BERT's heads, except that the masked-language head has GELU whatever the encoder has."""
    return bert.read_head(kind, {**raw, "hidden_act": "gelu"})


FAMILY = replace(
    bert.FAMILY,
    name="roberta",
    classes="Roberta",
    prefix="roberta",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    heads={
        "mlm": {
            "transform.dense": "lm_head.dense",
            "transform.norm": "lm_head.layer_norm",
            "": "lm_head",
        },
        "classify": {"transform.dense": "classifier.dense", "output": "classifier.out_proj"},
        "tag": {"output": "classifier"},
        "span": {"output": "qa_outputs"},
    },
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    extra=("roberta.pooler.",),
)
