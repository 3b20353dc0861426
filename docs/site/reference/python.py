"""The public names of the package, from their signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import unmask
from reference.text import safe

HEAD = """# The Python interface

Made from the code's docstrings. These names are the public interface, and
[Releasing](../releasing.md) says how they may change. Whatever else the package holds may change in
any version.
"""


def make() -> str:
    """The page: functions first, then classes with what they offer."""
    public = {name: getattr(unmask, name) for name in unmask.__all__ if name != "__version__"}
    parts = [HEAD]
    for name, thing in sorted(public.items(), key=lambda item: (inspect.isclass(item[1]), item[0])):
        parts.append(f"## unmask.{name}\n\n{_block(name, thing)}\n\n{about(thing, name)}\n")
        if inspect.isclass(thing):
            parts += [
                f"### {name}.{own}\n\n{_block(own, member)}\n\n{about(member, f'{name}.{own}')}\n"
                for own, member in members(thing)
            ]
    return "\n".join(parts)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, property | classmethod)
        ):
            yield name, member


def about(thing: Any, name: str) -> str:
    """A docstring as Markdown; ValueError where there is none."""
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{name} has no docstring")
    return "\n\n".join(safe(" ".join(p.split())) for p in text.split("\n\n"))


def _block(name: str, thing: Any) -> str:
    if isinstance(thing, property):
        kind = inspect.signature(thing.fget).return_annotation if thing.fget else ""
        return f"```python\n{name}: {kind}\n```"
    if isinstance(thing, classmethod):
        thing = thing.__func__
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"```python\nclass {name}({thing.__bases__[0].__name__})\n```"
    signature = inspect.signature(thing)
    shown = [_parameter(p) for p in signature.parameters.values() if p.name != "self"]
    back = signature.return_annotation
    arrow = "" if inspect.isclass(thing) or back is inspect.Signature.empty else f" -> {back}"
    line = f"{name}({', '.join(shown)}){arrow}"
    if len(line) > 88:
        line = f"{name}(\n    " + ",\n    ".join(shown) + f",\n){arrow}"
    return f"```python\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    many = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    stars = many.get(parameter.kind.name, "")
    kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{kind}{default}"
