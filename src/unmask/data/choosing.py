"""Which rows of a source are taken, by the values in some of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unmask.recipe import Cells, Source


@dataclass(frozen=True)
class Choice:
    """What `only` and `without` of a source say, and the values that it has met.

    Values are compared as texts: an empty cell is the empty text, 1999.0 is 1999, and true of a
    recipe is also what CSV files call True.
    """

    only: dict[str, frozenset[str]]
    without: dict[str, frozenset[str]]
    met: set[tuple[str, str]] = field(default_factory=set)  # columns, and values of theirs here

    @classmethod
    def of(cls, source: Source) -> Choice:
        """That of a source."""
        only, without = ({c: _listed(v) for c, v in own.items()} for own in _both(source))
        return cls(only, without)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are looked at, each once."""
        return tuple(dict.fromkeys((*self.only, *self.without)))

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is taken."""
        only = self._named(row, self.only)
        without = self._named(row, self.without)
        self.met.update(only.items(), without.items())
        return len(only) == len(self.only) and not without

    def _named(self, row: Mapping[str, Any], own: Mapping[str, frozenset[str]]) -> dict[str, str]:
        """The columns of a row whose values are among those named for them, and these."""
        said = ((column, _said(row.get(column)), values) for column, values in own.items())
        return {column: value for column, value, values in said if value in values}

    def unmet(self, source: Source) -> list[tuple[str, Any]]:
        """The columns and values of a source's choice that no row has had."""
        return [
            (column, value)
            for own in _both(source)
            for column, values in own.items()
            for value in (values if isinstance(values, list) else [values])
            if not any((column, said) in self.met for said in _listed(value))
        ]


def _both(source: Source) -> tuple[dict[str, Cells], dict[str, Cells]]:
    return source.only, source.without


def _listed(values: Cells) -> frozenset[str]:
    """The values as texts."""
    several = values if isinstance(values, list) else [values]
    own = {_said(value) for value in several}
    return frozenset(own | {str(value) for value in several if isinstance(value, bool)})


def _said(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
