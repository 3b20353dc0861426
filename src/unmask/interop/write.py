"""Writing a folder in the layout of Hugging Face, sentence-transformers or Google."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from unmask.encoder import EncoderConfig, HeadConfig, MaskedHead
from unmask.encoder.bricks import ACTIVATIONS
from unmask.errors import UserError
from unmask.files import new_folder, write_json
from unmask.interop import google
from unmask.interop.checkpoint import Checkpoint
from unmask.interop.families import FAMILIES, vit
from unmask.interop.family import Family
from unmask.interop.read import PREPARATION
from unmask.interop.sentence import write_pooling
from unmask.interop.tokenizer import write_text_input
from unmask.interop.weights import write_weights

_IDS = {
    "pad_token_id": "pad",
    "bos_token_id": "begin",
    "cls_token_id": "begin",
    "eos_token_id": "end",
    "sep_token_id": "end",
}


def write_checkpoint(checkpoint: Checkpoint, path: Path, family: str | None = None) -> None:
    """Write a folder that transformers reads, as `family` or as the one that it came from.

    An encoder of our own goes to the first family that its shape fits. The folder appears whole
    or not at all.
    """
    with new_folder(path) as folder:
        _write(checkpoint, folder, _choose(checkpoint, family))


def write_sentence_transformers(checkpoint: Checkpoint, path: Path) -> None:
    """Write a folder that sentence-transformers reads: the encoder and its pooling, no heads."""
    bare = replace(checkpoint, heads={}, head_configs={}, labels=())
    with new_folder(path) as folder:
        write_pooling(bare, folder)
        _write(bare, folder, _choose(bare, None))


def write_tensorflow(checkpoint: Checkpoint, path: Path) -> None:
    """Write a folder that google-research/bert reads: the encoder, and a masked-language head."""
    for kind in checkpoint.heads.keys() - {"mlm"}:
        raise UserError(
            f"Google's layout has a place for a head of kind mlm, and none for {kind}; leave "
            "--task out for the encoder alone, or export as huggingface"
        )
    family = _choose(checkpoint, "bert")
    google.check_tokenizer(checkpoint.text.tokenizer)
    raw, weights = _content(checkpoint, family)
    with new_folder(path) as folder:
        google.write(raw, weights, folder)
        write_text_input(checkpoint.text, checkpoint.config, folder)


def _choose(checkpoint: Checkpoint, name: str | None) -> Family:
    name = name or checkpoint.family
    if name is not None and name not in FAMILIES:
        raise UserError(
            f"{name!r} is none of the families that unmask writes: {', '.join(FAMILIES)}"
        )
    misfits = {n: _misfits(checkpoint, FAMILIES[n]) for n in ([name] if name else FAMILIES)}
    config = checkpoint.config
    best = min(misfits, key=lambda n: (_strange(config, FAMILIES[n]), len(misfits[n])))
    if misfits[best]:
        raise UserError(
            f"this model cannot be written as {best}, which has no place for its "
            f"{', '.join(misfits[best])}; keep it as a bundle"
        )
    return FAMILIES[best]


def _misfits(checkpoint: Checkpoint, family: Family) -> list[str]:
    """What of the encoder and its head a family cannot express."""
    found = family.misfits(checkpoint.config)
    if _strange(checkpoint.config, family):
        return found
    shape = family.write_config(checkpoint.config)
    for kind in checkpoint.heads:
        ours = _head_config(checkpoint, kind)
        raw = shape | family.write_head(kind, ours)
        theirs = family.read_head(kind, raw)
        # Dropout is only for training: it is written where there is a setting for it.
        found += [
            f"{kind} head's {key} {value!r} (there {getattr(theirs, key)!r})"
            for key, value in ours
            if key != "dropout" and value != getattr(theirs, key)
        ]
    return found


def _strange(config: EncoderConfig, family: Family) -> bool:
    """Whether a family has no encoders at all that are like this one."""
    try:
        family.read_config(family.write_config(config))
    except ValueError:
        return True
    return False


def _head_config(checkpoint: Checkpoint, kind: str) -> HeadConfig:
    head = checkpoint.heads[kind]
    if not isinstance(head, MaskedHead):
        return checkpoint.head_configs[kind]
    transform = head.transform
    activation = next(name for name, f in ACTIVATIONS.items() if f is transform.activation)
    bias = transform.dense.bias is not None
    return HeadConfig(pooling="none", activation=activation, norm=True, bias=bias, dropout=0)


def _write(checkpoint: Checkpoint, path: Path, family: Family) -> None:
    raw, weights = _content(checkpoint, family)
    if not any(family.bare_name(key) == key for key in weights):  # no part outside the encoder
        weights = {family.bare_name(key): value for key, value in weights.items()}
    write_json(path / "config.json", raw)
    if checkpoint.config.image is not None:
        write_json(path / PREPARATION, vit.write_preparation(checkpoint.config.image))
    write_text_input(checkpoint.text, checkpoint.config, path)
    write_weights(weights, path)


def _content(checkpoint: Checkpoint, family: Family) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of config.json, and the weights under their full names."""
    if len(checkpoint.heads) > 1:
        raise UserError(
            f"such a folder holds one head and this model has {', '.join(checkpoint.heads)}; "
            "choose one"
        )
    kind = next(iter(checkpoint.heads), None)
    raw = family.write_config(checkpoint.config)
    for name, role in _IDS.items():
        raw.setdefault(name, checkpoint.text.special_id(role))
    if raw["pad_token_id"] != checkpoint.text.special_id("pad"):
        raise UserError(
            f"a {family.name} counts positions from its padding token's id, which must be "
            f"{raw['pad_token_id']}, and is {checkpoint.text.special_id('pad')} in this tokenizer"
        )
    names = family.encoder_names(checkpoint.encoder.state_dict())
    weights = _translated(checkpoint.encoder.state_dict(), names)
    if kind is not None:
        raw |= _head_settings(checkpoint, kind, family)
        state = checkpoint.heads[kind].state_dict()
        weights |= _translated(state, family.head_names(kind, state))
    weights = family.restore(weights, checkpoint.config)
    if family.name == checkpoint.family:
        weights = checkpoint.extra | weights
    ending = family.endings[kind] if kind else "Model"
    head = {"architectures": [family.classes + ending], "model_type": family.name}
    return head | raw, weights


def _head_settings(checkpoint: Checkpoint, kind: str, family: Family) -> dict[str, Any]:
    raw = family.write_head(kind, _head_config(checkpoint, kind))
    if kind in ("classify", "tag"):
        raw["id2label"] = {str(n): label for n, label in enumerate(checkpoint.labels)}
        raw["label2id"] = {label: n for n, label in enumerate(checkpoint.labels)}
    if checkpoint.multi_label:
        raw["problem_type"] = "multi_label_classification"
    return raw


def _translated(state: dict[str, Tensor], names: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = value.chunk(len(names[key]))
        weights |= dict(zip(names[key], parts, strict=True))
    return weights
