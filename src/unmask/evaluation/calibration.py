"""Whether a probability means what it says: of the answers given 0.8, are 8 in 10 right?

All functions take probabilities (n, C), whose rows add up to 1, and the true labels (n,) as
numbers. What is judged is the likeliest label and its probability, the *confidence*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15  # as in Guo et al., arXiv:1706.04599


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: what the answers of each bin of confidence claim, and what holds.

    An empty bin has count 0, and NaN for its confidence and accuracy.
    """

    edges: np.ndarray  # (bins + 1,) of the confidence
    count: np.ndarray  # (bins,) answers
    confidence: np.ndarray  # (bins,) their mean
    accuracy: np.ndarray  # (bins,) the share that is right


def reliability(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> Reliability:
    """The answers by confidence, in bins of equal width, or of equal numbers of answers.

    A bin holds what lies above its lower edge, up to and with its upper one.
    """
    confidence, right = _confidence(probabilities, truth)
    edges = bin_edges(confidence, bins, equal_mass)
    place = bin_of(confidence, edges)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            count,
            np.bincount(place, confidence, minlength=bins) / count,
            np.bincount(place, right, minlength=bins) / count,
        )


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> float:
    """The mean gap, from 0 to 1, between confidence and accuracy over bins (ECE).

    Naeini et al., AAAI 2015. With few answers a bin it is too high even where every probability is
    right: see `expected_by_chance`.
    """
    found = reliability(probabilities, truth, bins, equal_mass)
    gaps = np.abs(np.nan_to_num(found.confidence - found.accuracy))
    return float((gaps * found.count).sum() / found.count.sum())


def expected_by_chance(
    probabilities: np.ndarray, bins: int = BINS, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The ECE that these answers would have were each probability right: mean, 95th percentile.

    The truth is drawn from the confidence (consistency resampling, Bröcker and Smith 2007). An ECE
    below the second figure is no sign of bad calibration.
    """
    confidence = probabilities.max(1)
    place = bin_of(confidence, bin_edges(confidence, bins))
    rng = np.random.default_rng(seed)
    found = [
        np.abs(np.bincount(place, (rng.random(len(place)) < confidence) - confidence)).sum()
        for _ in range(draws)
    ]
    values = np.array(found) / len(confidence)
    return float(values.mean()), float(np.quantile(values, 0.95))


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The mean squared distance of the probabilities from the truth, from 0 to 2 (Brier, 1950).

    Summed over labels, as Brier has it; with two labels it is twice what scikit-learn gives.
    """
    return float(brier_of_each(probabilities, truth).mean())


def brier_of_each(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The squared distance of each answer, (n,)."""
    own = probabilities[np.arange(len(truth)), truth]
    return (probabilities**2).sum(1) - 2 * own + 1


def bin_edges(confidence: np.ndarray, bins: int, equal_mass: bool = False) -> np.ndarray:
    """Where the bins of a confidence (n,) begin and end, (bins + 1,)."""
    if not equal_mass:
        return np.linspace(0, 1, bins + 1)
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1))
    edges[[0, -1]] = 0, 1
    return edges


def bin_of(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each confidence, (n,)."""
    return np.clip(edges.searchsorted(confidence, side="left") - 1, 0, len(edges) - 2)


def _confidence(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How likely the likeliest label is said to be, and whether it is the true one, (n,) each."""
    return probabilities.max(1), probabilities.argmax(1) == truth
