"""Held-out rows that also stand in the training rows: a score on them is a score of memory."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from unmask import progress
from unmask.data.corpus import CorpusRows
from unmask.data.rows import Rows
from unmask.tokens import Tokens


@dataclass(frozen=True)
class Duplicates:
    """How many of some rows stand in the training rows too, and which is the first."""

    rows: int
    count: int
    first: int | None  # its number among the rows, from 1
    text: str | None  # what stands in its columns

    def __str__(self) -> str:
        text = (self.text or "")[:60]
        return (
            f"{self.count} of {self.rows} rows also stand in the training rows; the first is row "
            f"{self.first}, {text!r}"
        )


def duplicates(
    rows: Sequence[Rows],
    train: Rows,
    columns: Sequence[str],
    train_columns: Sequence[str] | None = None,
) -> list[Duplicates]:
    """Of each of `rows`, those whose columns all hold what a training row's hold.

    Letters of another case or Unicode form, and other white space, make no difference. Only a hash
    of each held-out row is kept in memory, and the training rows are read once. The splits of one
    corpus need no look: it lost its duplicates when it was built.
    """
    if all(_of_one_corpus(own, train) for own in rows):
        return [Duplicates(len(own), 0, None, None) for own in rows]
    keys = [[_key(cells) for cells in own.values(list(columns))] for own in rows]
    wanted = {key for own in keys for key in own}
    met: set[bytes] = set()
    with progress.bar("looking for duplicates", len(train)) as advance:
        for number, cells in enumerate(train.values(list(train_columns or columns)), 1):
            key = _key(cells)
            if key in wanted:
                met.add(key)
            if number % 1000 == 0:
                advance(1000)
    return [_found(own, keys[i], met, columns) for i, own in enumerate(rows)]


def comparable(rows: Sequence[Rows], train: Rows) -> bool:
    """Whether all are texts, or all of corpora: texts and tokens cannot be compared."""
    return len({isinstance(own, CorpusRows) for own in (*rows, train)}) == 1


def _of_one_corpus(rows: Rows, train: Rows) -> bool:
    """Whether they are different splits of one corpus."""
    if not (isinstance(rows, CorpusRows) and isinstance(train, CorpusRows)):
        return False
    return rows.folder == train.folder and rows.split != train.split


def _found(rows: Rows, keys: list[bytes], met: set[bytes], columns: Sequence[str]) -> Duplicates:
    again = [i for i, key in enumerate(keys) if key in met]
    if not again:
        return Duplicates(len(rows), 0, None, None)
    row = rows[again[0]]
    cells = (row[column] for column in columns)
    text = " | ".join(f"{len(x):,} bytes" if isinstance(x, bytes) else str(x) for x in cells)
    return Duplicates(len(rows), len(again), again[0] + 1, text)


def _key(cells: list[Any]) -> bytes:
    """The same for cells that a person would call the same."""
    text = json.dumps([_said(cell) for cell in cells], ensure_ascii=False)
    return blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()


def _said(cell: Any) -> Any:
    if isinstance(cell, dict):  # a picture or a recording: the same one under another path
        cell = cell.get("bytes") or cell
    if isinstance(cell, bytes):
        return blake2b(cell, digest_size=12).hexdigest()
    return cell.ids.tolist() if isinstance(cell, Tokens) else fold(str(cell))


def fold(text: str) -> str:
    """The text in one case, one Unicode form (NFKC) and with single spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())
