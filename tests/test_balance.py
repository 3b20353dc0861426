"""Balance of languages and domains: how often rows come, and that nothing else changes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.recipe import Column
from unmask.tasks.mlm import Mlm, MlmOptions
from unmask.training.balance import before, parts_of, times
from unmask.training.stream import Stream

ROWS = [{"text": "the cat was red", "language": "en"} for _ in range(40)]
ROWS += [{"text": "the small blue cat " * 6, "language": "da"} for _ in range(4)]  # the long ones


def words(text: TextInput, **options: Any) -> Mlm:
    tags = {"language": Column(column="language")}
    return Mlm("words", MlmOptions(tags=tags, **options), text)


def drawn(stream: Stream, rows: int) -> list[tuple[int, ...]]:
    """The tokens of the next rows, up to so many since the start, as they are hidden."""
    examples = stream.take(0, rows=rows).examples
    return [tuple(example.sequences[0].segments[0].values.tolist()) for example in examples]


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    temperature=st.floats(1, 30),
    seed=st.integers(0, 9),
)
def test_an_epoch_has_as_many_rows_shared_out_by_temperature(
    sizes: list[int], temperature: float, seed: int
) -> None:
    parts = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    found = times(parts, temperature, np.random.default_rng(seed))
    assert found.sum() == len(parts)
    power = np.array(sizes) ** (1 / temperature)
    for part, quota in enumerate(power / power.sum() * len(parts)):
        own = found[parts == part]
        assert abs(own.sum() - quota) <= 1
        assert own.max() - own.min() <= 1
    if temperature == 1:
        assert (found == 1).all()


@given(st.lists(st.integers(0, 5)))
def test_before_counts_what_came(order: list[int]) -> None:
    expected = [order[:i].count(x) for i, x in enumerate(order)]
    assert before(np.array(order, dtype=int)).tolist() == expected


def test_rows_of_a_small_language_come_more_often(text: TextInput) -> None:
    level = drawn(Stream(words(text, balance=1000), ROWS, seed=1), 44)
    assert Counter(len(own) > 20 for own in level) == {True: 22, False: 22}
    as_they_are = drawn(Stream(words(text), ROWS, seed=1), 44)
    assert Counter(len(own) > 20 for own in as_they_are) == {True: 4, False: 40}


def test_a_row_that_comes_again_is_hidden_elsewhere(text: TextInput) -> None:
    level = drawn(Stream(words(text, balance=1000), ROWS, seed=1), 44)
    assert max(Counter(own for own in level if len(own) > 20).values()) == 1


def test_going_on_draws_the_same(text: TextInput) -> None:
    whole = Stream(words(text, balance=3), ROWS, seed=2)
    expected = drawn(whole, 99)
    begun = Stream(words(text, balance=3), ROWS, seed=2)
    drawn(begun, 60)
    other = Stream(words(text, balance=3), ROWS, seed=2)
    other.load(begun.state())
    assert drawn(other, 99) == expected[60:]


def test_other_names_of_a_language_are_one_part() -> None:
    tags = {"language": Column(column="language", names={"english": "en"})}
    rows = [{"language": "english"}, {"language": "en"}, {"language": "da"}]
    assert parts_of("words", MlmOptions(balance=2, tags=tags), rows).tolist() == [0, 0, 1]


def test_balance_needs_tags_that_differ(text: TextInput) -> None:
    task = Mlm("words", MlmOptions(balance=3, tags={"language": "en"}), text)
    with pytest.raises(UserError, match="task words: `balance` goes by tags"):
        Stream(task, ROWS, seed=0)
