"""Google's TensorFlow checkpoints of BERT, in the layout of google-research/bert.

A folder holds bert_config.json, vocab.txt and the files of `bert_model.ckpt`. Its variables are the
weights of the family `bert` under other names, matrices transposed, so they are only translated
here: to Hugging Face's names and back. TensorFlow itself opens the files; they hold numbers only.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from unmask.errors import UserError
from unmask.files import write_json
from unmask.inputs.vocabulary import SPECIAL
from unmask.interop.folder import Folder
from unmask.interop.weights import checked

log = logging.getLogger("unmask")

CONFIG = "bert_config.json"
_NAME = "bert_model.ckpt"
_OPTIMISER = ("adam_m", "adam_v", "global_step")  # variables of training, left out

# How a variable's name ends there, and how a weight's ends here; the first that fits counts.
_ENDS = (
    ("LayerNorm/gamma", "LayerNorm/weight"),
    ("LayerNorm/beta", "LayerNorm/bias"),
    ("_embeddings", "_embeddings/weight"),
    ("cls/predictions/output_bias", "cls/predictions/bias"),
    ("cls/seq_relationship/output_weights", "cls/seq_relationship/weight"),
    ("cls/seq_relationship/output_bias", "cls/seq_relationship/bias"),
    ("/kernel", "/weight"),  # of the other orientation
    ("/bias", "/bias"),
)
_SETTINGS = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)
_FIXED = {"layer_norm_eps": (1e-12,), "hidden_act": ("gelu", "relu", "tanh")}  # what it computes


def is_google(folder: Folder) -> bool:
    """Whether a folder is in Google's layout and not in Hugging Face's."""
    if folder.has("config.json"):
        return False
    return folder.has(CONFIG) or any(folder.path.glob("*.ckpt*.index"))


def read_config(folder: Folder) -> dict[str, Any]:
    """The content of bert_config.json, as a config.json would say it."""
    folder.file(CONFIG)
    return folder.json(CONFIG) | {"model_type": "bert", "architectures": ["BertForPreTraining"]}


def read_weights(folder: Folder) -> dict[str, Tensor]:
    """The variables of the model as float32, under Hugging Face's names."""
    path = folder.file(f"{_checkpoint(folder)}.index").with_suffix("")
    parts = [
        file.name for file in folder.path.iterdir() if file.name.startswith(f"{path.name}.data-")
    ]
    if not parts:
        raise UserError(f"{path}.data-00000-of-00001 is missing: is the folder complete?")
    held = sum(folder.file(name, limit=None).stat().st_size for name in parts)
    tensorflow = _tensorflow()
    with _explained(path):
        reader = tensorflow.train.load_checkpoint(str(path.absolute()))
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = sorted(name for name in shapes if name.rpartition("/")[2] not in _OPTIMISER)
    odd = [name for name in names if not types[name].is_floating]
    if odd:
        raise UserError(
            f"{path} holds {odd[0]}, no weight of Google's BERT; is it another model's?"
        )
    # Asked before anything is read: memory is taken by what the index says, not by what is there.
    if sum(math.prod(shapes[name]) * types[name].size for name in names) > held:
        raise UserError(f"{path} is cut short: its data files lack weights; fetch it again")
    found = {}
    for name in names:
        with _explained(path):
            value = np.asarray(reader.get_tensor(name))
        if types[name] == tensorflow.bfloat16:  # a type that torch does not know from numpy
            value = value.astype(np.float32)
        value = value.T if name.endswith("/kernel") else value
        found[our_name(name)] = checked(torch.from_numpy(value), name, path).contiguous()
    return found


def write(raw: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> None:
    """Write bert_config.json and the variables into a folder, from what Hugging Face's would be."""
    for key, known in _FIXED.items():
        if raw[key] not in known:
            raise UserError(
                f"Google's BERT computes with {key} {' or '.join(map(str, known))}, and this model "
                f"has {raw[key]!r}; export it as huggingface"
            )
    tensorflow = _tensorflow()
    write_json(path / CONFIG, {key: raw[key] for key in _SETTINGS})
    values = {their_name(key): value.detach().cpu().numpy() for key, value in weights.items()}
    names = sorted(values)
    tensorflow.raw_ops.SaveV2(
        prefix=str(path / _NAME),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[values[n].T if n.endswith("/kernel") else values[n] for n in names],
    )


def our_name(name: str) -> str:
    """Hugging Face's name of a variable."""
    name = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name)
    return _other_end(name, dict(_ENDS)).replace("/", ".")


def their_name(name: str) -> str:
    """Google's name of a weight."""
    name = re.sub(r"/layer/(\d+)/", r"/layer_\1/", name.replace(".", "/"))
    return _other_end(name, {ours: theirs for theirs, ours in _ENDS})


def lower_case(folder: Folder, vocabulary: Mapping[str, int]) -> bool:
    """Whether texts lose their capitals, which no file there says: it is guessed, and told.

    By the folder's name (uncased, cased), else by whether any piece has a capital letter.
    """
    named = re.search("(?<![a-z])(un)?cased", folder.path.resolve().name.lower())
    if named:
        lower, why = named[1] is not None, f"by the name of {folder.path}"
    else:
        capital = next((word for word in vocabulary if re.match("(##)?[A-Z]", word)), None)
        lower = capital is None
        why = "its vocabulary has " + (f"{capital!r}" if capital else "no capital letters")
    log.info("%s: texts are read %s (%s)", folder.path, ("cased", "in lower case")[lower], why)
    return lower


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer of which vocab.txt and a flag for lower case do not say everything."""
    normalizer, pieces = tokenizer.normalizer, tokenizer.get_vocab()
    if not (
        isinstance(tokenizer.model, models.WordPiece)
        and isinstance(normalizer, normalizers.BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and normalizer.clean_text
        and normalizer.handle_chinese_chars
        and normalizer.strip_accents in (None, normalizer.lowercase)
        and len(pieces) == tokenizer.get_vocab_size(with_added_tokens=False)
        and all(token in pieces for token in SPECIAL)
    ):
        raise UserError(
            "Google's BERT reads the plain word pieces of a vocab.txt, and this model's tokenizer "
            "is another; export it as huggingface"
        )


def _other_end(name: str, ends: Mapping[str, str]) -> str:
    for end, other in ends.items():
        if name.endswith(end):
            return name.removesuffix(end) + other
    return name


def _checkpoint(folder: Folder) -> str:
    """The name before the endings of a checkpoint's files: the usual one, or the only one."""
    found = sorted(file.name.removesuffix(".index") for file in folder.path.glob("*.ckpt*.index"))
    if len(found) > 1 and _NAME not in found:
        raise UserError(
            f"{folder.path} holds several checkpoints: {', '.join(found)}; keep the files of one"
        )
    return _NAME if _NAME in found or not found else found[0]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # OpError, IndexError and others: the library has no one class
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is broken or cut short ({reason}); fetch it again") from None


def _tensorflow() -> Any:
    # Nothing is computed with it, and it would tell of how it computes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ImportError:
        raise UserError(
            "Google's checkpoints are read and written by TensorFlow, the extra `tensorflow`; "
            "pip install 'unmask[tensorflow]'"
        ) from None
    return tensorflow
