"""Where a model comes from: a folder, the Hugging Face hub, or an installed package."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from unmask.errors import UserError

_PACKAGE = "package://"
_HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_FILES = ["*.json", "*.safetensors", "*.txt", "*.md", "*.yaml"]  # data: no code, no pickle


def resolve(source: str) -> Path:
    """The folder that a source means.

    `folder`, a hub id `owner/name` (fetched once and kept in the hub's cache; HF_HUB_OFFLINE is
    honoured), or `package://NAME/path`, a folder inside an installed package that is found
    without running it.
    """
    if source.startswith(_PACKAGE):
        return _in_package(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if not re.fullmatch(_HUB_ID, source):
        raise UserError(
            f"there is no folder {source}, and it is not a hub id; give a folder, owner/name on "
            f"the Hugging Face hub (google-bert/bert-base-uncased), or {_PACKAGE}NAME/path"
        )
    return _from_hub(source)


def tokenizer_file(source: str) -> Path:
    """The `tokenizer.json` of a source: that file, or in the folder that `resolve` finds."""
    path = Path(source).expanduser()
    return path if path.is_file() else resolve(source) / "tokenizer.json"


def _from_hub(source: str) -> Path:
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_FILES))
    except Exception as error:  # the hub's, the network's and the disk's classes have no common one
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        where = "in the hub's cache"
        advice = "check the name and the network"
        if constants.HF_HUB_OFFLINE:
            advice = "offline mode is on (HF_HUB_OFFLINE), so nothing was fetched"
        else:
            where += " or on the Hugging Face hub"
        raise UserError(f"{source} is no folder here, nor {where}; {advice} ({reason})") from None


def _in_package(source: str) -> Path:
    name, _, inside = source.removeprefix(_PACKAGE).partition("/")
    # A dotted name would run the package above it, so only a top-level one is looked for.
    spec = find_spec(name) if name.isidentifier() and name != "__main__" else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{source}: there is no installed package {name!r}; install it with pip")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.is_dir() or not path.is_relative_to(root):
        raise UserError(f"{source}: the package {name!r} has no folder {inside!r}")
    return path
