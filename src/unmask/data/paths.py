"""From a path in a recipe to files, with what the path says of each of them.

reviews/*.txt, reviews/**/*.txt         glob patterns
${DATA}/train.csv                       environment variables
debian/{language}.parquet               one piece of a path; it becomes the column `language`
package://PACKAGE/data/{topic}.yml      files inside an installed Python package
photos                                  a folder of pictures or recordings
"""

from __future__ import annotations

import glob
import os
import re
from importlib.util import find_spec
from pathlib import Path

from unmask.data.media import inside
from unmask.errors import UserError

PACKAGE = "package://"

Captures = dict[str, str]

_PIECES = re.compile(
    r"\$\{(?P<variable>\w+)\}|\{(?P<name>[A-Za-z_]\w*)\}"
    r"|(?P<deep>\*\*/)|(?P<all>\*\*)|(?P<star>\*)|(?P<one>\?)|(?P<set>\[[^\]/]+\])"
)


def find(path: str) -> dict[Path, Captures]:
    """The files that a path of a recipe names, in sorted order, each with its captures.

    A name used twice in one path must stand for the same text both times.
    """
    if path.startswith(PACKAGE):
        package, _, rest = path.removeprefix(PACKAGE).partition("/")
        patterns = [f"{glob.escape(root)}/{rest}" for root in _package_roots(package)]
    else:
        patterns = [os.path.expanduser(path)]
    found: dict[Path, Captures] = {}
    for pattern in patterns:
        found |= _match(pattern)
    if not found:
        raise UserError(f"no file matches {path}; {_nearest(patterns[0])}")
    return found


def _package_roots(package: str) -> list[str]:
    # Only a top-level name is looked up: for `a.b`, find_spec would import `a`.
    spec = find_spec(package) if package.isidentifier() and package != "__main__" else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the Python package {package!r} is not installed, or holds no files: "
            f"run `pip install {package}`, or mend the path {PACKAGE}{package}/…"
        )
    return list(spec.submodule_search_locations)


def _match(pattern: str) -> dict[Path, Captures]:
    literal = Path(_PIECES.sub(_substitute, pattern))
    if literal.is_file():  # brackets and the like are plain characters in the name of a file
        return {literal: {}}
    if literal.is_dir():
        return inside(literal)
    wanted, names = "", re.compile(_regex(pattern))
    for piece, text in _split(pattern):
        wanted += {"": text, "variable": glob.escape(text), "name": "*"}.get(piece, text)
    wanted = re.sub("//+", "/", wanted)
    found = {}
    for path in sorted(glob.glob(wanted, recursive=True)):
        match = names.fullmatch(path)
        if match and os.path.isfile(path):
            found[Path(path)] = match.groupdict()
    return found


def _split(pattern: str) -> list[tuple[str, str]]:
    """The pieces of a pattern: (kind, text), with variables replaced by their values."""
    pieces, end = [], 0
    for match in _PIECES.finditer(pattern):
        pieces.append(("", pattern[end : match.start()]))
        kind = match.lastgroup or ""
        pieces.append((kind, _substitute(match) if kind == "variable" else match[kind]))
        end = match.end()
    return [*pieces, ("", pattern[end:])]


def _substitute(match: re.Match[str]) -> str:
    name = match["variable"]
    if not name:
        return match[0]
    if name not in os.environ:
        raise UserError(
            f"the path {match.string} needs the environment variable {name}, which is not set: "
            f"run `export {name}=FOLDER` first"
        )
    return os.environ[name]


def _regex(pattern: str) -> str:
    regex, seen = "", set()
    for kind, text in _split(pattern):
        if kind == "name":
            regex += f"(?P={text})" if text in seen else f"(?P<{text}>[^/]+)"
            seen.add(text)
        elif kind == "set":
            body = text[1:-1].replace("\\", "\\\\")
            regex += f"[{'^' + body[1:] if body[0] == '!' else body}]"
        else:
            wild = {"deep": "(?:[^/]+/)*", "all": ".*", "star": "[^/]*", "one": "[^/]"}
            regex += wild.get(kind) or re.escape(text)
    return re.sub("//+", "/", regex)


def _nearest(pattern: str) -> str:
    """What stands where the files were looked for."""
    path = Path(_PIECES.sub(_substitute, pattern)).absolute()
    folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
    inside = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    some = ", ".join(inside[:5]) + (", …" if len(inside) > 5 else "") or "nothing"
    return f"the nearest folder that exists is {folder}, which holds {some}"
