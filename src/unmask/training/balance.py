"""How often the rows of each language and domain come in an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.recipe import Column, Mixture, TaskOptions
from unmask.tasks import Row


def parts_of(name: str, options: TaskOptions, rows: Sequence[Row]) -> np.ndarray:
    """The number of the part (N,) of each row: those with the same tags are one part."""
    tags = [tag for tag in options.tags.values() if isinstance(tag, Column)]
    if not tags:
        raise UserError(
            f"task {name}: `balance` goes by tags that differ from row to row, and there are none; "
            "give it `tags: {language: {column: …}}`, or a domain"
        )
    columns = [tag.column for tag in tags]
    cells = (
        rows.values(columns) if isinstance(rows, Rows) else ([r[c] for c in columns] for r in rows)
    )
    numbers: dict[tuple[str | None, ...], int] = {}
    keys = (tuple(tag.named(c) for tag, c in zip(tags, own, strict=True)) for own in cells)
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int32, len(rows))


def times(parts: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """How often each row (N,) comes in an epoch of N rows.

    n rows of a part come as if they were n ** (1 / temperature) among all (temperature sampling,
    arXiv:1911.02116). All rows of a part come equally often or once more, by chance.
    """
    sizes = np.bincount(parts)
    shares = Mixture(sampling="temperature", temperature=temperature).shares(
        {str(part): int(size) for part, size in enumerate(sizes)}
    )
    ends = np.round(np.cumsum(list(shares.values())) * len(parts)).astype(int)
    found = np.zeros(len(parts), np.int32)
    for part, quota in enumerate(np.diff(ends, prepend=0)):
        own = rng.permutation(np.flatnonzero(parts == part))
        found[own] = quota // len(own)
        found[own[: quota % len(own)]] += 1
    return found


def before(order: np.ndarray) -> np.ndarray:
    """How often what stands at each place (N,) stands at places before it."""
    by_row = order.argsort(kind="stable")
    first = np.searchsorted(order[by_row], order[by_row])  # of each row, where its places begin
    found = np.empty(len(order), np.int32)
    found[by_row] = np.arange(len(order)) - first
    return found
