"""Reading the rows that a recipe names.

A source is one path or several; `unmask.data.paths` says what a path may hold, and
`unmask.data.readers` how each format is read. What the recipe says wins over what a file says: a
`{name}` in the path, or a name in `columns`, takes the place of a file's own column of that name.
Files with different columns are laid together; a row has None where its file has no such column.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unmask.data import media
from unmask.data.choosing import Choice
from unmask.data.columns import aligned, plain, with_constants
from unmask.data.corpus import is_corpus, read_corpus
from unmask.data.paths import Captures, find
from unmask.data.readers import batches
from unmask.data.rows import Rows, check_column, hold_out, require
from unmask.errors import UserError
from unmask.files import new_file
from unmask.recipe import Source

__all__ = ["Rows", "Source", "hold_out", "read", "require"]

log = logging.getLogger("unmask")

HUB = "hub://"

# Files that are larger in all are kept as one Arrow file on disk and mapped, not held in memory.
IN_MEMORY = 64 << 20  # bytes
_FEW = 1000  # rows that are looked at to say what values there are
_LAYOUT = "1"  # of that file; to be raised when a change in this room changes what is read

_Stream = Iterable[tuple[str, pa.RecordBatch]]  # with the name of the file, for messages


def read(source: Source) -> Rows:
    """The rows of a source; a UserError says what keeps them from being read."""
    if source.only or source.without:
        every = source.model_copy(update={"only": {}, "without": {}, "limit": None})
        return chosen(read(every), source)
    if is_corpus(source.path):
        return read_corpus(source)
    paths = checked_paths(source)
    origin = _origin(paths)
    if paths[0].startswith(HUB):
        found = list(_first(_hub(source, paths[0]), source.limit))
        return Rows(list(_shaped(source, origin, found)), origin)
    files = files_of(paths)
    # Of a picture or a recording the row holds the path alone.
    if sum(f.stat().st_size for f in files if not media.modality_of(f)) > IN_MEMORY:
        return Rows(_mapped(source, origin, files), origin)
    held = list(_first(_stream(files, source.field), source.limit))
    return Rows(list(_shaped(source, origin, held)), origin)


def chosen(rows: Rows, source: Source) -> Rows:
    """The rows that the source takes, by the values in its columns; odd values are said."""
    choice = Choice.of(source)
    columns = list(choice.columns)
    require(rows, columns)
    cells = (dict(zip(columns, own, strict=True)) for own in rows.values(columns))
    taken = np.fromiter((choice.takes(own) for own in cells), bool, len(rows))
    if not taken.any():
        some = list(dict.fromkeys(map(str, chain.from_iterable(rows[:_FEW].values(columns)))))
        raise UserError(
            f"{rows.origin} has no row that `only` and `without` choose; in "
            f"{', '.join(columns)} there is {', '.join(map(repr, some[:5]))}"
        )
    for column, value in choice.unmet(source):
        log.warning("%s: no row has %r in column %r, by which some are chosen; YAML reads a bare "
                    "no, on or 007 as no text: quote it", rows.origin, value, column)  # fmt: skip
    return rows.pick(taken)[: source.limit]


def files_of(paths: list[str]) -> dict[Path, Captures]:
    """The files that some paths name, each once, with what its path says of it."""
    files: dict[Path, Captures] = {}
    for path in paths:
        for file, captures in find(path).items():
            files.setdefault(file, captures)
    return files


def stream(source: Source, files: dict[Path, Captures], needed: Iterable[str] = ()) -> _Stream:
    """The batches of some files of a source one after another, each with its file's own columns.

    They hold the rows that the source chooses. A hub's dataset has no files. Columns that the
    source renames are renamed. Its first batch must have them, and the columns `needed`; where a
    later one lacks some, as in JSON lines, they are empty.
    """
    choice = Choice.of(source)
    every = _every(source, files, [*needed, *choice.columns])
    if choice.columns:
        every = ((file, _taken(batch, choice)) for file, batch in every)
    return _first(every, source.limit)


def _taken(batch: pa.RecordBatch, choice: Choice) -> pa.RecordBatch:
    """The rows of a batch that are chosen."""
    cells = batch.select(list(choice.columns)).to_pylist()
    return batch.filter(pa.array([choice.takes(row) for row in cells], pa.bool_()))


def _every(source: Source, files: dict[Path, Captures], needed: Iterable[str]) -> _Stream:
    """All batches, with the columns that the source names."""
    paths = checked_paths(source)
    on_hub = paths[0].startswith(HUB)
    found = _hub(source, paths[0]) if on_hub else _stream(files, source.field)
    begun = ""
    for file, batch in found:
        known = batch.schema.names
        taken = {*source.columns, *source.columns.values()}
        names = {name: name for name in known if name not in taken} | source.columns
        if file != begun:
            for theirs in source.columns.values():
                check_column(theirs, known, file)
            for name in needed:
                check_column(name, list(names), file)
            begun = file
        names |= {name: name for name in needed if name not in names}
        schema = batch.schema
        for old in sorted({*names.values()} - {*known}):
            schema = schema.append(pa.field(old, pa.null()))
        yield file, aligned(batch, schema, names)


def checked_paths(source: Source) -> list[str]:
    """The paths of a source, at least one, made sure to go together."""
    paths = [source.path] if isinstance(source.path, str) else source.path
    if not paths:
        raise UserError("a source has an empty list of paths; name a file")
    on_hub = [path for path in paths if path.startswith(HUB)]
    for path in filter(is_corpus, paths):
        raise UserError(
            f"{path} is a built corpus, which holds tokens and no texts: only a task learns from "
            "it, as the one path of its source"
        )
    if on_hub and (len(paths) > 1 or source.field):
        raise UserError(f"{on_hub[0]}: a hub:// path stands alone, and takes no `field`")
    if (source.split or source.name) and not on_hub:
        raise UserError(
            f"{paths[0]}: `split` and `name` are for hub:// paths and built corpora; leave them out"
        )
    return paths


def _origin(paths: list[str]) -> str:
    """What messages call a source: the end of its path."""
    first = paths[0] if "://" in paths[0] else "/".join(Path(paths[0]).parts[-2:])
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _stream(files: dict[Path, Captures], field: str | None) -> Iterator[tuple[str, pa.RecordBatch]]:
    looked_at = {file: own for file, own in files.items() if media.modality_of(file)}
    for batch in media.batches(looked_at):
        yield str(next(iter(looked_at)).parent), batch
    for file, captures in files.items():
        if file not in looked_at:
            for batch in batches(file, field):
                yield str(file), with_constants(batch, captures)


def _first(stream: _Stream, limit: int | None) -> Iterator[tuple[str, pa.RecordBatch]]:
    left = limit
    for file, batch in stream:
        if left is None:
            yield file, batch
            continue
        yield file, batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


def _shaped(source: Source, origin: str, stream: _Stream) -> Iterator[pa.RecordBatch]:
    """The batches with one schema, for which the stream is gone through twice."""
    schema, rows = pa.schema([]), 0
    for file, batch in stream:
        rows += batch.num_rows
        if batch.schema != schema:
            try:
                schema = pa.unify_schemas([schema, batch.schema], promote_options="permissive")
            except pa.ArrowException as error:
                reason = str(error).removeprefix("Unable to merge: ")
                raise UserError(
                    f"{file} does not fit the rows before it in {origin} ({reason}); "
                    "give the column one type everywhere"
                ) from None
    if not rows:
        raise UserError(f"{origin} holds no rows; write some, or mend the path")
    for theirs in source.columns.values():
        check_column(theirs, schema.names, origin)
    taken = {*source.columns, *source.columns.values()}
    names = {name: name for name in schema.names if name not in taken} | source.columns
    return (aligned(batch, schema, names) for _, batch in stream if batch.num_rows)


def _mapped(source: Source, origin: str, files: dict[Path, Captures]) -> Path:
    """The rows as an Arrow file on disk, written anew unless it is of these very files."""
    name = _digest(source.model_dump_json(), [str(file.resolve()) for file in files])
    stats = [file.stat() for file in files]
    # The time of change, unlike that of modification, cannot be set back by a copy.
    state = _digest(_LAYOUT, [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
    path = _cache() / f"{name}.arrow"
    if not path.exists() or _state(path) != state:
        with new_file(path) as partial:
            shaped = _shaped(source, origin, _Again(files, source))
            first = next(shaped)
            schema = first.schema.with_metadata({"state": state})
            with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_stream(file, schema) as out:
                for batch in chain([first], shaped):
                    out.write_batch(batch)
    return path


class _Again:
    """The batches of files too large to hold, read anew each time that they are gone through."""

    def __init__(self, files: dict[Path, Captures], source: Source) -> None:
        self._files, self._source = files, source

    def __iter__(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        return _first(_stream(self._files, self._source.field), self._source.limit)


def _state(path: Path) -> str:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return str((stream.schema.metadata or {}).get(b"state", b"").decode())


def _cache() -> Path:
    """A folder beside the Hugging Face library's own, so that HF_HOME moves both."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HOME", default)).expanduser() / "unmask"


def _digest(*parts: Any) -> str:
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _hub(source: Source, path: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    try:
        import datasets  # takes most of a second
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: rows from the hub need the extra `hub`; pip install 'unmask[hub]'"
        ) from None

    split = source.split or "train"
    datasets.disable_progress_bars()
    try:
        # An hf:// path is never taken for a folder that happens to have the same name.
        data = datasets.load_dataset(
            f"hf://datasets/{path.removeprefix(HUB)}", source.name, split=split
        )
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} (split {split}) could not be loaded: {reason}; check the name, `split` "
            "and `name`, and the connection to the hub"
        ) from None
    for batch in data.data.table.to_batches():
        yield path, plain(batch)
