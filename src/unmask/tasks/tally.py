"""What a task's figures are made of, so that rows can be resampled without asking it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Sums = np.ndarray  # (..., K)


@dataclass(frozen=True)
class Tally:
    """Numbers of each answer, from whose sums the scores follow.

    `counts` is dense or a sparse array of SciPy; `scores` takes sums of its rows, for one sample or
    for many at once. Accuracy is a mean, entity F1 follows from the numbers of hits, guesses and
    truths, Pearson's correlation from sums of squares and products. `biased` says that a score
    grows by resampling itself, as a sum of absolute differences does.
    """

    counts: Any  # (N, K)
    scores: Callable[[Sums], dict[str, np.ndarray]]  # (..., K) -> {metric: (...)}
    biased: bool = False

    @classmethod
    def of_means(cls, **values: Sequence[float] | np.ndarray) -> Tally:
        """For scores that are means over answers: one number an answer for each metric."""
        columns = [*values.values()]
        ones = np.ones(len(columns[0]))
        names = list(values)

        def scores(sums: Sums) -> dict[str, np.ndarray]:
            return {name: sums[..., i] / sums[..., -1] for i, name in enumerate(names)}

        return cls(np.stack([*map(np.asarray, columns), ones], axis=1).astype(float), scores)

    def total(self) -> dict[str, float]:
        """The scores of all answers."""
        return {k: float(v) for k, v in self.scores(np.asarray(self.counts.sum(axis=0))).items()}


@dataclass(frozen=True)
class Choices:
    """Of a kind that chooses one of several labels for each answer: what it chose, and the truth.

    The confusion matrix and the calibration are made of it.
    """

    labels: Sequence[str]  # C of them
    truth: np.ndarray  # (N,) int
    chosen: np.ndarray  # (N,) int
    probabilities: np.ndarray  # (N, C)
