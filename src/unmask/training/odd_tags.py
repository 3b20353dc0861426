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
                known = {str(cell) for rows in read for cell in _cells(rows, value)}
                for odd in sorted(value.names.keys() - known):
                    log.warning("%s names %r, which no row has in %r", where, odd, value.column)
            elif _unread(value, options, read):
                log.warning(
                    "%s is the word %r for all rows, and a column has that name; to take it from "
                    "the column write {column: %s}",
                    where,
                    value,
                    value,
                )


def _cells(rows: Rows, tag: Column) -> list[object]:
    """What stands in a tag's column, if any of it is to be named otherwise."""
    return [cell for (cell,) in rows.values([tag.column])] if tag.names else []


def _unread(word: str, options: TaskOptions, read: list[Rows]) -> bool:
    """Whether rows have a column of this name, which the task does not read."""
    used = {*options.inputs, *(str(getattr(options, key, "")) for key in ("label", "target"))}
    return word not in used and any(word in rows.column_names for rows in read)
