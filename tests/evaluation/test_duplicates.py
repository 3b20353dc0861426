"""Held-out rows that a person would call the same as a training row are found."""

from __future__ import annotations

import pyarrow as pa
import pytest

from unmask.data.duplicates import duplicates, fold
from unmask.data.rows import Rows


def rows(**columns: list[object]) -> Rows:
    return Rows([pa.RecordBatch.from_pydict(columns)], "rows")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The  Film\n", "the film", True),
        ("ＡＢＣ　ｄ", "abc d", True),  # full width
        ("e\u0301té", "ÉTÉ", True),  # an accent apart, or in one
        ("Straße", "STRASSE", True),
        ("ﬁlm", "film", True),
        ("我是程序员", "我是程序员 ", True),
        ("the film", "the films", False),
        ("a b", "ab", False),
    ],
)
def test_fold(one: str, other: str, same: bool) -> None:
    assert (fold(one) == fold(other)) is same


def test_counts_and_the_first() -> None:
    train = rows(text=["the cat", "a dog", "red"])
    test = rows(text=["blue", "THE CAT", "The  cat", "green"])
    valid = rows(text=["blue"])
    found = duplicates([valid, test], train, ["text"])
    assert (found[0].rows, found[0].count, found[0].first, found[0].text) == (1, 0, None, None)
    assert (found[1].rows, found[1].count, found[1].first) == (4, 2, 2)
    assert str(found[1]) == (
        "2 of 4 rows also stand in the training rows; the first is row 2, 'THE CAT'"
    )


def test_pairs_are_the_same_in_both_columns_only() -> None:
    train = rows(a=["x y", "x"], b=["z", "y z"])
    test = rows(premise=["x", "x", "x y z"], hypothesis=["z", "Y z", ""])
    (found,) = duplicates([test], train, ["premise", "hypothesis"], ["a", "b"])
    assert (found.count, found.first, found.text) == (1, 2, "x | Y z")
