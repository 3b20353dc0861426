"""Rows in random access, and the ways to pick some of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from unmask.errors import UserError


class Rows(Sequence[dict[str, Any]]):
    """Rows of named columns: `rows[i]` is a dict, `rows[a:b]` some of the rows.

    They live in Arrow batches, in memory or in a file that is mapped, never copied whole: a worker
    process gets only the name of the file. `ids[i]` is the place of row i in its source, which
    stays with the row when some are picked. `origin` is what messages call the source.
    """

    def __init__(
        self, store: list[pa.RecordBatch] | Path, origin: str, ids: np.ndarray | range | None = None
    ) -> None:
        self._store = store
        if isinstance(store, Path):
            with pa.memory_map(str(store)) as file, pa.ipc.open_stream(file) as stream:
                store = list(stream)
        self._batches = store
        self._starts = np.cumsum([0, *(batch.num_rows for batch in store)])
        self.origin = origin
        self.ids: np.ndarray | range = np.arange(self._starts[-1]) if ids is None else ids

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self._store, self.origin, self.ids)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return list(self._batches[0].schema.names)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, i: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, i: slice) -> Rows: ...
    def __getitem__(self, i: int | slice) -> dict[str, Any] | Rows:
        if isinstance(i, slice):
            return Rows(self._store, self.origin, self.ids[i])
        return dict(zip(self.column_names, self._cells(i, self.column_names), strict=True))

    def values(self, columns: list[str]) -> Iterator[list[Any]]:
        """The cells of these columns, row by row; the others are not read."""
        return (self._cells(i, columns) for i in range(len(self)))

    def pick(self, which: np.ndarray) -> Rows:
        """The rows at these places, or where this mask holds."""
        return Rows(self._store, self.origin, np.asarray(self.ids)[which])

    def _cells(self, i: int, columns: list[str]) -> list[Any]:
        place = self.ids[i]
        b = int(self._starts.searchsorted(place, side="right")) - 1
        at = int(place - self._starts[b])
        return [self._batches[b].column(name)[at].as_py() for name in columns]


def require(rows: Rows, columns: Sequence[str]) -> None:
    """Raise a UserError unless the rows have all of these columns."""
    for name in columns:
        check_column(name, rows.column_names, rows.origin)


def check_column(name: str, columns: list[str], origin: str) -> None:
    """Raise a UserError that names the nearest of `columns` unless `name` is one of them."""
    if name not in columns:
        near = get_close_matches(name, columns, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{origin} (columns: {', '.join(columns)}) has no column {name!r}{guess}")


def hold_out(rows: Rows, share: float, key_columns: list[str], seed: int) -> tuple[Rows, Rows]:
    """Split off a share of the rows: (rest, held).

    Rows are ranked by a hash of `seed` and of what stands in their key columns, and the lowest are
    held: their order does not matter, and equal texts fall on the same side, with which the share
    is met as nearly as it can be from below. Neither side is ever empty. What is left can be split
    again with the same seed.
    """
    require(rows, key_columns)
    salt = seed.to_bytes(8, "little", signed=True)
    hashes = np.fromiter(
        (_hash(cells, salt) for cells in rows.values(key_columns)), np.uint64, len(rows)
    )
    ranked = np.sort(hashes)
    if ranked[0] == ranked[-1]:
        raise UserError(
            f"{rows.origin} has fewer than two different rows in {', '.join(key_columns)}, so none "
            "can be held out; add rows, or name a split of its own"
        )
    border = ranked[min(round(share * len(rows)), len(rows) - 1)]
    held = hashes < border if border > ranked[0] else hashes == ranked[0]
    return rows.pick(~held), rows.pick(held)


def _hash(cells: list[Any], salt: bytes) -> int:
    # JSON keeps ["a", "b"] and ["ab", ""] apart; repr is for bytes, dates and the like.
    text = json.dumps(cells, ensure_ascii=False, default=repr)
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "little")
