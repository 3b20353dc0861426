"""What validation rows promise of answers to come: sets that hold the truth, errors that stay rare.

Split conformal prediction (Vovk et al., 2005; Angelopoulos & Bates, arXiv:2107.07511): if rows to
come are drawn as the validation rows were, the truth of a new row may be the strangest of all, the
second strangest and so on with the same chance. So what the k-th of n truths in order stays within
holds for k / (n + 1) of new rows, in the mean over draws, whatever the model. It is never a promise
of one text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.errors import UserError

POINTS = 500  # kept of the validation rows' scores: a promise is met to 1 / POINTS from above
CERTAINTY = 0.95  # that the share of wrong answers is as promised
SHARES = 20  # of the rows, 5 % apart, that could be answered
SHOWN = 5  # labels of a set, in a line
OPTIONS = ("coverage", "risk")  # of `predict`, that ask for a promise


@dataclass(frozen=True)
class Promise:
    """What one answer promises, and how it was come by.

    `labels` or `interval` hold the truth in the share `coverage` of rows; with `risk`, `abstains`
    says that the answer is not sure enough to be among those of which at most that share is wrong.
    """

    rows: int  # validation rows that stand behind it
    coverage: float | None = None
    labels: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None
    risk: float | None = None
    abstains: bool | None = None

    @property
    def size(self) -> float:
        """How much is left open: labels of the set, or the width of the interval."""
        if self.interval is not None:
            return self.interval[1] - self.interval[0]
        return float(len(self.labels or ()))

    @property
    def short(self) -> str:
        """What is promised, in a line."""
        said = []
        if self.labels is not None:
            more = f", … ({len(self.labels)} labels)" if len(self.labels) > SHOWN else ""
            said.append(", ".join(self.labels[:SHOWN]) + more)
        if self.interval is not None:
            said.append("{:.4g} to {:.4g}".format(*self.interval))
        if self.abstains is not None:
            said.append("withheld" if self.abstains else "given")
        return "; ".join(said)

    @property
    def says(self) -> str:
        """The promise in a sentence."""
        said = []
        like = f"rows like the {self.rows} validation rows"
        if self.coverage is not None:
            what = "sets" if self.interval is None else "intervals"
            share = f"{self.coverage:.4g} of such {what}"
            said.append(f"{share} hold the truth, in the mean over {like}")
        if self.risk is not None:
            said.append(
                f"of the answers to {like} that are not withheld at most {self.risk:.4g} are "
                f"wrong, with certainty {CERTAINTY:.4g}"
            )
        return "; ".join(said)

    def columns(self) -> dict[str, Any]:
        """As plain columns."""
        found: dict[str, Any] = {}
        if self.labels is not None:
            found["set"] = list(self.labels)
        if self.interval is not None:
            found["low"], found["high"] = self.interval
        if self.abstains is not None:
            found["abstains"] = self.abstains
        return {**found, "promise": self.says}


def ladder(scores: Sequence[float] | np.ndarray) -> list[list[float]]:
    """The scores of the truths of validation rows in order, thinned: [rank from 1, score].

    A score is the larger, the less the truth was expected. Each is rounded up, and where some are
    left out the next larger stands for them, so that promises err on the safe side.
    """
    found = np.sort(np.asarray(scores, dtype=np.float64))
    n = len(found)
    places = np.unique(np.ceil(np.linspace(0, n - 1, min(n, POINTS))).astype(int))
    return [[int(i) + 1, float(math.ceil(found[i] * 1e6) / 1e6)] for i in places]


def bound(steps: Sequence[Sequence[float]], rows: int, coverage: float) -> float:
    """The score that the truths of so large a share of rows to come stay within."""
    _check_share("coverage", coverage)
    rank = math.ceil(round((rows + 1) * coverage, 9))
    for place, score in steps:
        if place >= rank:
            return score
    raise UserError(
        f"coverage {coverage:g} needs {math.ceil(round(coverage / (1 - coverage), 9))} validation "
        f"rows and there were {rows}; ask for less, or calibrate on more rows"
    )


def label_set(surprise: np.ndarray, limit: float) -> np.ndarray:
    """The labels whose surprise (C,) in nats stays within a limit, likeliest first; never none.

    LAC (Sadinle et al., arXiv:1609.00451): of all rules with one promise its sets are the smallest
    in the mean. Where no label stays within, the likeliest is given: the promise is kept the more.
    """
    order = np.argsort(surprise, kind="stable")
    return order[: max(int((surprise <= limit).sum()), 1)]


def surprise_of(logits: Sequence[float] | np.ndarray) -> np.ndarray:
    """Minus the log-probability of each label, (..., C), by the logits as they are.

    They are those of the trained head and not the calibrated ones: what was fitted to the
    validation rows must not decide how strange their truths look.
    """
    z = np.asarray(logits, dtype=np.float64)
    top = z.max(-1, keepdims=True)
    return np.asarray(top + np.log(np.exp(z - top).sum(-1, keepdims=True)) - z)


def stairs(doubt: np.ndarray, wrong: np.ndarray) -> list[list[float]]:
    """Of the surest 5, 10, … 100 % of rows: the largest doubt, how many they are, how many wrong.

    `doubt` (n,) is the larger, the less sure an answer was.
    """
    order = np.argsort(doubt, kind="stable")
    doubt, wrong = doubt[order], wrong[order].cumsum()
    n = len(doubt)
    found = []
    for share in range(1, SHARES + 1):
        limit = doubt[max(math.ceil(n * share / SHARES), 1) - 1]
        count = int(doubt.searchsorted(limit, side="right"))  # all that are as sure
        rounded = math.ceil(limit * 1e6) / 1e6
        found.append([rounded, count, int(wrong[count - 1])])
    return found


def limit_for(steps: Sequence[Sequence[float]], risk: float) -> float:
    """The doubt up to which answers are given, so that at most this share of them is wrong.

    After Geifman & El-Yaniv (arXiv:1705.08500): the most rows such that so few errors would be
    unlikely were the risk any larger, by the binomial distribution; all steps are looked at, so
    each gets a part of what is left to chance. None that will do: minus infinity.
    """
    from scipy.stats import binom

    _check_share("risk", risk)
    limits, counts, wrong = np.array(steps).T
    good = limits[binom.cdf(wrong, counts, risk) <= (1 - CERTAINTY) / len(steps)]
    return float(good.max(initial=-math.inf))


def asked(task: str, options: Mapping[str, Any]) -> dict[str, float]:
    """The promises that options of `predict` ask for; a UserError names one that is no number."""
    found = {}
    for key in OPTIONS:
        value = options.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"task {task}: {key} is {value!r} and no number; write {key}=0.9")
        _check_share(key, value)
        found[key] = float(value)
    return found


def check_fitted(task: str, record: Mapping[str, Any] | None, form: str) -> Mapping[str, Any]:
    """What the validation rows taught, if they did and in this form; else a UserError says what."""
    if not record:
        raise UserError(
            f"task {task}: nothing was promised by validation rows, for there were none, or its "
            "kind has no promises; train with `valid`, or see `unmask calibrate`"
        )
    if record.get("form") != form:
        raise UserError(
            f"task {task}: its promises were fitted in {record.get('form')} and this is {form}, "
            f"whose answers differ; {_advice(form)}"
        )
    return record


def _advice(form: str) -> str:
    if form.startswith("exits"):
        return "shrink the whole bundle again, --to exits, or load it with form=False"
    return f"fit them anew: unmask calibrate BUNDLE OUT --precision {form}"


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UserError(f"{name} lies between 0 and 1, not at {value:g}; write {name}=0.9 or so")
