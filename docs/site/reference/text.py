"""What the makers of pages share: cells of tables, and types as a person writes them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

NAMES: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    Any: "anything",
}


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(c) for c in line) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    """A text that stands in one cell."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def safe(text: str) -> str:
    """A sentence of the code in a page: what looks like HTML, emphasis or a formula does not."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for sign in ("\\", "*", "_", "[", "]", "<", "$"):
            parts[i] = parts[i].replace(sign, {"<": "&lt;"}.get(sign, f"\\{sign}"))
    return "`".join(parts)


def spelt(kind: Any, models: dict[type[BaseModel], str]) -> str:
    """A type as it is written in YAML: choices by values, models by their headings."""
    if kind in models:
        return f"[{models[kind]}](#{models[kind].lower().replace(' ', '-')})"
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return spelt(inside[0], models)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin in (typing.Union, types.UnionType):
        named = [spelt(k, models) for k in inside if k is not type(None)]
        return " or ".join([*named, *(["`null`"] if type(None) in inside else [])])
    if origin is dict:
        return f"mapping of {spelt(inside[0], models)} to {spelt(inside[1], models)}"
    if origin in (list, tuple):
        of = list(dict.fromkeys(spelt(k, models) for k in inside if k is not Ellipsis))
        return f"list of {' or '.join(of)}"
    return NAMES.get(kind) or str(getattr(kind, "__name__", kind))
