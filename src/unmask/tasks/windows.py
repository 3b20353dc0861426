"""The windows of a long context: where answers stand in them, and what is reckoned over all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mark(marks: Sequence[np.ndarray], offsets: Sequence[np.ndarray], start: int, end: int) -> None:
    """Set in each window's marks (n, 2) where the answer from `start` to before `end` stands.

    It counts in the windows that hold it whole. Where none does, being longer than their overlap,
    its beginning and its end count where each of them is.
    """
    touched = {}
    for w, own in enumerate(offsets):  # (n, 2)
        begin = int(np.searchsorted(own[:, 1], start, side="right"))
        last = int(np.searchsorted(own[:, 0], end, side="left")) - 1
        if begin <= last:
            touched[w] = begin, last
    if not touched:
        return
    first = min(offsets[w][begin, 0] for w, (begin, _) in touched.items())
    final = max(offsets[w][last, 1] for w, (_, last) in touched.items())
    begins = {w for w, (begin, _) in touched.items() if offsets[w][begin, 0] == first}
    ends = {w for w, (_, last) in touched.items() if offsets[w][last, 1] == final}
    whole = begins & ends
    for w in whole or begins:
        marks[w][touched[w][0], 0] = True
    for w in whole or ends:
        marks[w][touched[w][1], 1] = True


def draw_windows(marks: Sequence[np.ndarray], most: int, rng: np.random.Generator) -> np.ndarray:
    """Which windows to learn from, in their order, by their marks (n, 2).

    Half of them hold a gold answer if so many do. Where none holds one whole, one has a gold
    beginning and one a gold end.
    """
    sides = np.array([own.any(0) for own in marks])  # (windows, 2)
    shuffled = rng.permutation(len(sides))
    gold = shuffled[sides[shuffled].all(1)]
    half = (most + 1) // 2
    if not len(gold):
        gold, half = np.array([shuffled[sides[shuffled, side]][0] for side in (0, 1)]), 2
    others = shuffled[~np.isin(shuffled, gold)]
    kept = gold[: max(most - len(others), half)]
    return np.sort(np.concatenate((kept, others[: most - len(kept)])))


def grouped_logsumexp(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """The log of the sum of exponentials over each group: x (N, C), group (N,) -> (groups, C)."""
    index = group[:, None].expand_as(x)
    top = x.new_full((groups, x.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, index, x.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, group, (x - top[group]).exp())
    return top + total.log()


def best_threshold(
    margins: Sequence[float], answered: Sequence[float], silent: Sequence[float]
) -> float:
    """Above which margin to give no answer, so that the sum of scores is the largest.

    For each row: its margin, what answering scores, and what giving no answer does. The threshold
    lies halfway between two neighbouring margins; of equally good ones the smallest is taken.
    """
    margin, gain = np.array(margins), np.array(answered) - np.array(silent)
    known = np.isfinite(margin)
    margin, places = np.unique(margin[known], return_inverse=True)
    if not len(margin):
        return 0.0
    gains = np.concatenate(([0.0], np.bincount(places, gain[known]).cumsum()))
    best = int(gains.argmax())  # how many of the margins are answered
    bounds = np.concatenate(([margin[0] - 1], (margin[1:] + margin[:-1]) / 2, [margin[-1] + 1]))
    return float(bounds[best])
