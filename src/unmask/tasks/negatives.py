"""Documents that are near a query and do not answer it, as rows hold them."""

from __future__ import annotations

from collections.abc import Iterable

from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks.base import Row, check_texts, placed, said_of


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


def check_pairs(
    task: str, options: TaskOptions, column: str | None, rows: Iterable[Row], split: str
) -> None:
    """Refuse rows without texts, or with something else for negatives, which may be missing.

    Only the training rows must have a column that is named for them.
    """
    there = False
    for where, row in placed(rows, split):
        with said_of(where):
            negatives_of(task, column, row)
            check_texts(task, options, row)
        there |= column in row
    if split == "train" and column is not None and not there:
        raise UserError(
            f"task {task}: the training rows have no column {column!r}; name the one with the "
            "negatives, make one with `unmask mine`, or leave `negatives` out"
        )
