"""ViT (arXiv:2010.11929): a picture's patches behind a class token, pre-norm layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.errors import UserError
from unmask.inputs.vocabulary import SPECIAL
from unmask.interop.family import Family, Raw, read_activation, write_activation
from unmask.recipe import ImageOptions

_CLASS = SPECIAL.index("[CLS]")  # the class token; ViT has no other
_BILINEAR = 2  # Pillow's number
_EMBEDDINGS = "vit.embeddings."


def read_config(raw: Raw) -> EncoderConfig:
    """The shape, and how pictures are prepared: preprocessor_config.json stands in `raw` too."""
    size = raw["image_size"]
    image = ImageOptions(
        patch=raw["patch_size"],
        size=size if isinstance(size, int) else tuple(size),
        fit="stretch",
        channels=raw.get("num_channels", 3),
        positions="learned",
        mean=_short(raw.get("image_mean", (0.5,)), raw.get("do_normalize", True), 0.0),
        deviation=_short(raw.get("image_std", (0.5,)), raw.get("do_normalize", True), 1.0),
    )
    _check_preparation(raw, image)
    return EncoderConfig(
        vocab_size=len(SPECIAL),
        hidden_size=raw["hidden_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=raw["num_attention_heads"],
        intermediate_size=raw["intermediate_size"],
        max_positions=1 + image.cells[0] * image.cells[1],
        num_segments=0,
        norm_epsilon=raw.get("layer_norm_eps", 1e-12),
        pre_norm=True,
        embedding_norm=False,
        activation=read_activation(raw.get("hidden_act", "gelu")),
        dropout=raw.get("hidden_dropout_prob", 0.0),
        attention_dropout=raw.get("attention_probs_dropout_prob", 0.0),
        initializer_range=raw.get("initializer_range", 0.02),
        image=image,
    )


def write_config(config: EncoderConfig) -> dict[str, Any]:
    """The shape, and the keys of preprocessor_config.json."""
    image = config.image
    if image is None:
        raise ValueError("an encoder that reads no pictures")
    return {
        "image_size": image.size if isinstance(image.size, int) else list(image.size),
        "patch_size": image.patch,
        "num_channels": image.channels,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": write_activation(config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.initializer_range,
        "qkv_bias": config.bias,
        **write_preparation(image),
    }


def write_preparation(image: ImageOptions) -> dict[str, Any]:
    """What preprocessor_config.json says."""
    height, width = image.shape
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": _BILINEAR,
        "rescale_factor": 1 / 255,
        "size": {"height": height, "width": width},
        "image_mean": list(image.mean) * (image.channels // len(image.mean)),
        "image_std": list(image.deviation) * (image.channels // len(image.deviation)),
    }


def _check_preparation(raw: Raw, image: ImageOptions) -> None:
    """Refuse pictures that are prepared in a way that we do not have."""
    size = raw.get("size", image.shape[0])
    size = (size, size) if isinstance(size, int) else (size.get("height"), size.get("width"))
    wanted = {
        "do_resize": True,
        "do_rescale": True,
        "do_center_crop": False,
        "do_pad": False,
        "resample": _BILINEAR,
    }
    for key, value in wanted.items():
        if raw.get(key, value) not in (value, None):
            raise UserError(f"{key} of its pictures is {raw[key]!r} and unmask has only {value!r}")
    if size != image.shape:
        raise UserError(f"its pictures are made {size} and its positions are of {image.shape}")
    if abs(raw.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise UserError(f"rescale_factor is {raw['rescale_factor']!r} and unmask has only 1 / 255")


def _short(values: Any, asked: bool, neutral: float) -> tuple[float, ...]:
    found = tuple(float(value) for value in values) if asked else (neutral,)
    return found[:1] if len(set(found)) == 1 else found


def read_head(kind: str, raw: Raw) -> HeadConfig:
    """A classifier stands on the class token, with nothing between."""
    return HeadConfig(pooling="cls", dropout=0)


def write_head(kind: str, head: HeadConfig) -> dict[str, Any]:
    """There is nothing to say of it."""
    return {}


def arrange(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their class token and one table of positions as our tables of tokens and of places.

    The class token becomes the vector of [CLS], its position the first of the 1-D positions, which
    a picture's patches do not use.
    """
    found = dict(weights)
    token = found.pop(f"{_EMBEDDINGS}cls_token", None)
    positions = found.pop(f"{_EMBEDDINGS}position_embeddings", None)
    patches = f"{_EMBEDDINGS}patch_embeddings.projection.weight"
    if token is not None:
        token = token.flatten()
        table = token.new_zeros(len(SPECIAL), len(token))
        table[_CLASS] = token
        found[f"{_EMBEDDINGS}token.weight"] = table
    if positions is not None:
        positions = positions.flatten(0, -2)  # (1 + n, D)
        first = torch.zeros_like(positions)
        first[:1] = positions[:1]
        found[f"{_EMBEDDINGS}position.weight"] = first
        found[f"{_EMBEDDINGS}place.weight"] = positions[1:].clone()
    if patches in found:
        found[patches] = found[patches].flatten(1)
    return found


def restore(weights: Mapping[str, Tensor], config: EncoderConfig) -> dict[str, Tensor]:
    """The inverse of `arrange`."""
    found = dict(weights)
    token, first, place = (
        found.pop(f"{_EMBEDDINGS}{name}.weight") for name in ("token", "position", "place")
    )
    positions = torch.cat((first[:1], place))
    patches = f"{_EMBEDDINGS}patch_embeddings.projection.weight"
    assert config.image is not None  # its shape fits ViT's
    side = config.image.patch
    found[f"{_EMBEDDINGS}cls_token"] = token[_CLASS].view(1, 1, -1)
    found[f"{_EMBEDDINGS}position_embeddings"] = positions[None]
    found[patches] = found[patches].view(-1, config.image.channels, side, side)
    return found


FAMILY = Family(
    name="vit",
    classes="ViT",
    prefix="vit",
    read_config=read_config,
    write_config=write_config,
    read_head=read_head,
    write_head=write_head,
    encoder={
        "embeddings.token": "embeddings.token",
        "embeddings.position": "embeddings.position",
        "embeddings.stems.image.projection": "embeddings.patch_embeddings.projection",
        "embeddings.stems.image.place": "embeddings.place",
        "layers.#.attention_norm": "encoder.layer.#.layernorm_before",
        "layers.#.attention.qkv": (
            "encoder.layer.#.attention.attention.query",
            "encoder.layer.#.attention.attention.key",
            "encoder.layer.#.attention.attention.value",
        ),
        "layers.#.attention.output": "encoder.layer.#.attention.output.dense",
        "layers.#.feed_forward_norm": "encoder.layer.#.layernorm_after",
        "layers.#.feed_forward.inner": "encoder.layer.#.intermediate.dense",
        "layers.#.feed_forward.outer": "encoder.layer.#.output.dense",
        "norm": "layernorm",
    },
    heads={"classify": {"output": "classifier"}},
    tied={},
    extra=("vit.pooler.",),
    fixed={"qkv_bias": True},
    endings={"classify": "ForImageClassification"},
    arrange=arrange,
    restore=restore,
)
