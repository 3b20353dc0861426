"""Calibration against values worked out by hand, and what must hold of any probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from unmask.evaluation.calibration import (
    brier,
    expected_by_chance,
    expected_calibration_error,
    reliability,
)
from unmask.evaluation.choosing import calibration, calibration_tally, confusion
from unmask.tasks import Choices

P = np.array([[0.9, 0.1], [0.95, 0.05], [0.38, 0.62], [0.37, 0.63]])
TRUTH = np.array([0, 1, 1, 1])


def test_by_hand() -> None:
    """Two answers of 0.925 on average with one right, two of 0.625 with both right."""
    assert expected_calibration_error(P, TRUTH, bins=5) == pytest.approx(
        (2 * abs(0.925 - 0.5) + 2 * abs(0.625 - 1)) / 4
    )
    assert brier(P, TRUTH) == pytest.approx((0.02 + 2 * 0.9025 + 0.2888 + 0.2738) / 4)
    found = reliability(P, TRUTH, bins=5)
    assert found.count.tolist() == [0, 0, 0, 2, 2]
    assert found.accuracy[3:].tolist() == [1.0, 0.5]
    assert found.confidence[3:] == pytest.approx([0.625, 0.925])
    assert np.isnan(found.accuracy[0])


def test_an_edge_belongs_to_the_bin_below() -> None:
    found = reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), bins=2)
    assert found.count.tolist() == [1, 1]


def draws(seed: int, n: int = 200, C: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and truths drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(C), size=n)
    return p, np.array([rng.choice(C, p=row) for row in p])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_what_always_holds(seed: int, equal_mass: bool) -> None:
    p, truth = draws(seed)
    ece = expected_calibration_error(p, truth, equal_mass=equal_mass)
    assert 0 <= ece <= 1
    assert 0 <= brier(p, truth) <= 2
    gap = abs(p.max(1).mean() - (p.argmax(1) == truth).mean())
    assert ece >= gap - 1e-9  # bins can only tell more apart
    found = reliability(p, truth, equal_mass=equal_mass)
    assert found.count.sum() == len(p)
    if equal_mass:
        assert found.count.max() - found.count.min() <= 2
    order = np.random.default_rng(seed).permutation(len(p))
    assert expected_calibration_error(p[order], truth[order], equal_mass=equal_mass) == (
        pytest.approx(ece)
    )
    choices = Choices(list("abcd"), truth, p.argmax(1), p)
    total = calibration_tally(choices).total()
    assert total["ece"] == pytest.approx(expected_calibration_error(p, truth))
    assert total["brier"] == pytest.approx(brier(p, truth))


def test_brier_is_twice_that_of_scikit_learn_with_two_labels() -> None:
    p, truth = draws(0, C=2)
    assert brier(p, truth) == pytest.approx(2 * brier_score_loss(truth, p[:, 1]))


def test_chance_alone_explains_the_error_of_right_probabilities() -> None:
    """ECE is biased upwards; the figure it is held against is as large for a perfect model."""
    found = [expected_calibration_error(*draws(seed)) for seed in range(60)]
    mean, high = expected_by_chance(draws(0)[0])
    assert np.mean(found) == pytest.approx(mean, rel=0.15)
    assert np.mean(np.array(found) > high) <= 0.15
    sharp, truth = draws(1)
    too_sure = sharp**4 / (sharp**4).sum(1, keepdims=True)
    assert expected_calibration_error(too_sure, truth) > 3 * expected_by_chance(too_sure)[1]


def test_confusion_is_whole_or_its_worst_pairs() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    chosen = np.array([0, 1, 1, 1, 0, 2])
    few = confusion(Choices(["a", "b", "c"], truth, chosen, np.eye(3)[chosen]))
    assert few["counts"] == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]
    assert few["pairs"][0] == {"truth": "a", "answer": "b", "count": 2, "of": 3}
    assert len(few["pairs"]) == 2
    names = [str(i) for i in range(101)]
    many = confusion(Choices(names, truth, chosen, np.eye(101)[chosen]))
    assert many["counts"] is None
    assert many["labels"] is None
    assert many["number_of_labels"] == 101
    assert len(many["pairs"]) == 2


def test_empty_bins_are_said_without_numbers() -> None:
    found = calibration(Choices(["a", "b"], TRUTH, P.argmax(1), P))
    assert len(found["bins"]) == 15
    assert sum(one["rows"] for one in found["bins"]) == 4
    assert all((one["accuracy"] is None) == (one["rows"] == 0) for one in found["bins"])
