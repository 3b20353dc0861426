"""Documents that are near a query and do not answer it, as rows hold them."""

from __future__ import annotations

from collections.abc import Iterable

from unmask.errors import UserError
from unmask.tasks.base import Row


def negatives_of(task: str, column: str | None, row: Row) -> list[str]:
    """The negatives of a row: a text or a list of texts; blank ones are left out."""
    value = row.get(column) if column else None
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise UserError(
            f"task {task}: column {column!r} holds {value!r} and neither a text nor a list of "
            "texts; `unmask mine` writes such a column"
        )
    return [text for text in found if text.strip()]


def check_negatives(task: str, column: str | None, rows: Iterable[Row]) -> None:
    """Refuse training rows that lack the column, or hold something else in it."""
    if column is None:
        return
    there = False
    for row in rows:
        there |= column in row
        negatives_of(task, column, row)
    if not there:
        raise UserError(
            f"task {task}: the training rows have no column {column!r}; name the one with the "
            "negatives, make one with `unmask mine`, or leave `negatives` out"
        )
