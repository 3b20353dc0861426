"""Every key of a recipe, from the types that check it."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reference.text import safe, spelt, table
from unmask.recipe import Run, TaskOptions
from unmask.recipe.train import FROM_NOTHING
from unmask.tasks import OPTIONS

HEAD = """# Every key of a recipe

Made from the types that check a recipe; `unmask train RECIPE --dry-run` checks one.
[Recipes](../recipes.md) explains them. A recipe has the keys of the first table; with `stages`, a
mapping of names to such recipes without an `encoder`, one encoder learns in several stages.
"""


def make() -> str:
    """The page: the recipe, what every task has, each kind, and what they are made of."""
    kinds: dict[type[BaseModel], str] = {options: name for name, options in OPTIONS.items()}
    found: dict[type[BaseModel], str] = {Run: "The recipe", TaskOptions: "Every task", **kinds}
    rest = dict.fromkeys(part for model in found for part in _parts(model) if part not in found)
    models = found | {m: _name(m) for m in rest}
    parts = [HEAD]
    for model, name in models.items():
        inherited = set(TaskOptions.model_fields) if model in kinds else set()
        rows = [
            [
                f"`{field.alias or key}`",
                _type(key, field, models),
                _default(key, field, model),
                described(key, field, model),
            ]
            for key, field in model.model_fields.items()
            if key not in inherited or _changed(key, field)
        ]
        parts.append(f"## {name}\n\n{safe(_about(model))}\n")
        if model in kinds:
            parts.append(f"`kind: {name}`, [what every task has](#every-task), and:\n")
        parts.append(table(["key", "type", "default", "what it is"], rows))
    return "\n".join(parts)


def described(key: str, field: FieldInfo, model: type[BaseModel]) -> str:
    """What the key is for; ValueError where the code does not say."""
    if not field.description:
        raise ValueError(f"{model.__name__}.{key} has no description")
    return safe(field.description)


def _type(key: str, field: FieldInfo, models: dict[type[BaseModel], str]) -> str:
    if key == "tasks":  # whose kinds the type of a recipe is told, and does not know
        return "[task](#every-task) by name"
    return spelt(field.annotation, models)


def _default(key: str, field: FieldInfo, model: type[BaseModel]) -> str:
    if field.is_required():
        return "needed"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "its defaults"
    shown = f"`{_plain(default)}`"
    of_new = FROM_NOTHING.get(key) if model.__name__ == "TrainOptions" else None
    return f"{shown} (a new encoder: `{of_new}`)" if of_new else shown


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value) or "''"


def _changed(key: str, field: FieldInfo) -> bool:
    """Whether a kind's key is not what every task has of this name."""
    own, common = field, TaskOptions.model_fields[key]
    return key != "kind" and (own.default, own.description) != (common.default, common.description)


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _name(model: type[BaseModel]) -> str:
    return model.__name__.removesuffix("Options").removesuffix("Config")


def _parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The models that a model's keys hold, and theirs."""
    for field in model.model_fields.values():
        for kind in _models(field.annotation):
            yield kind
            yield from _parts(kind)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in typing.get_args(kind):
        yield from _models(inner)
