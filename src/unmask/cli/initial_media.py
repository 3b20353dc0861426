"""A first recipe for pictures or recordings: of a folder of files, or of a column with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.data import media
from unmask.errors import UserError
from unmask.inputs.cells import bytes_of
from unmask.inputs.image import MAX_BYTES, decode

_MAGIC = {  # how files begin; of RIFF the kind comes behind its size
    "image": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF....WEBP"),
    "audio": (b"RIFF....WAVE", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"FORM....AIFF"),
}
_LOOKED_AT = 20  # pictures whose size is looked up
_LARGE = 224  # pixels; larger pictures are scaled down, as is usual for ViT

Sample = Sequence[dict[str, Any]]


def media_splits(path: Path, names: dict[str, set[str]]) -> dict[str, str | list[str]]:
    """The folder of pictures or recordings, or those in it that are called as splits are."""
    if not path.is_dir() or not media.inside(path):
        return {}
    folders = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    found: dict[str, str | list[str]] = {
        split: str(folder)
        for split, known in names.items()
        for name, folder in folders.items()
        if name in known and media.inside(folder)
    }
    return found if "train" in found else {"train": str(path)}


def media_column(sample: Sample, columns: Sequence[str]) -> tuple[str, str] | None:
    """What a column holds beside text, `image` or `audio`, and its name; None: no column does."""
    for column in columns:
        kinds = {_kind(row[column]) for row in sample[:_LOOKED_AT]}
        (kind, *others) = kinds or {None}
        if kind is not None and not others:
            return kind, column
    return None


def encoder_for(modality: str, column: str, sample: Sample) -> dict[str, Any]:
    """A new encoder that reads this column; the size is that of the largest picture looked at."""
    if modality == "audio":
        return {"shape": "mini", "style": "modern", "audio": {"seconds": 20.0}}
    cells = (row[column] for row in sample[:_LOOKED_AT])
    sizes = [decode(bytes_of(cell, "picture", MAX_BYTES)).size for cell in cells]
    side = min(max(max(size) for size in sizes), _LARGE)
    patch = 16 if side >= 128 else max(2, side // 8)
    size = -(-side // patch) * patch
    shape = "mini" if side >= 64 else "tiny"
    return {"shape": shape, "style": "modern", "image": {"size": size, "patch": patch}}


def no_label(column: str) -> UserError:
    """What to say where nothing looks like a label."""
    return UserError(
        f"no column looks like a label of what {column!r} holds: put the files of each label into "
        "a folder of its name, or say --label"
    )


def _kind(cell: Any) -> str | None:
    """What a cell holds by how its bytes begin, or by the end of its path."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        for kind, starts in _MAGIC.items():
            for start in starts:
                head, _, tail = start.partition(b"....")
                if cell.startswith(head) and cell[8:12].startswith(tail):
                    return kind
        return None
    if not isinstance(cell, str) or len(cell) > 4096:
        return None
    return media.modality_of(Path(cell)) if "\0" not in cell and Path(cell).is_file() else None
