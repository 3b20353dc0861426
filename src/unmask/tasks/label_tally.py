"""Accuracy and F1 as functions of sums over answers."""

from __future__ import annotations

from collections.abc import Iterable, Set

import numpy as np

from unmask.tasks.tally import Tally


def label_tally(pairs: Iterable[tuple[Set[int], Set[int]]], C: int, several: bool) -> Tally:
    """Of the labels guessed and the true ones of each answer, numbers below C.

    Accuracy and macro F1; for several labels micro and macro F1 and the exact matches. Columns: for
    each label hits, guesses and truths; then exact matches, and 1.
    """
    from scipy.sparse import csr_array

    cells: list[tuple[int, int]] = []
    N = 0
    for i, (guess, truth) in enumerate(pairs):
        cells += [(i, c) for c in guess & truth]
        cells += [(i, C + c) for c in guess]
        cells += [(i, 2 * C + c) for c in truth]
        cells += [(i, 3 * C)] * (guess == truth) + [(i, 3 * C + 1)]
        N = i + 1
    places = np.array(cells).reshape(-1, 2).T
    counts = csr_array((np.ones(len(cells)), (places[0], places[1])), shape=(N, 3 * C + 2))
    return Tally(counts, _several if several else _one)


def _f1(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of sums (..., 3 C + 2), as scikit-learn defines them: hits, what met, F1 (..., C) each."""
    hits, guesses, truths = np.split(sums[..., :-2], 3, axis=-1)
    met = guesses + truths
    return hits, met, 2 * hits / np.maximum(met, 1)


def _several(sums: np.ndarray) -> dict[str, np.ndarray]:
    hits, met, f1 = _f1(sums)
    micro = 2 * hits.sum(-1) / np.maximum(met.sum(-1), 1)
    exact = sums[..., -2] / sums[..., -1]
    return {"f1_micro": micro, "f1_macro": f1.mean(-1), "exact_match": exact}


def _one(sums: np.ndarray) -> dict[str, np.ndarray]:
    _, met, f1 = _f1(sums)
    # A label that these rows lack, and nobody guessed, has no F1.
    return {"accuracy": sums[..., -2] / sums[..., -1], "f1_macro": f1.sum(-1) / (met > 0).sum(-1)}
