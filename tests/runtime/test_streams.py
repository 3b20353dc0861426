"""How a window of examples is shared among streams that compute at the same time."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.batch import Example, Segment, Sequence
from unmask.jobs import batches_by_tokens, bucket, in_batches
from unmask.machine.threads import available_cpus, threads_each
from unmask.runtime.engines import Streams


def example(length: int) -> Example:
    return Example((Sequence((Segment(np.zeros(length, np.int64)),)),), ())


def lengths_by_batch(lengths: list[int], streams: int, tokens: int = 4096) -> list[list[int]]:
    found: list[list[int]] = []

    def compute(own: Many[Example]) -> list[int]:
        found.append([one.length for one in own])
        return found[-1]

    examples = [example(length) for length in lengths]
    assert list(in_batches(examples, compute, tokens, streams=streams, padded=True)) == lengths
    return found


@pytest.mark.parametrize("streams", [2, 3, 8])
def test_each_stream_has_work_where_one_batch_would_hold_a_window(streams: int) -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(42, 46, 200)]
    assert len(lengths_by_batch(lengths, 1, tokens=100_000)) == 1
    shared = lengths_by_batch(lengths, streams, tokens=100_000)
    assert streams <= len(shared) <= 2 * streams
    assert max(map(sum, shared)) <= sum(lengths) / streams + 1


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=200), tokens=st.integers(300, 4096)
)
def test_padded_batches_hold_everything_once_with_little_padding(
    lengths: list[int], tokens: int
) -> None:
    batches = list(batches_by_tokens(lengths, tokens, padded=True))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        widths = [bucket(lengths[i]) for i in batch]
        assert len(batch) == 1 or len(batch) * widths[0] <= tokens
        loose = [n for n, own in enumerate(widths) if own < widths[0] - widths[0] // 8]
        assert not loose or loose[0] * widths[0] < 256  # only where there is little before it


def test_few_positions_are_not_cut_up() -> None:
    assert len(lengths_by_batch([10] * 20, 8)) == 1


def test_batches_stay_as_small_as_was_asked() -> None:
    assert max(map(sum, lengths_by_batch([10] * 1000, 2, tokens=512))) <= 512


@pytest.mark.parametrize(
    ("said", "threads", "streams"),
    [("1", 1, (1, 1)), ("4", 1, (4, 1)), ("4,2", 2, (2, 2)), ("3", 8, (1, 3)), ("5", 2, (2, 2))],
)
def test_streams_heed_what_holds_torch_too(
    monkeypatch: pytest.MonkeyPatch, said: str, threads: int, streams: tuple[int, int]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr("unmask.machine.threads.available_cpus", lambda: 6)
    assert Streams.fitted(threads) == Streams(*streams)


@pytest.mark.parametrize(("said", "each"), [("", 2), ("1", 1), ("4", 4), ("64", 6)])
def test_processes_share_what_there_is_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, said: str, each: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr("unmask.machine.threads.available_cpus", lambda: 6)
    assert threads_each(3) == each


@pytest.mark.parametrize("said", [None, "", "0", "many"])
def test_streams_are_as_many_as_the_processors_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert Streams.fitted() == Streams(available_cpus(), 1)
