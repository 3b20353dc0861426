"""CTC against brute force over all paths."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.tasks import ctc


def random(T: int, C: int, seed: int, sharp: float = 1.0) -> np.ndarray:
    """Log-probabilities (T, C)."""
    logits = np.random.default_rng(seed).normal(size=(T, C)) * sharp
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def spelt(log_p: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log-probability of every text, from all paths."""
    found: dict[tuple[int, ...], float] = defaultdict(lambda: -np.inf)
    T, C = log_p.shape
    for path in itertools.product(range(C), repeat=T):
        text = tuple(unit for unit, _ in itertools.groupby(path) if unit != ctc.BLANK)
        found[text] = np.logaddexp(found[text], log_p[np.arange(T), path].sum())
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 999), st.floats(0.1, 4))
def test_a_wide_beam_finds_the_likeliest_text_and_its_chance(
    T: int, C: int, seed: int, sharp: float
) -> None:
    log_p = random(T, C, seed, sharp)
    truth = spelt(log_p)
    found = ctc.beam_search(log_p, 500)
    assert found[0][1] == pytest.approx(max(truth.values()))
    assert {tuple(text): score for text, score in found} == pytest.approx(truth)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 999))
def test_greedy_is_the_likeliest_path(T: int, C: int, seed: int) -> None:
    log_p = random(T, C, seed)
    paths = list(itertools.product(range(C), repeat=T))
    scores = [log_p[np.arange(T), path].sum() for path in paths]
    best = paths[int(np.argmax(scores))]
    text, score = ctc.greedy(log_p)
    assert text == [unit for unit, _ in itertools.groupby(best) if unit != ctc.BLANK]
    assert score == pytest.approx(max(scores))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 99), st.integers(1, 8))
def test_a_narrow_beam_is_never_above_the_truth(T: int, C: int, seed: int, width: int) -> None:
    log_p = random(T, C, seed, 3)
    found = ctc.beam_search(log_p, width)
    assert 1 <= len(found) <= width
    for text, score in found:
        units = torch.tensor(text, dtype=torch.long)
        true = -ctc.loss(
            torch.from_numpy(log_p), torch.tensor([T]), units, torch.tensor([len(text)])
        )
        assert score <= float(true) + 1e-3


def test_a_beam_finds_what_no_single_path_shows() -> None:
    """The blank leads at each position, and yet a unit is likelier (Graves's own example)."""
    log_p = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert ctc.greedy(log_p)[0] == []
    assert ctc.beam_search(log_p, 4)[0] == ([1], pytest.approx(np.log(0.64)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(2, 3), st.integers(0, 99))
def test_the_loss_is_the_chance_of_each_text(lengths: list[int], C: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [random(T, C, seed + i) for i, T in enumerate(lengths)]
    texts = [rng.integers(1, C, rng.integers(0, T + 1)) for T in lengths]
    chances = [
        spelt(table)[tuple(text.tolist())] for table, text in zip(tables, texts, strict=True)
    ]
    possible = [ctc.positions_needed(text) <= T for T, text in zip(lengths, texts, strict=True)]
    assert possible == np.isfinite(chances).tolist()
    found = ctc.loss(
        torch.from_numpy(np.concatenate(tables)),
        torch.tensor(lengths),
        torch.from_numpy(np.concatenate(texts)),
        torch.tensor([len(text) for text in texts]),
    )
    expected = -sum(chance for chance, can in zip(chances, possible, strict=True) if can)
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_nothing_is_spelt_by_nothing() -> None:
    assert ctc.greedy(np.zeros((0, 3))) == ([], 0.0)
    assert ctc.beam_search(np.zeros((0, 3)), 4) == [([], 0.0)]
    assert ctc.collapsed(np.array([1, 1, 0, 1, 2, 2, 0])) == [1, 1, 2]
