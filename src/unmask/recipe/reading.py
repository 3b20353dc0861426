"""Reading a recipe: from a file, with changes, checked, and explained where it is wrong."""

from __future__ import annotations

import copy
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from unmask.errors import UserError
from unmask.recipe.options import Run, TaskOptions, check_name
from unmask.recipe.train import BUDGETS, FROM_NOTHING


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2, and not a text, and no key stands twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, before what it merges from another (`<<`) is laid under its own keys."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # a list or a mapping, which is refused as a key when it is constructed
            if key.value in seen:
                said = f"the key {key.value!r} stands there twice, and only one would count"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


Kinds = Mapping[str, type[TaskOptions]]


def run_model(kinds: Kinds) -> type[Run]:
    """The type of a run whose tasks are of these kinds."""
    union: Any = reduce(or_, kinds.values())
    if len(kinds) > 1:
        union = Annotated[union, Field(discriminator="kind")]
    return create_model("Recipe", __base__=Run, tasks=(dict[str, union], ...))


def json_schema(kinds: Kinds) -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    run = run_model(kinds).model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    definitions = run.pop("$defs")
    stage = {**run, "required": [], "title": "Stage"}
    run["properties"] = {
        **run["properties"],
        "stages": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Stage"}},
    }
    return {**run, "required": ["encoder"], "$defs": {**definitions, "Stage": stage}}


def read(source: Path | Mapping[str, Any], changes: Iterable[str] = ()) -> dict[str, Any]:
    """A recipe file, or its content as a mapping, with `key=value` changes: still unchecked."""
    where = "the recipe"
    if isinstance(source, Path):
        where = str(source)
        try:
            data = yaml.load(source.read_text(encoding="utf-8"), _Loader)
        except FileNotFoundError:
            raise UserError(f"{where}: there is no such recipe") from None
        except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: a date of no calendar
            raise UserError(f"{where} is not readable YAML: {error}") from None
    else:
        data = copy.deepcopy(dict(source))
    if not isinstance(data, dict):
        raise UserError(f"{where} must hold keys such as `encoder` and `tasks`")
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UserError(f"{change!r} is not a change: write key=value, e.g. train.seed=1")
        place = data
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"{change!r}: {parent} holds no keys in {where}")
        try:
            new = yaml.load(value, _Loader)
        except (ValueError, yaml.YAMLError):
            raise UserError(f"{change!r}: the value is not readable YAML") from None
        if last in BUDGETS and new is not None:  # a new budget takes the place of the old one
            for unit in BUDGETS:
                place.pop(unit, None)
        place[last] = new
    return data


def parse(data: Mapping[str, Any], kinds: Kinds) -> dict[str, Run]:
    """Check a recipe; its stages by name, in order (a recipe without stages is one, named '').

    A staged recipe has one `encoder` and, under `stages`, the rest of a run for each stage.
    Each stage after the first starts from the encoder that the stage before it trained. What
    stands outside the stages holds for all of them, unless a stage says otherwise.
    """
    if "stages" not in data:
        return {"": _check(_completed(data), kinds)}
    common = {key: value for key, value in data.items() if key != "stages"}
    stages = data["stages"]
    if not isinstance(stages, Mapping) or not stages:
        raise UserError("stages: give each stage a name and its tasks")
    runs: dict[str, Run] = {}
    for name, stage in stages.items():
        try:
            check_name("stages", str(name))
        except ValueError as error:
            raise UserError(f"recipe: {error}") from None
        if not isinstance(stage or {}, Mapping):
            raise UserError(f"recipe: `stages.{name}` must hold keys such as `tasks` and `train`")
        if "encoder" in (stage or {}):
            raise UserError(
                f"recipe: `stages.{name}.encoder`: stages train one encoder; write it above them"
            )
        merged: Mapping[str, Any] = _merged(common, stage or {})
        if not runs:  # the others start from a trained encoder
            merged = _completed(merged)
        runs[str(name)] = _check(merged, kinds, f"stages.{name}.")
    return runs


def _completed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the defaults of a run that starts from nothing, where it does."""
    encoder, train = data.get("encoder"), data.get("train") or {}
    if not isinstance(encoder, Mapping) or not isinstance(train, Mapping):
        return data
    if encoder.get("from") or encoder.get("source"):
        return data
    train = {**FROM_NOTHING, **train}
    if train.get("head_learning_rate") is None:  # nothing is older than the heads
        train["head_learning_rate"] = train["learning_rate"]
    return {**data, "train": train}


def _merged(common: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage over what is common to all; its own budget takes the place of the common one."""
    merged = {**common, **stage}
    for key in ("train", "mixture"):
        ours, theirs = common.get(key), stage.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            another_budget = any(theirs.get(unit) is not None for unit in BUDGETS)
            kept = {k: v for k, v in ours.items() if k not in BUDGETS or not another_budget}
            merged[key] = {**kept, **theirs}
    return merged


def _check(data: Mapping[str, Any], kinds: Kinds, prefix: str = "") -> Run:
    return checked(run_model(kinds), data, prefix)


Checked = TypeVar("Checked", bound=BaseModel)


def checked(model: type[Checked], data: Mapping[str, Any], prefix: str = "") -> Checked:
    """What a recipe holds, as its type; a UserError says in one line all that is wrong with it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, dict(problem), prefix) for problem in error.errors()]
        raise UserError("recipe: " + "; ".join(dict.fromkeys(lines))) from None


def _explain(model: type[BaseModel], problem: dict[str, Any], prefix: str) -> str:
    """One problem that pydantic found, with the nearest right name for an unknown key."""
    kind: Any = model
    place: list[str] = []
    *parents, last = problem["loc"] or ("",)
    missing_key = problem["type"] in ("extra_forbidden", "missing")
    for part in parents if missing_key else problem["loc"]:
        kind, is_key = _step(kind, part)
        place += [str(part)] if is_key else []
    name = prefix + ".".join(place + [str(last)] * missing_key)
    if problem["type"] == "extra_forbidden":
        known = [key for member in _members(kind) for key in _keys(member)]
        near = difflib.get_close_matches(str(last), known, 1, 0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"`{name}` is unknown; {hint}"
    if problem["type"] == "missing":
        return f"`{name}` is missing"
    if problem["type"].startswith("union_tag"):
        return f"`{name}.kind` must name a kind of task: {problem['ctx']['expected_tags']}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"`{name}`: {message}" if name else message


def _keys(kind: Any) -> dict[str, Any]:
    """The keys of a model as a recipe writes them, with their types."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _members(kind: Any) -> list[Any]:
    """The types that a union or an annotated type may stand for."""
    if typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
        return [m for option in typing.get_args(kind) for m in _members(option)]
    return [kind]


def _step(kind: Any, part: Any) -> tuple[Any, bool]:
    """The type one step of a problem's place leads to, and whether that step is a key.

    A step that is no key picks the member of a union, by its kind or by its class.
    """
    for member in _members(kind):
        if part in _keys(member):
            return _keys(member)[part], True
        if typing.get_origin(member) is dict:
            return typing.get_args(member)[1], True
        if typing.get_origin(member) is list:
            return typing.get_args(member)[0], True
    for member in _members(kind):
        if part in typing.get_args(_keys(member).get("kind")):
            return member, False
        if part == getattr(member, "__name__", None):
            return member, False
    return None, False
