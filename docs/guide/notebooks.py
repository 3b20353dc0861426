"""The guide's chapters as notebooks: `python docs/guide/notebooks.py FOLDER` writes them there.

A block of Python becomes a cell, one for the shell a cell `%%bash`, and what a block prints is its
cell's output. Links and pictures lead back to this folder. Run them where `unmask` is installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BLOCK = re.compile(r"^```(python|bash|text)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)#:]+)((?:#[^)]*)?\))")


def notebook(chapter: Path, folder: Path) -> dict[str, Any]:
    """A chapter as nbformat 4, its links written anew for that folder."""

    def moved(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        if re.fullmatch(r"\d\d-[\w-]+\.md", target):
            return f"{before}{Path(target).with_suffix('.ipynb')}{after}"
        return f"{before}{Path(os.path.relpath(chapter.parent / target, folder)).as_posix()}{after}"

    cells: list[dict[str, Any]] = []

    def words(text: str) -> None:
        if text.strip():
            cells.append(_cell("markdown", LINK.sub(moved, text.strip()), len(cells)))

    text, end, shows = chapter.read_text(encoding="utf-8"), 0, False
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        between = text[end : block.start()]
        if language == "text" and not (shows and not between.strip()):
            continue  # a listing, and no output: it stays in the words
        words(between)
        if language == "text":
            output = {"output_type": "stream", "name": "stdout", "text": _lines(code)}
            cells[-1]["outputs"] = [output]
        else:
            code = code if language == "python" else f"%%bash\n{code}"
            cells.append(_cell("code", code.rstrip(), len(cells)))
        end, shows = block.end(), language == "python"
    words(text[end:])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _cell(kind: str, text: str, number: int) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": _lines(text),
    }
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


def write(folder: Path) -> None:
    """All chapters of both languages."""
    for chapter in sorted(HERE.glob("*/[0-9]*.md")):
        place = folder / chapter.parent.name
        place.mkdir(parents=True, exist_ok=True)
        text = json.dumps(notebook(chapter, place), ensure_ascii=False, indent=1)
        (place / f"{chapter.stem}.ipynb").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
