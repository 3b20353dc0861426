"""How a window of examples is shared among streams that compute at the same time."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
import pytest

from unmask.batch import Example, Segment, Sequence
from unmask.jobs import in_batches
from unmask.machine.threads import available_cpus
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
    lengths = [int(n) for n in np.random.default_rng(0).integers(5, 60, 200)]
    assert len(lengths_by_batch(lengths, 1, tokens=100_000)) == 1
    shared = lengths_by_batch(lengths, streams, tokens=100_000)
    assert streams <= len(shared) <= 2 * streams
    assert max(map(sum, shared)) <= sum(lengths) / streams + 1


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
    assert Streams.fitted(threads) == Streams(*streams)


@pytest.mark.parametrize("said", [None, "", "0", "many"])
def test_streams_are_as_many_as_the_processors_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert Streams.fitted() == Streams(available_cpus(), 1)
