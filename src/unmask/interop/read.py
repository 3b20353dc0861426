"""Reading a folder in the layout of Hugging Face, sentence-transformers or Google."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unmask.encoder import Encoder, EncoderConfig, HeadConfig, LabelHead, MaskedHead
from unmask.errors import UserError
from unmask.interop import google
from unmask.interop.checkpoint import Checkpoint
from unmask.interop.families import FAMILIES
from unmask.interop.family import Family
from unmask.interop.folder import Folder
from unmask.interop.sentence import read_sentence
from unmask.interop.tokenizer import read_text
from unmask.interop.weights import read_weights

PREPARATION = "preprocessor_config.json"  # how pictures are made ready
_LABEL_LIMIT = 100_000  # a file that means harm could ask for more than there is memory
_BARE = ("Model", "ForPreTraining")  # no head, or the masked-language one: the weights tell


def read_checkpoint(path: Path) -> Checkpoint:
    """The encoder in a folder, its head, tokenizer and pooling: in float32, ready for inference.

    Every weight must be one that the family knows, be there, and have the shape that config.json
    says; any other is an error that names it. No code that came with a model is run.
    """
    top = Folder.open(path)
    sentence = read_sentence(top)
    folder = sentence.encoder if sentence else top
    name = google.CONFIG if google.is_google(folder) else "config.json"
    raw, family, config = _read_config(folder, name)
    text = read_text(folder, config, sentence.max_length if sentence else None)
    weights = _Weights(folder, family)
    with folder.explain(name):
        kind = _kind(raw, family, weights.found)
    if config.num_layers > len(weights.found):
        raise UserError(f"{folder.path} has too few weights for {config.num_layers} layers")
    with torch.device("meta"):  # shapes only: the weights come from the file
        encoder = Encoder(config)
    weights.fill(encoder, family.encoder_names(encoder.state_dict()))
    checkpoint = Checkpoint(config, encoder.eval(), text, family=family.name)
    checkpoint.pooling = sentence.pooling if sentence else None
    if kind is not None:
        with folder.explain(name):
            head_config = family.read_head(kind, raw)
            if kind in ("classify", "tag"):
                checkpoint.labels = _labels(raw)
        checkpoint.multi_label = raw.get("problem_type") == "multi_label_classification"
        with torch.device("meta"):
            head = make_head(kind, encoder, head_config, len(checkpoint.labels) or 2)
        weights.fill(head, family.head_names(kind, head.state_dict()))
        checkpoint.heads[kind] = head.eval()
        checkpoint.head_configs[kind] = head_config
    checkpoint.extra = weights.rest()
    return checkpoint


def make_head(kind: str, encoder: Encoder, config: HeadConfig, labels: int) -> nn.Module:
    """A head of a kind of task, as the families have it."""
    if kind == "mlm":
        return MaskedHead(encoder.config, encoder.embeddings.token, config.bias, config.activation)
    return LabelHead(encoder.config, config, labels)


def _read_config(folder: Folder, file: str) -> tuple[dict[str, Any], Family, EncoderConfig]:
    path = folder.file(file)
    raw = google.read_config(folder) if file == google.CONFIG else folder.json(file)
    if raw.get("auto_map"):
        raise UserError(
            f"{path} asks for code of its own (auto_map), and unmask runs no code that comes with "
            f"a model; it reads {', '.join(FAMILIES)}"
        )
    name = raw.get("model_type")
    if name not in FAMILIES:
        raise UserError(f"{path} has model_type {name!r}; unmask reads {', '.join(FAMILIES)}")
    raw = folder.json(PREPARATION) | raw
    with folder.explain(file):
        FAMILIES[name].check(raw)
        return raw, FAMILIES[name], FAMILIES[name].read_config(raw)


def _kind(raw: Mapping[str, Any], family: Family, keys: Mapping[str, Tensor]) -> str | None:
    """The kind of the head: by the name of the class, or by the weights where it names none."""
    name = str((raw.get("architectures") or [f"{family.classes}Model"])[0])
    ending = name.removeprefix(family.classes)
    kinds = {theirs: ours for ours, theirs in family.endings.items()}
    if ending not in kinds and ending not in _BARE:
        known = ", ".join(family.classes + end for end in (*_BARE, *kinds))
        raise UserError(f"its architecture is {name}; of this family unmask reads {known}")
    kind = kinds.get(ending, "mlm")
    # Sentence encoders often keep the name of the masked-language model that they grew from.
    return None if kind == "mlm" and not family.has_head("mlm", keys) else kind


def _labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    count = min(raw.get("num_labels", 2), _LABEL_LIMIT)
    names = raw.get("id2label") or {number: f"LABEL_{number}" for number in range(count)}
    labels = {int(number): str(label) for number, label in names.items()}
    if sorted(labels) != list(range(len(labels))) or len(set(labels.values())) < len(labels):
        raise UserError(
            f"id2label does not give the numbers from 0 on a name of their own: {names}"
        )
    return tuple(labels[number] for number in range(len(labels)))


class _Weights:
    """A folder's weights under their family's full names, taken out one by one."""

    def __init__(self, folder: Folder, family: Family) -> None:
        self.path, self.family = folder.path, family
        read = google.read_weights if google.is_google(folder) else read_weights
        self.found = family.arrange({family.full_name(k): v for k, v in read(folder).items()})
        for copy, first in family.tied.items():
            if copy not in self.found:
                continue
            repeated = self.found.pop(copy)
            if not torch.equal(repeated, self.found.setdefault(first, repeated)):
                raise UserError(
                    f"{copy} in {self.path} differs from {first}; unmask reads only models in "
                    "which the two are one (tie_word_embeddings)"
                )

    def fill(self, module: nn.Module, names: Mapping[str, tuple[str, ...]]) -> None:
        """Give a module its weights."""
        state = {}
        for key, value in module.state_dict().items():
            theirs = names[key]
            rows = value.shape[0] // len(theirs)
            parts = [self._take(name, (rows, *value.shape[1:])) for name in theirs]
            state[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
        module.load_state_dict(state, assign=True)

    def rest(self) -> dict[str, Tensor]:
        """What no module took, which must be of parts known to be left over."""
        for key in sorted(self.found):
            if not key.startswith(self.family.extra or ("\0",)):
                raise UserError(
                    f"{self.path} has a weight {key} that a {self.family.name} of its config.json "
                    f"does not have ({len(self.found)} left over); is it another model's?"
                )
        return self.found

    def _take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if key not in self.found:
            raise UserError(f"{self.path} lacks the weight {key}; is the file complete?")
        weight = self.found.pop(key)
        if weight.shape != shape:
            raise UserError(
                f"{key} in {self.path} has the shape {tuple(weight.shape)}, and by config.json "
                f"it must have {shape}; do the two files belong together?"
            )
        return weight
