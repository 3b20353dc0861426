"""Tags that were hardly meant so: a word that is a column's name, and names of no value."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from unmask.data.sources import Rows
from unmask.data.splits import Splits
from unmask.recipe import Column, TaskOptions

log = logging.getLogger("unmask")


def warn_of_odd_tags(tasks: Mapping[str, TaskOptions], splits: Mapping[str, Splits]) -> None:
    """Say where a tag may be a slip, which scores would show only as a cell of an odd name.

    A column that the task reads is no sign of one: rows of translations may have a column `de`.
    """
    for name, options in tasks.items():
        own = splits[name]
        read = [rows for rows in (own.train, own.valid, own.test) if isinstance(rows, Rows)]
        for tag, value in options.tags.items():
            where = f"task {name}: tags.{tag}"
            if isinstance(value, Column):
                for odd in sorted(_unmet(value, read)):
                    log.warning("%s names %r, which no row has in %r", where, odd, value.column)
            elif _unread(value, options, read):
                log.warning(
                    "%s is the word %r for all rows, and a column has that name; to take it from "
                    "the column write {column: %s}",
                    where,
                    value,
                    value,
                )


def _unmet(tag: Column, read: list[Rows]) -> set[str]:
    """The values that a tag names and no row has; rows are looked at until all were met."""
    left = set(tag.names)
    for rows in read:
        cells = rows.values([tag.column])
        while left and (cell := next(cells, None)) is not None:
            left.discard("" if cell[0] is None else str(cell[0]))
    return left


def _unread(word: str, options: TaskOptions, read: list[Rows]) -> bool:
    """Whether rows have a column of this name, which the task does not read."""
    used = {*options.inputs, *(str(getattr(options, key, "")) for key in ("label", "target"))}
    return word not in used and any(word in rows.column_names for rows in read)
