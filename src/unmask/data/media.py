"""Folders of pictures and recordings: a row for each file, with its path and its folder's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path

import pyarrow as pa

BATCH = 4096  # rows
MODALITIES: dict[str, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif"),
}


def modality_of(path: Path) -> str | None:
    """What a file holds by its suffix: `image`, `audio`, or None: rows."""
    suffix = path.suffix.lower()
    return next((name for name, known in MODALITIES.items() if suffix in known), None)


def inside(folder: Path) -> dict[Path, dict[str, str]]:
    """The pictures and recordings in a folder, each with the `label` that its own folder gives.

    That is the first folder on the way to it; a file without one has none. Hidden ones are not
    looked at.
    """
    found: dict[Path, dict[str, str]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or modality_of(path) is None:
            continue
        if path.is_file():
            found[path] = {"label": parts[0]} if len(parts) > 1 else {}
    return found


def batches(files: Mapping[Path, Mapping[str, str]]) -> Iterator[pa.RecordBatch]:
    """Rows of such files, in order: a column `image` or `audio` with the path, and the captures."""
    alike = groupby(files.items(), lambda item: (modality_of(item[0]), sorted(item[1])))
    for (modality, _), items in alike:
        while some := list(islice(items, BATCH)):
            # As it was asked for: what is held out goes by it, and must not change with the place.
            rows = [{str(modality): str(path), **own} for path, own in some]
            yield pa.RecordBatch.from_pylist(rows)
