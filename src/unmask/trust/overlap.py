"""Held-out rows that stand in the training rows too, word for word or nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.corpus.minhash import bands, minima, rows_of_a_band, signatures, similarity
from unmask.data.duplicates import fold

NEAR = 0.8  # the share of their shingles that near-duplicates have in common (Jaccard)


@dataclass(frozen=True)
class Match:
    """Row `row` of some texts is like row `like` of others; `similarity` is 1 if word for word."""

    row: int
    like: int
    similarity: float


def overlaps(texts: Sequence[str], train: Sequence[str], near: float = NEAR) -> list[Match]:
    """For each text with one like it among the training texts: the first the same, or a near one.

    Case, Unicode's compatibility forms and the kind of white space make no difference. Near ones
    are found by MinHash, so similarities are estimates and one in twenty just similar enough is
    missed; texts are looked up by the first training text of each band.
    """
    first: dict[str, int] = {}
    for i, text in enumerate(train):
        first.setdefault(fold(text), i)
    found = {i: Match(i, first[key], 1.0) for i, key in enumerate(map(fold, texts)) if key in first}
    rest = [i for i in range(len(texts)) if i not in found]
    if rest and train:
        for i, like, alike in _near([texts[i] for i in rest], train, near):
            found[rest[i]] = Match(rest[i], like, alike)
    return [found[i] for i in sorted(found)]


def _near(texts: Sequence[str], train: Sequence[str], near: float) -> list[tuple[int, int, float]]:
    """The nearest training text of each text that has one so near."""
    rows = rows_of_a_band(near)
    ours, theirs = minima(texts), minima(train)
    keys, places = np.unique(bands(theirs, rows), return_index=True)  # the first text of each
    width = bands(ours[:1], rows).shape[1]
    own = bands(ours, rows)  # (n, bands)
    at = np.minimum(keys.searchsorted(own), len(keys) - 1)
    i, band = np.nonzero(keys[at] == own)
    if not len(i):
        return []
    like = places[at[i, band]] // width
    alike = similarity(signatures(ours)[i], signatures(theirs)[like])
    best: dict[int, tuple[float, int]] = {}
    for one, other, value in zip(i.tolist(), like.tolist(), alike.tolist(), strict=True):
        if value >= near:
            best[one] = max(best.get(one, (0.0, 0)), (value, other))
    return [(one, other, min(value, 0.999)) for one, (value, other) in best.items()]
