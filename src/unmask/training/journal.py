"""`metrics.jsonl`: what happened, line by line, cut back to the checkpoint when a run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmask import files


class Journal:
    """A file that lines are appended to; nothing of an older one is kept unless `back_to` says.

    With `path` None only the number of lines is kept: one process of a run writes for all.
    """

    def __init__(self, path: Path | None) -> None:
        self.lines = 0
        self._path = path
        self._mode = "w"

    def back_to(self, lines: int) -> None:
        """Go on after the first lines of the file that is there, without the others."""
        self._mode = "a"
        if self._path is not None:
            there = self._path.read_bytes() if self._path.exists() else b""
            kept = there.splitlines(keepends=True)[:lines]
            self.lines = len(kept)
            with files.new_file(self._path) as partial:
                partial.write_bytes(b"".join(kept))

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        self.lines += 1
        if self._path is not None:
            with (
                files.told_of_disk(self._path),
                self._path.open(self._mode, encoding="utf-8") as file,
            ):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._mode = "a"

    def flush(self) -> None:
        """Make sure that the lines are on the disk."""
        if self._path is not None and self._path.exists():
            with files.told_of_disk(self._path), self._path.open("rb") as file:
                os.fsync(file.fileno())
