"""The bytes behind a cell of a row: themselves, a file's, or written in base64."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask.errors import UserError


def bytes_of(cell: Any, noun: str, most: int, files: bool = True) -> bytes:
    """What a cell holds of a picture or a recording, at most so many bytes.

    Bytes; the path of a file, unless `files` is False; base64, with or without `data:…;base64,`
    before it; or what the Hugging Face library stores, `{bytes, path}`. An address is not fetched.
    """
    if isinstance(cell, Mapping) and {"bytes", "path"} & cell.keys():
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        found = bytes(cell)
    elif isinstance(cell, Path) and files:
        found = _file(cell, noun, most)
    elif isinstance(cell, str) and cell:
        found = _said(cell, noun, most, files)
    else:
        raise UserError(
            f"{str(cell)[:40]!r} is no {noun}: give bytes, base64{', or a path' if files else ''}"
        )
    if len(found) > most:
        raise UserError(_large(noun, len(found), most))
    if not found:
        raise UserError(f"a {noun} of 0 bytes; drop the row, or mend it")
    return found


def _said(cell: str, noun: str, most: int, files: bool) -> bytes:
    if cell.startswith(("http://", "https://", "ftp://")):
        raise UserError(f"{cell[:60]!r} is an address, and nothing is fetched; give the {noun}")
    head, comma, body = cell.partition(",")
    coded = head.startswith("data:") and bool(comma)
    if files and not coded and len(cell) < 4096 and "\0" not in cell:
        path = os.path.expanduser(cell)
        if os.path.isfile(path):  # False, too, where base64 is too long for a name
            return _file(Path(path), noun, most)
    if len(cell) > most * 2:
        raise UserError(_large(noun, len(cell) * 3 // 4, most))
    try:
        return base64.b64decode("".join((body if coded else cell).split()), validate=True)
    except (binascii.Error, ValueError):
        there = "no file of that name, and " if files else ""
        raise UserError(f"{cell[:60]!r} is {there}no base64, so no {noun}") from None


def _file(path: Path, noun: str, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise UserError(f"{path}: {_large(noun, path.stat().st_size, most)}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} could not be read: {error.strerror or error}") from None


def _large(noun: str, size: int, most: int) -> str:
    return f"a {noun} of {size >> 20} MB, and at most {most >> 20} MB are read; make it smaller"
