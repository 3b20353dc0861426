"""Of tasks that choose a label: which labels are taken for which, and how well they know it."""

from __future__ import annotations

from typing import Any

import numpy as np

from unmask.evaluation.calibration import (
    BINS,
    bin_edges,
    bin_of,
    brier_of_each,
    expected_by_chance,
    expected_calibration_error,
    reliability,
)
from unmask.tasks import Choices, Tally

MOST_LABELS = 100  # of a confusion matrix that is given whole
PAIRS = 20  # of labels taken for one another


def calibration_tally(choices: Choices) -> Tally:
    """`ece` and `brier` as functions of sums: the gaps of each bin, the distances, and 1."""
    confidence = choices.probabilities.max(1)
    right = choices.probabilities.argmax(1) == choices.truth
    n = len(confidence)
    counts = np.zeros((n, BINS + 2))
    place = bin_of(confidence, bin_edges(confidence, BINS))
    counts[np.arange(n), place] = confidence - right
    counts[:, -2] = brier_of_each(choices.probabilities, choices.truth)
    counts[:, -1] = 1

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        ece = np.abs(sums[..., :BINS]).sum(-1) / sums[..., -1]
        return {"ece": ece, "brier": sums[..., -2] / sums[..., -1]}

    return Tally(counts, scores, biased=True)


def calibration(choices: Choices) -> dict[str, Any]:
    """The data of a reliability diagram, as plain data, and what to hold its ECE against."""
    found = reliability(choices.probabilities, choices.truth)
    mean, high = expected_by_chance(choices.probabilities)
    by_mass = expected_calibration_error(choices.probabilities, choices.truth, equal_mass=True)
    bins = zip(
        found.edges, found.edges[1:], found.count, found.confidence, found.accuracy, strict=False
    )
    return {
        "ece_equal_mass": by_mass,
        "ece_by_chance": {"mean": mean, "high": high},
        "bins": [
            {
                "from": float(low),
                "to": float(top),
                "rows": int(count),
                "confidence": float(confidence) if count else None,
                "accuracy": float(accuracy) if count else None,
            }
            for low, top, count, confidence, accuracy in bins
        ],
    }


def confusion(choices: Choices) -> dict[str, Any]:
    """How often each label was taken for each: `counts[truth][answer]`, and the worst pairs.

    Of more than a hundred labels only the pairs are given.
    """
    C = len(choices.labels)
    matrix = np.zeros((C, C), dtype=np.int64)
    np.add.at(matrix, (choices.truth, choices.chosen), 1)
    whole = C <= MOST_LABELS
    return {
        "labels": list(choices.labels) if whole else None,
        "counts": matrix.tolist() if whole else None,
        "number_of_labels": C,
        "pairs": [
            {
                "truth": choices.labels[i],
                "answer": choices.labels[j],
                "count": int(matrix[i, j]),
                "of": int(matrix[i].sum()),
            }
            for i, j in _pairs(matrix)
        ],
    }


def _pairs(matrix: np.ndarray) -> list[tuple[int, int]]:
    """The truths and answers that were taken for one another most often."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = (np.unravel_index(at, wrong.shape) for at in order)
    return [(int(i), int(j)) for i, j in places if wrong[i, j]]
