"""What stands in the column of labels, and labels that are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from unmask.errors import UserError
from unmask.tasks.base import Row


def labels_of(task: str, row: Row, column: str, several: bool, separator: str | None) -> list[str]:
    """The labels of a row: one, or where there may be several as many as it has."""
    value = row.get(column)
    if several:
        if isinstance(value, str):
            value = value.split(separator) if separator else [value]
        if value is not None and not isinstance(value, list | tuple):
            raise UserError(
                f"task {task}: column {column!r} holds {value!r} and no list of labels; "
                "with one label a row, leave `multi_label` out"
            )
        return [str(item).strip() for item in value or [] if str(item).strip()]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError(
            f"task {task}: a row has no label in column {column!r} "
            f"({dict(list(row.items())[:3])!r}); label it or drop it"
        )
    if isinstance(value, list | dict) or value != value:  # only NaN is not itself
        raise UserError(
            f"task {task}: column {column!r} holds {value!r} and no single label; set "
            "`multi_label: true` for lists, or mend the row"
        )
    return [str(value).strip()]


def asked_label(task: str, wanted: str, labels: Sequence[str]) -> str:
    """A label that somebody names; where there is none of that name, some that are near it."""
    if wanted not in labels:
        near = get_close_matches(wanted, labels, 5, 0.4) or labels[:5]
        raise UserError(
            f"task {task}: {wanted!r} is none of its {len(labels)} labels; "
            f"some are {', '.join(map(repr, near))}"
        )
    return wanted
