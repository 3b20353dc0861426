"""What stands in a row's input columns, and the one sequence that is made of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from textwrap import shorten
from typing import Any

import numpy as np

from unmask.batch import Segment, Sequence
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.recipe import TaskOptions
from unmask.tokens import Tokens

Row = Mapping[str, Any]


def mixed(
    task: str, options: TaskOptions, text: TextInput, row: Row, rng: np.random.Generator | None
) -> Sequence:
    """A row's text, picture and recording as one sequence; with `rng` to be learned from.

    The text comes first, so that its tokens stand where they stand in the text alone; without one
    it is [CLS]. A row may lack some of several columns. A recording is cut where there is no room
    for all of it, and so is a text that takes more than half the room; a picture that finds none
    is a UserError.
    """
    limit = min(filter(None, (options.max_length, text.max_length)))
    others, dropped = _beside(task, options, text, row, rng)
    parts: tuple[Segment, ...] = (text.begin,)
    if given := has(row, options.texts):
        size = sum(len(segment.values) for segment in others)
        first, *pair = (text_in(task, row, column) for column in given)
        most = max(limit - size, limit // 2)
        encoded = text.encode(first, pair[0] if pair else None, most).sequence()
        parts, dropped = encoded.segments, dropped + encoded.dropped
    elif not others:
        raise _empty(task, options)
    room = limit - sum(len(segment.values) for segment in parts)
    for segment in others:
        kept = segment
        if len(segment.values) > room:
            if room < 1 or not text.beside[segment.modality].cuttable:
                raise UserError(
                    f"task {task}: the {segment.modality} has {len(segment.values)} positions, and "
                    f"there is room for {max(room, 0)}: set a smaller `size` or a larger `patch`, "
                    "or a larger `max_length`"
                )
            kept = replace(segment, values=segment.values[:room])
        dropped += len(segment.values) - len(kept.values)
        room -= len(kept.values)
        parts = (*parts, kept)
    return Sequence(parts, dropped=dropped)


def _beside(
    task: str, options: TaskOptions, text: TextInput, row: Row, rng: np.random.Generator | None
) -> tuple[list[Segment], int]:
    """What a row has beside text, and how many positions of that were cut."""
    found, dropped = [], 0
    for modality, column in options.others.items():
        if modality not in text.beside and row.get(column) is None:
            continue
        if modality not in text.beside:
            raise UserError(
                f"task {task}: column {column!r} holds {modality}, which this encoder does not "
                f"read; give it a way with `encoder: {{{modality}: {{…}}}}`"
            )
        if has(row, (column,)):
            with said_of(f"task {task}: column {column!r}"):
                segment, cut = text.segment(modality, row[column], rng)
            found.append(segment)
            dropped += cut
    return found, dropped


def text_in(task: str, row: Row, column: str) -> str:
    """What stands in a row's column, which must be text."""
    value = row.get(column)
    if not isinstance(value, str):
        raise UserError(
            f"task {task}: column {column!r} holds {shown(value)} and no text; "
            "name a text column in `input`, or mend the row"
        )
    return value


def check_texts(task: str, options: TaskOptions, row: Row) -> None:
    """Refuse a row whose text columns do not all hold text, or the tokens of a corpus.

    A row that may have a picture or a recording too may lack its text, but not everything.
    """
    for column in has(row, options.texts) if options.others else options.texts:
        if not isinstance(row.get(column), Tokens):
            text_in(task, row, column)
    if options.others and not has(row, options.inputs):
        raise _empty(task, options)


def _empty(task: str, options: TaskOptions) -> UserError:
    columns = ", ".join(options.inputs)
    return UserError(f"task {task}: nothing stands in {columns}; drop the row, or mend it")


def has(row: Row, columns: Iterable[str]) -> tuple[str, ...]:
    """Those of some columns in which a row has anything."""
    return tuple(column for column in columns if row.get(column) not in (None, "", b""))


def described(cell: Any) -> str:
    """A cell with a picture or a recording, for people: where it lies, or how large it is."""
    if isinstance(cell, Mapping):
        cell = cell.get("path") or cell.get("bytes")
    if isinstance(cell, bytes | bytearray | memoryview):
        return f"{len(cell):,} bytes"
    return "" if cell is None else shorten(str(cell), 80)


def shown(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    return f"{len(value):,} bytes" if isinstance(value, bytes) else repr(value)


@contextmanager
def said_of(where: str) -> Iterator[None]:
    """Say of which row a mistake is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
