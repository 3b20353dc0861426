"""A split hangs only on the seed and on what the rows say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.rows import Rows, hold_out
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.recipe import TaskOptions


def rows_of(texts: list[str]) -> Rows:
    half = len(texts) // 2
    batches = [pa.record_batch({"text": part}) for part in (texts[:half], texts[half:])]
    return Rows([batch.cast(pa.schema({"text": pa.string()})) for batch in batches], "x")


def texts(rows: Rows) -> list[str]:
    return [row["text"] for row in rows]


several = st.lists(st.text(max_size=3), min_size=2).filter(lambda texts: len(set(texts)) > 1)
shares = st.floats(0.0, 1.0)


@given(several, shares, st.integers(-(2**63), 2**63 - 1), st.randoms())
def test_two_full_sides_whatever_the_order(
    given_texts: list[str], share: float, seed: int, random: object
) -> None:
    rest, held = hold_out(rows_of(given_texts), share, ["text"], seed)
    assert len(rest)
    assert len(held)
    assert sorted(texts(rest) + texts(held)) == sorted(given_texts)
    assert not set(texts(rest)) & set(texts(held))
    shuffled = list(given_texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = hold_out(rows_of(shuffled), share, ["text"], seed)[1]
    assert sorted(texts(other)) == sorted(texts(held))


def test_share_seed_and_ids() -> None:
    rows = rows_of([f"text {i}" for i in range(1000)])
    rest, held = hold_out(rows, 0.1, ["text"], 0)
    assert (len(rest), len(held)) == (900, 100)
    assert texts(held) == [f"text {i}" for i in held.ids]
    assert texts(held) != texts(hold_out(rows, 0.1, ["text"], 1)[1])
    assert np.all(np.diff(rest.ids) > 0)


def test_what_is_left_can_be_split_again_with_the_same_seed() -> None:
    rest, test = hold_out(rows_of([str(i) for i in range(1000)]), 0.1, ["text"], 0)
    train, valid = hold_out(rest, 0.1, ["text"], 0)
    assert (len(train), len(valid), len(test)) == (810, 90, 100)
    assert not set(texts(valid)) & set(texts(test))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_split_is_the_same_on_every_machine(share: float) -> None:
    held = hold_out(rows_of(list("abcdefghij")), share, ["text"], 7)[1]
    assert texts(held) == {0.05: ["a"], 0.3: ["a", "e", "j"]}[share]


def test_rows_of_a_group_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"text {i},film {i % 20}" for i in range(200)]
    path.write_text("\n".join(["text,film", *lines]), encoding="utf-8")
    options = TaskOptions(kind="any", train=str(path), valid=0.2, test=0.1, group="film")  # type: ignore[arg-type]
    splits = split_rows("it", options, 0)
    parts = [part for part in (splits.train, splits.valid, splits.test) if part is not None]
    films = [{row["film"] for row in part} for part in parts]
    assert [len(own) for own in films] == [15, 3, 2]
    assert len(set.union(*films)) == 20
    wrong = options.model_copy(update={"group": "flim"})
    with pytest.raises(UserError, match="has no column 'flim'; did you mean 'film'"):
        split_rows("it", wrong, 0)
