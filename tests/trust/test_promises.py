"""Promises are kept in the mean over splits, whatever the model; what cannot be is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.tasks.classify import Classify, ClassifyOptions, LabelAnswer
from unmask.tasks.promises import (
    asked,
    bound,
    label_set,
    ladder,
    limit_for,
    stairs,
    surprise_of,
)
from unmask.tasks.regress import NumberAnswer, Regress, RegressOptions


def drawn(seed: int, rows: int, classes: int, sureness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure or not sure enough, and truths."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    p = np.exp(-surprise_of(logits))
    truth = np.array([rng.choice(classes, p=row / row.sum()) for row in p])
    return logits * sureness, truth


@pytest.mark.parametrize(("classes", "sureness"), [(3, 3.0), (20, 0.5)])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_keep_their_promise_in_the_mean_over_splits(
    classes: int, sureness: float, coverage: float
) -> None:
    """Though the probabilities are wrong: within half a point of 200 splits."""
    logits, truth = drawn(0, 2000, classes, sureness)
    surprise, places = surprise_of(logits), np.arange(len(truth))
    rng = np.random.default_rng(1)
    kept, sizes = [], []
    for _ in range(200):
        order = rng.permutation(len(truth))
        valid, test = order[:300], order[300:]
        limit = bound(ladder(surprise[valid, truth[valid]]), 300, coverage)
        kept.append(np.mean(surprise[test, truth[test]] <= limit))
        sizes.append(np.mean((surprise[test] <= limit).sum(1)))
    assert np.mean(kept) == pytest.approx(coverage, abs=0.006)
    assert np.mean(sizes) < classes
    assert places.size


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0.05, 0.99), st.integers(0, 10**6))
def test_a_thinned_ladder_errs_on_the_safe_side(rows: int, coverage: float, seed: int) -> None:
    scores = np.random.default_rng(seed).exponential(size=rows)
    rank = int(np.ceil(round((rows + 1) * coverage, 9)))
    if rank > rows:
        with pytest.raises(UserError, match=r"needs \d+ validation rows and there were"):
            bound(ladder(scores), rows, coverage)
        return
    exact = np.sort(scores)[rank - 1]
    found = bound(ladder(scores), rows, coverage)
    assert found >= exact
    assert (scores <= found).sum() <= rank + rows / 400 + 1
    assert len(ladder(scores)) <= 500


def test_sets_are_in_order_and_never_empty() -> None:
    surprise = np.array([2.0, 0.5, 1.0])
    assert label_set(surprise, 1.5).tolist() == [1, 2]
    assert label_set(surprise, 0.1).tolist() == [1]
    assert label_set(surprise, np.inf).tolist() == [1, 2, 0]


def test_risk_is_kept_as_surely_as_is_said() -> None:
    """Of 200 draws of validation rows, the risk of what is answered is broken in few."""
    broken, answered = 0, []
    logits, truth = drawn(3, 40_000, 4, 2.0)
    doubt, wrong = surprise_of(logits).min(1), logits.argmax(1) != truth
    rng = np.random.default_rng(0)
    for _ in range(200):
        valid = rng.choice(len(truth), 1000, replace=False)
        limit = limit_for(stairs(doubt[valid], wrong[valid]), 0.2)
        given_ = doubt <= limit
        answered.append(given_.mean())
        broken += bool(given_.any() and wrong[given_].mean() > 0.2)
    assert broken <= 10
    assert np.mean(answered) > 0.3
    assert wrong.mean() > 0.25  # so that there was something to withhold


def test_a_risk_that_cannot_be_promised_withholds_all() -> None:
    assert limit_for(stairs(np.arange(10.0), np.ones(10, dtype=bool)), 0.1) == -np.inf
    assert limit_for(stairs(np.arange(10.0), np.zeros(10, dtype=bool)), 0.05) == -np.inf  # too few


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coverage": "much"}, "'much' and no number"),
        ({"coverage": True}, "no number"),
        ({"risk": 0}, "between 0 and 1"),
        ({"coverage": 1}, "between 0 and 1"),
    ],
)
def test_odd_wishes_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked("it", options)


def answers_of(logits: np.ndarray) -> list[LabelAnswer]:
    return [
        LabelAnswer(tokens=3, dropped=0, probabilities={"0": 1.0}, labels=(), logits=tuple(row))
        for row in logits.tolist()
    ]


@pytest.mark.parametrize("how", ["temperature", "vector", None])
def test_promises_do_not_depend_on_the_temperature(text: TextInput, how: Any) -> None:
    """The same rows fit both, so what a temperature is must not change a set."""
    logits, truth = drawn(5, 400, 4, 2.0)
    rows = [{"text": "a", "label": str(label)} for label in truth]
    task = Classify("it", ClassifyOptions(calibrate=how), text, {"labels": list("0123")})
    answers = answers_of(logits)
    found = task.promises(answers, rows)
    assert found["rows"] == 400
    assert found["coverage"] == ladder(surprise_of(logits)[np.arange(400), truth])
    task.calibration = {**task.fit(answers, rows), "promises": {"form": "fp32", **found}}
    hedged = task.hedged(answers, {"coverage": 0.9, "risk": 0.3}, "fp32")
    inside = [str(t) in a.promise.labels for t, a in zip(truth, hedged, strict=True) if a.promise]
    assert 0.9 <= np.mean(inside) < 0.92
    given_ = [a.promise and not a.promise.abstains for a in hedged]
    assert 0 < np.mean(given_) < 1
    first = hedged[0].columns()
    assert set(first) >= {"set", "abstains", "promise"}
    assert first["promise"].startswith("0.9 of such sets hold the truth")
    with pytest.raises(UserError, match="fitted in fp32 and this is bf16"):
        task.hedged(answers, {"coverage": 0.9}, "bf16")
    task.calibration = {}
    with pytest.raises(UserError, match="there were none"):
        task.hedged(answers, {"coverage": 0.9}, "fp32")


def test_intervals_of_numbers(text: TextInput) -> None:
    rng = np.random.default_rng(0)
    guess = rng.normal(size=2000)
    truth = guess + rng.standard_t(3, size=2000)
    rows = [{"text": "a", "label": x} for x in truth]
    answers = [NumberAnswer(tokens=3, dropped=0, value=x) for x in guess]
    task = Regress("it", RegressOptions(), text, {"mean": 0.0, "deviation": 1.0})
    task.calibration = {"promises": {"form": "fp32", **task.promises(answers[:500], rows[:500])}}
    found = task.hedged(answers[500:], {"coverage": 0.9}, "fp32")
    inside = [
        a.promise.interval[0] <= t <= a.promise.interval[1]
        for a, t in zip(found, truth[500:], strict=True)
        if a.promise and a.promise.interval
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)
    assert {"low", "high"} <= found[0].columns().keys()
    with pytest.raises(UserError, match="ask for coverage"):
        task.hedged([], {"risk": 0.1}, "fp32")


def test_kinds_without_promises_say_so(text: TextInput) -> None:
    several = ClassifyOptions(multi_label=True)
    task = Classify("it", several, text, {"labels": ["a", "b"]})
    with pytest.raises(UserError, match="`classify` with one label and `regress` do"):
        task.hedged([], {"coverage": 0.9}, "fp32")
