"""How often what belongs together is found, from each side to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch

from unmask.tasks.search import ranks
from unmask.tasks.tally import Tally

DEPTHS = (1, 5, 10)


class Seen(NamedTuple):
    """What a view is, beside its vector."""

    side: str
    key: int  # the same for the same content
    kin: int  # the same for the same thing; the key again where that is not known


Views = tuple[Mapping[str, np.ndarray], Mapping[str, Seen]]  # vectors (D,), and what they are of


def tally_of(rows: Sequence[Views]) -> Tally:
    """Recall at `DEPTHS` from side to side, and for each language of a side that has several.

    A row's view looks for another view of the row among those of all rows: candidates that are the
    same, or of the same thing, are not in its way. Resampled rows look among the same candidates.
    Languages look for one another only where there is nothing else.
    """
    sides = {name: one.side for _, seen in rows for name, one in seen.items()}
    apart = len(set(sides.values())) > 1
    found: dict[tuple[str, str], np.ndarray] = {}  # (N,) rank; 0 where a row lacks either
    for a, b in permutations(sides, 2):
        if not apart or sides[a] != sides[b]:
            ranking = _ranked(rows, a, b)
            if (ranking > 0).sum() > 1:
                found[a, b] = ranking
    groups: dict[str, list[tuple[str, str]]] = {"": list(found)}
    for a, b in found:
        names = [f"{sides[a]}_to_{sides[b]}_"] if apart else []
        names += [f"{a}_to_{sides[b]}_"] if a != sides[a] else []
        names += [f"{sides[a]}_to_{b}_"] if b != sides[b] else []
        for name in names:
            groups.setdefault(name, []).append((a, b))
    table = list(found.values())
    columns = [(rank > 0) & (rank <= depth) for rank in table for depth in DEPTHS]
    columns += [rank > 0 for rank in table]
    counts = np.array(columns, dtype=float).reshape(len(columns), len(rows)).T
    number = {pair: i for i, pair in enumerate(found)}

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        hits, met = np.split(sums, [len(table) * len(DEPTHS)], axis=-1)
        hits = hits.reshape(*met.shape, len(DEPTHS))  # (…, pairs, depths)
        recall = hits / np.maximum(met, 1)[..., None]
        means = {name: recall[..., [number[p] for p in own], :] for name, own in groups.items()}
        return {
            f"{name}recall_at_{depth}": part[..., i].mean(-1)
            for name, part in means.items()
            for i, depth in enumerate(DEPTHS)
        }

    return Tally(counts, scores)


def _ranked(rows: Sequence[Views], a: str, b: str) -> np.ndarray:
    """The place of each row's view b, looked for by its view a: (N,); 0 where it lacks either."""
    found = np.zeros(len(rows), dtype=int)
    both = [i for i, (vectors, _) in enumerate(rows) if a in vectors and b in vectors]
    if not both:
        return found
    candidates: dict[int, tuple[int, np.ndarray]] = {}  # by content: number, vector
    kin: dict[int, set[int]] = {}
    for i in both:
        vectors, seen = rows[i]
        number, _ = candidates.setdefault(seen[b].key, (len(candidates), vectors[b]))
        for same in (seen[a].key, seen[a].kin):
            kin.setdefault(same, set()).add(number)
    own = [candidates[rows[i][1][b].key][0] for i in both]
    right = [kin[seen[a].key] | kin[seen[a].kin] for seen in (rows[i][1] for i in both)]
    found[both] = ranks(
        torch.from_numpy(np.stack([rows[i][0][a] for i in both])),
        torch.from_numpy(np.stack([vector for _, vector in candidates.values()])),
        torch.tensor(own),
        [[*(others - {mine})] for others, mine in zip(right, own, strict=True)],
    ).numpy()
    return found
