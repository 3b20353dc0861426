"""The views of a row: what it holds of one thing, in several modalities and languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from unmask.errors import UserError
from unmask.recipe import Inputs, TaskOptions
from unmask.tasks.cells import Row, has


class View(NamedTuple):
    """One of a row's views: `name` is a language's where its column has several, else `side`."""

    name: str
    side: str  # the modality, or the column of one of several text columns
    modality: str
    column: str
    cell: Any

    def options(self, options: TaskOptions) -> TaskOptions:
        """Those of a task that reads this view alone."""
        return options.model_copy(update={"input": Inputs(**{self.modality: self.column})})


def views_of(task: str, options: TaskOptions, row: Row) -> Iterator[View]:
    """What stands in a row's input columns, text first; what is missing gives no view."""
    for column in has(row, options.texts):
        side = "text" if len(options.texts) == 1 else column
        cell = row[column]
        spoken = {side: cell} if isinstance(cell, str) else by_language(cell)
        if spoken is None:
            raise UserError(
                f"task {task}: column {column!r} holds {str(cell)[:80]!r} and no text; give a "
                "text, {language: text}, or a list of {language, text}"
            )
        for name, text in spoken.items():
            if text.strip():
                yield View(name, side, "text", column, text)
    for modality, column in options.others.items():
        for _ in has(row, (column,)):
            yield View(modality, modality, modality, column, row[column])


def by_language(cell: Any) -> dict[str, str] | None:
    """Texts by language, from `{language: text}` or a list of `{language, text}`; None if neither.

    A language whose text is null is left out.
    """
    if isinstance(cell, list | tuple) and all(isinstance(item, Mapping) for item in cell):
        cell = {item.get("language"): item.get("text") for item in cell}
    if not isinstance(cell, Mapping):
        return None
    spoken = {name: text for name, text in cell.items() if text is not None}
    good = all(isinstance(name, str) and isinstance(text, str) for name, text in spoken.items())
    return spoken if good else None
