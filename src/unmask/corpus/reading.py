"""First stage: documents from their sources, in their normal form, as blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from unmask.corpus.normalise import normalise
from unmask.corpus.options import CorpusSource
from unmask.corpus.work import BLOCK_BYTES, BLOCK_DOCUMENTS, Work, check_tags, explained, opened
from unmask.data.sources import HUB, checked_paths, files_of, stream
from unmask.errors import UserError
from unmask.files import new_file, write_json
from unmask.recipe import Column

_LONGEST_TAG = 80  # bytes: two of them are a part of the names of files
_SCHEMA = pa.schema([("text", pa.string()), ("group", pa.string())])


def units(sources: list[CorpusSource]) -> list[dict[str, Any]]:
    """What can be read apart: each file; or a whole source that has no files, or a limit."""
    found: list[dict[str, Any]] = []
    for number, source in enumerate(sources):
        paths = checked_paths(source)
        if paths[0].startswith(HUB):
            found.append({"source": number, "files": []})
            continue
        files = [
            {
                "path": str(path),
                "captures": captures,
                "size": path.stat().st_size,
                "changed": path.stat().st_mtime_ns,
            }
            for path, captures in files_of(paths).items()
        ]
        each = [files] if source.limit else [[file] for file in files]
        found += [{"source": number, "files": own} for own in each]
    return found


@dataclass
class _Found:
    """What a unit holds, counted by group."""

    read: int = 0
    removed: int = 0  # characters
    dropped: Counter[str] = field(default_factory=Counter)


def read_unit(folder: Path, unit: int) -> None:
    """Read a unit into blocks of normal texts, and count what it had and what was dropped."""
    work = opened(folder)
    if work.read(unit).exists():
        return
    found: dict[str, _Found] = {}
    tags: dict[str, dict[str, str | None]] = {}
    counts: list[int] = []
    texts: list[str] = []
    groups: list[str] = []
    size = 0

    def finish() -> None:
        _write(work.block(f"{unit:05d}-{len(counts):06d}"), texts, groups)
        counts.append(len(texts))
        texts.clear()
        groups.clear()

    for text, group, own in _documents(work, unit):
        check_tags(group, tags.setdefault(group, own), own)
        counted = found.setdefault(group, _Found())
        counted.read += 1
        normal = normalise(text, work.recipe.shortest, work.recipe.longest)
        if normal.reason:
            counted.dropped[normal.reason] += 1
            continue
        counted.removed += normal.removed
        texts.append(normal.text)
        groups.append(group)
        size += len(normal.text.encode())
        if len(texts) == BLOCK_DOCUMENTS or size >= BLOCK_BYTES:
            finish()
            size = 0
    if texts:
        finish()
    records = {
        name: {**tags[name], "read": own.read, "removed": own.removed, "dropped": dict(own.dropped)}
        for name, own in found.items()
    }
    write_json(work.read(unit), {"blocks": counts, "groups": records})


def _documents(work: Work, unit: int) -> Iterator[tuple[str | None, str, dict[str, str | None]]]:
    """The texts of a unit, each with its group's name and tags."""
    plan = work.plan["units"][unit]
    source = work.recipe.sources[plan["source"]]
    for file in plan["files"]:
        path = Path(file["path"])
        stat = path.stat() if path.exists() else None
        if not stat or (stat.st_size, stat.st_mtime_ns) != (file["size"], file["changed"]):
            raise UserError(
                f"{file['path']} has changed since the build began: bring it back, or begin anew "
                "with --overwrite"
            )
    files = {Path(file["path"]): file["captures"] for file in plan["files"]}
    for name, batch in stream(source, files, source.needed):
        texts = batch.column(source.text)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            if texts.null_count < len(texts):
                raise UserError(
                    f"{name}: column {source.text!r} holds {texts.type} and no text; name the "
                    "column with the documents in `text`"
                )
            texts = pa.nulls(len(texts), pa.string())
        columns = [_tags(source, tag, batch, name) for tag in ("language", "domain")]
        for text, language, domain in zip(texts.to_pylist(), *columns, strict=True):
            own = {"language": language, "domain": domain}
            yield text, group_name(language, domain), own


def _tags(source: CorpusSource, tag: Any, batch: pa.RecordBatch, file: str) -> list[str | None]:
    value = source.tags.get(tag)
    if not isinstance(value, Column):
        return [value or None] * batch.num_rows
    cells = [value.named(cell) or None for cell in batch.column(value.column).to_pylist()]
    if odd := next((cell for cell in cells if cell and len(cell.encode()) > _LONGEST_TAG), None):
        raise UserError(
            f"{file}: column {value.column!r} holds {odd[:40]!r}…, too long for a {tag}: does "
            "`tags` name the right column?"
        )
    return cells


def group_name(language: str | None, domain: str | None) -> str:
    """What the documents of a language and a domain are called in names of files."""
    known = [re.sub(r"[^\w-]", "_", tag) for tag in (language, domain) if tag]
    return ".".join(known) or "all"


def _write(path: Path, texts: list[str], groups: list[str]) -> None:
    if path.exists():
        return
    batch = pa.RecordBatch.from_arrays(
        [pa.array(texts, pa.string()), pa.array(groups, pa.string())], schema=_SCHEMA
    )
    with (
        new_file(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_file(file, _SCHEMA) as out,
    ):
        out.write_batch(batch)


def read_block(work: Work, name: str) -> pa.RecordBatch:
    """The documents of a block, with the columns text and group."""
    path = work.block(name)
    with explained(path), pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).get_batch(0)
