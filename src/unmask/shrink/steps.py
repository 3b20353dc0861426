"""The steps of a chain: how they are written, and what they do to a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.model import Model
from unmask.shrink.importance import importance
from unmask.shrink.material import Material
from unmask.shrink.prune import drop_heads, drop_layers, drop_units, keep_layers
from unmask.shrink.rebuilt import rebuilt, tasks_of
from unmask.shrink.vocabulary import trim

# How each step is written, for messages and the help.
FORMS = {
    "vocabulary": "vocabulary",
    "layers": "layers=3 or layers=50%",
    "heads": "heads=6 or heads=50%",
    "units": "units=768 or units=50%",
    "student": "student=3 or student=3x192",
    "recover": "recover or recover=int8",
    "bf16": "bf16",
    "int8": "int8",
    "exits": "exits or exits=0.99",
}
_LAST = ("bf16", "int8", "exits")  # how a model is stored and computed, in this order

_PRECISION = re.compile("(int8)?")
_COUNT = re.compile(r"(\d+)(%?)")
_SHAPE = re.compile(r"(\d+)(?:x(\d+))?")
_SHARE = re.compile(r"(0?\.\d*[1-9]\d*)?")  # between 0 and 1
_SAME = 0.99  # of the answers stay as they are, where exits do not say otherwise
_PATTERNS = {
    "student": _SHAPE,
    "layers": _COUNT,
    "heads": _COUNT,
    "units": _COUNT,
    "recover": _PRECISION,
    "exits": _SHARE,
}


@dataclass(frozen=True)
class Step:
    """One step: its name, and the number or shape behind it."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name

    @property
    def keeps(self) -> bool:
        """Whether what comes out for kept texts stays as it is."""
        return self.name == "vocabulary"

    @property
    def shape(self) -> tuple[int, int | None]:
        """Layers and width of a student; None: the teacher's width."""
        match = _SHAPE.fullmatch(self.value)
        assert match is not None  # `parse` has looked
        return int(match[1]), int(match[2]) if match[2] else None

    @property
    def share(self) -> float:
        """Of the answers, that are to stay what they are."""
        return float(self.value or _SAME)

    def count(self, whole: int, what: str) -> int:
        """How many of so many are left; a UserError where that is none or more than there are."""
        match = _COUNT.fullmatch(self.value)
        assert match is not None
        number = int(match[1])
        left = max(round(whole * number / 100), 1) if match[2] else number
        if not 1 <= left <= whole or (match[2] and not number):
            raise UserError(f"{self}: the model has {whole} {what}; keep between 1 and {whole}")
        return left


def parse(texts: Sequence[str]) -> list[Step]:
    """Steps as they were written on the command line; a UserError says what is wrong with one."""
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in FORMS:
            raise UserError(f"--to {text}: there is no such step; there are {', '.join(FORMS)}")
        pattern = _PATTERNS.get(name, re.compile(""))
        if not pattern.fullmatch(value) or bool(equals) != bool(value):
            raise UserError(f"--to {text}: write {FORMS[name]}")
        found.append(Step(name, value))
    if not found:
        raise UserError(f"give at least one step with --to: {', '.join(FORMS)}")
    _check_order(found)
    return found


def _check_order(steps: Sequence[Step]) -> None:
    for i, step in enumerate(steps):
        behind = [later.name for later in steps[i + 1 :]]
        if step.name in _LAST and set(behind) - set(_LAST[_LAST.index(step.name) + 1 :]):
            raise UserError(f"--to {step}: how weights are stored and computed comes last")
        if step.name == "int8" and "exits" in behind:
            raise UserError(
                "--to int8 --to exits: a compiled form computes all layers at once, so its answers "
                "cannot come early; choose one of the two"
            )
        if step.name == "student" and step.shape[1] is not None and "recover" not in behind:
            raise UserError(
                f"--to {step}: a student of another width begins anew; recover behind it"
            )


def changed(model: Model, step: Step, material: Material) -> Model:
    """The model after a step that changes its shape."""
    config = model.encoder.config
    if step.name == "vocabulary":
        return trim(model, material.spoken)
    if step.name == "student":
        return student(model, *step.shape)
    if step.name == "bf16":
        return rounded(model)
    whole, what = {
        "layers": (config.num_layers, "layers"),
        "heads": (config.num_heads, "heads a layer"),
        "units": (config.intermediate_size, "feed-forward units a layer"),
    }[step.name]
    left = step.count(whole, what)
    found = importance(model, material.losses(model))
    return {"layers": drop_layers, "heads": drop_heads, "units": drop_units}[step.name](
        model, found, left
    )


def rounded(model: Model) -> Model:
    """The model with every weight as bf16 holds it, still as fp32 numbers."""
    encoder = {name: t.bfloat16().float() for name, t in model.encoder.state_dict().items()}
    heads = {
        name: {key: t.bfloat16().float() for key, t in model.head(name).state_dict().items()}
        for name in model.tasks
    }
    return rebuilt(model, model.encoder.config, encoder, heads=heads)


def student(model: Model, layers: int, width: int | None) -> Model:
    """A shallower encoder of evenly spaced layers (as in DistilBERT, arXiv:1910.01108).

    With another width it begins anew, but for the tokens' vectors: the teacher's along their
    principal directions. Its heads are new.
    """
    config = model.encoder.config
    if not 1 <= layers <= config.num_layers:
        raise UserError(f"student={layers}: the teacher has {config.num_layers} layers")
    if width is None or width == config.hidden_size:
        return keep_layers(model, [i * config.num_layers // layers for i in range(layers)])
    size = config.head_width
    if not size <= width < config.hidden_size or width % size:
        raise UserError(
            f"student={layers}x{width}: give a multiple of {size}, the width of a head, under the "
            f"teacher's width of {config.hidden_size}"
        )
    changes = {
        "num_layers": layers,
        "hidden_size": width,
        "num_heads": width // size,
        "head_size": None,
        "global_layers": None,
        "intermediate_size": max(config.intermediate_size * width // config.hidden_size, 1),
    }
    torch.manual_seed(0)
    encoder = Encoder(config.model_copy(update=changes))
    table = model.encoder.embeddings.token.weight.detach()  # (V, E)
    if config.embedding_size is None:
        _, _, directions = torch.linalg.svd(table - table.mean(0), full_matrices=False)
        table = table @ directions[:width].T  # (V, width)
    with torch.no_grad():
        encoder.embeddings.token.weight.copy_(table)
    tasks = tasks_of(model, model.text)
    heads = {name: task.build(encoder) for name, task in tasks.items()}
    found = Model(encoder, model.text, tasks, heads, model.pooling)
    return found.to(model.device)
