"""Texts in one form, and the sketches by which they are compared."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.corpus.minhash import (
    SIZE,
    bands,
    minima,
    rows_of_a_band,
    signatures,
    similarity,
)
from unmask.corpus.normalise import Digest, normalise
from unmask.data.duplicates import fold


@given(st.text())
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalise(text)
    if once.reason is None:
        again = normalise(once.text)
        assert again == (once.text, 0, None)
        assert unicodedata.is_normalized("NFC", once.text)
        assert not set(once.text) & set("\r\x00\x0b\x0c\x85\u2028\ufeff")


@pytest.mark.parametrize(
    ("text", "found", "removed", "reason"),
    [
        ("cafe\u0301\r\nau\rlait\u2028!", "café\nau\nlait\n!", 0, None),
        ("\ufeffa bell\x07 in a long enough line", "a bell in a long enough line", 2, None),
        ("नमस्\u200dते", "नमस्\u200dते", 0, None),  # joiners are part of the writing
        (None, "", 0, "missing"),
        (" \t\r\n", "", 0, "empty"),
        ("\x00\x01\x02PNG\x03", "", 0, "binary"),
        ("gr\ufffd\ufffde", "", 0, "binary"),
        ("ab", "", 0, "short"),
        ("好" * 20, "", 0, "long"),
    ],
)
def test_what_becomes_of_texts(
    text: str | None, found: str, removed: int, reason: str | None
) -> None:
    assert normalise(text, shortest=3, longest=50) == (found, removed, reason)


def test_what_is_held_out_depends_on_text_and_seed_alone() -> None:
    held = [Digest.of(f"text {i}", 0).held(0.25) for i in range(4000)]
    assert 0.22 < np.mean(held) < 0.28
    assert [Digest.of(f"text {i}", 0).held(0.25) for i in range(9)] == held[:9]
    assert [Digest.of(f"text {i}", 1).held(0.25) for i in range(4000)] != held
    assert all(Digest.of(f"text {i}", 0).held(0.5) for i in range(4000) if held[i])


def jaccard(a: str, b: str) -> float:
    """By definition: the sets of five neighbouring characters."""
    sets = [{own[i : i + 5] for i in range(len(own) - 4)} for own in (fold(a), fold(b))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_signatures_estimate_the_similarity_without_bias(make_sentence: Callable[..., str]) -> None:
    dice = random.Random(1)
    errors, found = [], []
    for _ in range(300):
        words = make_sentence(dice, 20).split()
        other = [w if dice.random() > 0.15 else "xyzzy" for w in words]
        pair = [" ".join(words), " ".join(other)]
        true = jaccard(*pair)
        a, b = signatures(minima(pair))
        errors.append(float(similarity(a, b)) - true)
        found.append(true)
    assert 0.4 < np.mean(found) < 0.8
    assert abs(np.mean(errors)) < 0.01  # its standard error is 0.003
    assert np.std(errors) < 0.06  # 0.05 for 96 hashes at a similarity of a half


def test_a_text_is_sketched_alike_whatever_stands_beside_it(
    make_sentence: Callable[..., str],
) -> None:
    dice = random.Random(2)
    texts = ["", "a", "ab cde", "好", *(make_sentence(dice) for _ in range(30)), "long " * 20_000]
    together = minima(texts)
    for i, text in enumerate(texts):
        np.testing.assert_array_equal(together[i], minima([text])[0])
    same = minima(["The  FILM was\n good", "the film was good"])
    np.testing.assert_array_equal(same[0], same[1])
    assert minima([]).shape == (0, SIZE)


@pytest.mark.parametrize("near", [0.5, 0.7, 0.8, 0.9, 0.97])
def test_bands_find_nearly_all_pairs_that_are_similar_enough(near: float) -> None:
    rows = rows_of_a_band(near)
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2**32, (4000, SIZE), dtype=np.uint32)
    b = np.where(rng.random(a.shape) < near, a, rng.integers(0, 2**32, a.shape, dtype=np.uint32))
    found = (bands(a, rows) == bands(b, rows)).any(1).mean()
    assert found > 0.93
    strangers = (bands(a, rows)[1:] == bands(a, rows)[:-1]).any()
    assert not strangers
