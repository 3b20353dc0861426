"""Rows that are translations of one another, joined by a column that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from unmask import progress
from unmask.data.rows import Rows
from unmask.tasks.base import Row


class Translations:
    """Which rows have the same value in a column, found once: 16 bytes a row, and no text."""

    def __init__(self, rows: Sequence[Row], column: str, text: Callable[[Row], str]) -> None:
        """Of a split's rows; `text` is what stands in a row."""
        self.rows, self.column, self._text = rows, column, text
        keys = np.fromiter(map(_key, self._values()), np.uint64, len(rows))
        self._order = keys.argsort(kind="stable")
        self._keys = keys[self._order]

    def draw(self, row: Row, own: str, rng: np.random.Generator) -> str | None:
        """Another row's text, any with the same chance; None where none differs from its own."""
        value = row.get(self.column)
        if value in (None, ""):
            return None
        first, last = (self._keys.searchsorted(_key(value), side) for side in ("left", "right"))
        for place in rng.permutation(self._order[first:last]).tolist():
            other = self.rows[place]
            text = self._text(other)
            if other.get(self.column) == value and text.strip() and text != own:
                return text
        return None

    def _values(self) -> Iterable[Any]:
        if not isinstance(self.rows, Rows):
            yield from (row.get(self.column) for row in self.rows)
            return
        with progress.bar("joining translations", len(self.rows)) as advance:
            for number, (value,) in enumerate(self.rows.values([self.column]), 1):
                yield value
                if number % 1000 == 0:
                    advance(1000)


def _key(value: Any) -> np.uint64:
    digest = blake2b(repr(value).encode(errors="surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
