"""Every command with its arguments and options, from the command itself."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main

from reference.text import safe, spelt, table
from unmask.cli.app import app

HEAD = """# Every command

Made from the command itself: `unmask COMMAND --help` prints the same. `unmask --install-completion`
lets your shell complete commands and options. A user's mistake ends with one line and exit code 2,
Ctrl-C with 130, SIGTERM with 143.
"""


def make() -> str:
    """The page: a section a command."""
    parts = [HEAD]
    for name, command in commands(typer.main.get_command(app), "unmask"):
        about = command.help or ""
        text, _, example = about.partition("Example:")
        parts.append(f"## {name}\n\n{safe(_joined(text))}\n")
        if example:
            parts.append(f"```console\n$ {_joined(example)}\n```\n")
        rows = [
            [_spelt(parameter), _type(parameter), _default(parameter), _help(name, parameter)]
            for parameter in command.params
        ]
        if rows:
            parts.append(table(["option", "type", "default", "what it is"], rows))
    return "\n".join(parts)


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Commands and those inside them, with all words of their names."""
    inside = getattr(command, "commands", None)
    if inside is None:
        yield name, command
        return
    for word, one in inside.items():
        yield from commands(one, f"{name} {word}")


def _joined(text: str) -> str:
    """Lines as one, paragraphs apart; click marks kept ones by a backspace."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b", "").strip())
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)


def _spelt(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        many = "…" if parameter.nargs == -1 else ""
        return f"`{(parameter.metavar or parameter.name).upper().rstrip('….')}{many}`"
    return ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))


def _type(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    kind = parameter.type_descriptor.annotation
    if getattr(parameter, "multiple", False):
        return f"{spelt(typing.get_args(kind)[0], {})}, may be repeated"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{choice.value}`" for choice in kind)
    return spelt(kind, {})


def _default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    default = parameter.default
    if default is None or default is False or default in ((), []) or callable(default):
        return ""
    if "unset" in repr(default).lower():
        return ""
    return f"`{getattr(default, 'value', default)}`"


def _help(name: str, parameter: Any) -> str:
    if not parameter.help:
        raise ValueError(f"{name}: {parameter.name} has no help")
    return safe(parameter.help)
