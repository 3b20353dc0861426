"""How far a score could be off by the chance of which rows were drawn (Efron, 1979).

The rows are drawn again and again with replacement, and the score of each such sample is taken: of
these the 2.5th and 97.5th percentile are the interval. It says nothing of rows of another kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from unmask.tasks import Tally

LEVEL = 0.95
RESAMPLES = 1000
FEWER = 200  # where each sample is scored from the answers themselves
_SEED = 0xB007
_AT_ONCE = 4 << 20  # row numbers drawn at once: what they take of memory is bounded

Interval = tuple[float, float, int]  # low, high, and from how many samples


def intervals(tally: Tally, owner: np.ndarray) -> dict[str, Interval]:
    """The interval of each score of a tally; none of one that does not vary.

    `owner` (N,) is the row of each answer, from 0: the answers of a row are drawn together.
    """
    return _percentiles(samples(tally, owner), tally.total() if tally.biased else {})


def intervals_by_score(
    score: Callable[[np.ndarray], dict[str, float]], owner: np.ndarray
) -> dict[str, Interval]:
    """The same for scores that follow from no sums: `score` takes the numbers of answers, (M,)."""
    return _percentiles(samples_by_score(score, owner), {})


def samples(tally: Tally, owner: np.ndarray, salt: int = 0) -> dict[str, np.ndarray]:
    """Each score of a thousand samples of the rows, (R,).

    With one `salt` and number of rows the same rows are drawn, whatever the answers.
    """
    n = int(owner[-1]) + 1
    drawn: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(_SEED + salt)
    done = 0
    while done < RESAMPLES:
        R = min(max(_AT_ONCE // n, 1), RESAMPLES - done)
        weights = np.empty((R, len(owner)))
        for r in range(R):
            weights[r] = np.bincount(rng.integers(n, size=n), minlength=n)[owner]
        with np.errstate(divide="ignore", invalid="ignore"):
            for metric, values in tally.scores(weights @ tally.counts).items():
                drawn.setdefault(metric, []).append(values)
        done += R
    return {metric: np.concatenate(values) for metric, values in drawn.items()}


def samples_by_score(
    score: Callable[[np.ndarray], dict[str, float]], owner: np.ndarray, salt: int = 0
) -> dict[str, np.ndarray]:
    """The same for scores that follow from no sums, of two hundred samples."""
    n = int(owner[-1]) + 1
    first = np.searchsorted(owner, np.arange(n + 1))
    rng = np.random.default_rng(_SEED + salt)
    drawn: dict[str, list[float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples that have no such score
        for _ in range(FEWER):
            rows = rng.integers(n, size=n)
            which = np.concatenate([np.arange(first[row], first[row + 1]) for row in rows])
            for metric, value in score(which).items():
                drawn.setdefault(metric, []).append(value)
    return {metric: np.array(values) for metric, values in drawn.items()}


def paired(differences: np.ndarray) -> tuple[float, float, float, int] | None:
    """Low and high of a mean difference, the chance p of one so far from 0, and the samples.

    `differences` (S, R) are of S pairs of models, one a seed, on R samples of the rows. Here the
    seeds are drawn with replacement too. None where nothing varies.
    """
    S, R = differences.shape
    rng = np.random.default_rng(_SEED)
    drawn = differences[rng.integers(S, size=(R, S)), np.arange(R)[:, None]].mean(1)  # (R,)
    found = _percentiles({"": drawn}, {}).get("")
    if found is None:
        return None
    known = drawn[np.isfinite(drawn)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    return found[0], found[1], min(2 * (rarer + 1) / (len(known) + 1), 1.0), R


def _percentiles(drawn: dict[str, np.ndarray], whole: dict[str, float]) -> dict[str, Interval]:
    """Intervals of the samples' scores; those in `whole` are laid about the score itself."""
    found: dict[str, Interval] = {}
    tail = (1 - LEVEL) / 2
    for metric, values in drawn.items():
        known = values[np.isfinite(values)]
        if len(known) < len(values) / 2 or np.ptp(known) < 1e-12:
            continue  # too few samples have the score, or all the same: chance cannot be seen
        low, high = np.quantile(known, [tail, 1 - tail])
        if metric in whole:
            shift = known.mean() - whole[metric]
            low, high = max(low - shift, 0.0), high - shift
        found[metric] = (float(low), float(high), len(values))
    return found
