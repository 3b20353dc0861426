"""Folders in the sentence-transformers layout: an encoder, a pooling, perhaps a normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.encoder import Pooling
from unmask.errors import UserError
from unmask.files import read_json, write_json
from unmask.interop.checkpoint import Checkpoint
from unmask.interop.folder import Folder

_MODES: dict[str, str] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_SHAPES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


@dataclass(frozen=True)
class Sentence:
    """What such a folder says beside its encoder."""

    encoder: Folder  # where the encoder's own files are
    pooling: Pooling
    max_length: int | None


def read_sentence(folder: Folder) -> Sentence | None:
    """The folder's pooling; None where it is a plain encoder's."""
    if not folder.has("modules.json"):
        return None
    path = folder.path / "modules.json"
    modules = read_json(folder.file("modules.json"))
    try:
        kinds = [_kind(str(module["type"])) for module in modules]
        places = [str(module["path"]) for module in modules]
    except (TypeError, KeyError):
        raise UserError(f"{path} is not a list of modules; fetch it again") from None
    if kinds not in _SHAPES:
        raise UserError(f"{path} lists {kinds}; unmask reads Transformer, Pooling and Normalize")
    settings = folder.json("config_sentence_transformers.json")
    if settings.get("default_prompt_name"):
        raise UserError(
            f"{folder.path}/config_sentence_transformers.json puts a prompt before every text "
            "(default_prompt_name), which unmask does not; set it to null, and write the prompt "
            "into your texts"
        )
    encoder = folder.sub(places[0])
    own = encoder.json("sentence_bert_config.json")
    if own.get("do_lower_case"):
        raise UserError(
            f"{encoder.path}/sentence_bert_config.json sets do_lower_case; set it to false, and "
            "let the tokenizer lower the case"
        )
    mode = _mode(folder.sub(places[1]))
    pooling = Pooling(mode=mode, normalise=len(kinds) == 3)
    with encoder.explain("sentence_bert_config.json"):
        length = own.get("max_seq_length")
        return Sentence(encoder, pooling, int(length) if length else None)


def write_pooling(checkpoint: Checkpoint, path: Path) -> None:
    """Add to a folder what makes it a sentence-transformers folder."""
    pooling = checkpoint.pooling
    if pooling is None:
        raise UserError(
            "this encoder has no pooling, so it is no sentence encoder; train one first"
        )
    kinds = _SHAPES[pooling.normalise]
    places = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": place,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (kind, place) in enumerate(zip(kinds, places, strict=True))
    ]
    write_json(path / "modules.json", modules)
    own = {"max_seq_length": checkpoint.max_length, "do_lower_case": False}
    write_json(path / "sentence_bert_config.json", own)
    width: dict[str, Any] = {"word_embedding_dimension": checkpoint.config.hidden_size}
    modes = {key: mode == pooling.mode for key, mode in _MODES.items()}
    write_json(path / places[1] / "config.json", width | modes)


def _kind(name: str) -> str:
    """The module's kind; a class from elsewhere keeps its whole name and so is refused."""
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _mode(folder: Folder) -> Any:
    config = folder.json("config.json")
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    names = [_MODES.get(key, key.removeprefix("pooling_mode_")) for key in chosen]
    if "pooling_mode" in config:  # newer files name it
        names = [config["pooling_mode"]]
    if names not in (["mean"], ["cls"]):
        raise UserError(
            f"{folder.path}/config.json pools by {names}; unmask pools by 'mean' or by 'cls' alone"
        )
    return names[0]
