"""What there is to say about one family of checkpoints: its configuration and its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.encoder.config import Activation
from unmask.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Raw = Mapping[str, Any]  # the content of a config.json

# Our module's name to theirs; `#` stands for a layer's number. Where several of their modules are
# one of ours (queries, keys and values), their weights are stacked in this order.
Names = Mapping[str, str | tuple[str, ...]]

# Features of config.json that change the numbers and that our encoder does not have.
_FIXED: Raw = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "rope_scaling": None,
    "pruned_heads": {},
    "quantization_config": None,
}

# How the names of their classes end, and the kind of task that our head is for.
ENDINGS: Mapping[str, str] = {
    "mlm": "ForMaskedLM",
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Family:
    """One family: a file in `families/` makes one, and a line in its table makes it known.

    A shape or a head fits a family where writing its configuration and reading it back changes
    nothing; so the two directions need no rules of their own about what does not fit.
    """

    name: str  # `model_type` in config.json
    classes: str  # how the names of its classes begin: "Bert" for BertModel
    prefix: str  # what the encoder is called inside a model with a head
    read_config: Callable[[Raw], EncoderConfig]
    write_config: Callable[[EncoderConfig], dict[str, Any]]
    read_head: Callable[[str, Raw], HeadConfig]
    write_head: Callable[[str, HeadConfig], dict[str, Any]]
    encoder: Names  # within the encoder, so without the prefix
    heads: Mapping[str, Names]  # kind -> names in the whole model, so with the prefix
    tied: Mapping[str, str]  # a second name under which some files repeat a weight -> the first
    extra: tuple[str, ...] = ()  # how names begin of parts that we keep and do not run
    fixed: Raw = field(default_factory=dict)  # the one value supported of further features
    endings: Mapping[str, str] = field(default_factory=lambda: ENDINGS)  # kind -> end of a class
    # Where weights are cut otherwise than ours: from theirs, under their full names, and back.
    arrange: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    restore: Callable[[Mapping[str, Tensor], EncoderConfig], dict[str, Tensor]] = (
        lambda weights, config: dict(weights)
    )

    def check(self, raw: Raw) -> None:
        """Refuse a configuration with features that our encoder does not have."""
        for key, value in {**_FIXED, **self.fixed}.items():
            if raw.get(key) not in (None, value):
                raise UserError(
                    f"{key} is {raw[key]!r} and unmask reads only {value!r}; take another model"
                )

    def misfits(self, config: EncoderConfig) -> list[str]:
        """What of an encoder's shape this family cannot express."""
        try:
            back = self.read_config(self.write_config(config))
        except ValueError as error:  # pydantic's: not even a consistent shape
            return [str(error)]
        ours, theirs = _shape(config), _shape(back)
        return [f"{k} {v!r} (there {theirs[k]!r})" for k, v in ours.items() if v != theirs[k]]

    def encoder_names(self, keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The names, in a model with a head, of our encoder's weights."""
        names = {
            ours: tuple(f"{self.prefix}.{name}" for name in _tuple(theirs))
            for ours, theirs in self.encoder.items()
        }
        return _translate(keys, names)

    def head_names(self, kind: str, keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The names of a head's weights."""
        return _translate(keys, self.heads[kind])

    def has_head(self, kind: str, keys: Iterable[str]) -> bool:
        """Whether any weight is of this head."""
        own = self.heads.get(kind, {})
        modules = {name for names in own.values() for name in _tuple(names)}
        return any(key.rpartition(".")[0] in modules for key in keys)

    def full_name(self, key: str) -> str:
        """The name in a model with a head, for names from a bare encoder or the TensorFlow era."""
        key = re.sub(r"(LayerNorm\.)gamma$", r"\1weight", key)
        key = re.sub(r"(LayerNorm\.)beta$", r"\1bias", key)
        own = [name for names in self.encoder.values() for name in _tuple(names)]
        own += [name.removeprefix(f"{self.prefix}.") for name in self.extra if self._inside(name)]
        roots = {name.split(".")[0] for name in own}
        return f"{self.prefix}.{key}" if key.split(".")[0] in roots else key

    def bare_name(self, key: str) -> str:
        """The name in a file of the encoder alone."""
        return key.removeprefix(f"{self.prefix}.")

    def _inside(self, name: str) -> bool:
        return name.startswith(f"{self.prefix}.")


def read_activation(name: str) -> Activation:
    """Our name of an activation."""
    if name not in _ACTIVATIONS:
        raise UserError(f"activation {name!r} is none of those that unmask has: {[*_ACTIVATIONS]}")
    return _ACTIVATIONS[name]


def write_activation(name: Activation) -> str:
    """Their name of an activation."""
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)


def _shape(config: EncoderConfig) -> dict[str, Any]:
    shape = config.model_dump() | {"embedding_size": config.embedding_width}
    if shape["image"]:
        del shape["image"]["augment"]  # for training alone
    return shape


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _translate(keys: Iterable[str], names: Names) -> dict[str, tuple[str, ...]]:
    found = {}
    for key in keys:
        module, _, parameter = key.rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        theirs = _tuple(names[re.sub(r"\.\d+\.", ".#.", module)])
        layer = number[1] if number else ""
        found[key] = tuple(f"{name}.{parameter}".replace("#", layer) for name in theirs)
    return found
