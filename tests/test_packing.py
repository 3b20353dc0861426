"""A sequence gives the same result packed, alone, padded, and whatever its neighbours are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.batch import Example, Segment, Sequence, collate, fitting_rows, pack_rows
from unmask.encoder import Encoder

STYLES = ("classic", "modern", "rms")
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=9)
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def states(encoder: Encoder, examples: list[Example], width: int, attention: bool) -> list[Any]:
    """Each sequence's hidden states, from one grid."""
    batch = collate(examples, width)
    with torch.no_grad():
        last = encoder.encode(encoder.embed(batch), batch, attention=attention).last
    return [last[batch.owner == s + 1] for s in range(batch.sequences)]


@few
@given(
    sizes=lengths,
    width=st.integers(0, 90),
    style=st.sampled_from(STYLES),
    attention=st.booleans(),
    prefixed=st.booleans(),
)
def test_packed_is_alone(
    make_encoder: Callable[..., Encoder],
    make_example: Callable[..., Example],
    sizes: list[int],
    width: int,
    style: str,
    attention: bool,
    prefixed: bool,
) -> None:
    encoder = make_encoder(style)
    examples = [make_example(n, i, n // 2 if prefixed else None) for i, n in enumerate(sizes)]
    packed = states(encoder, examples, width, attention)
    for example, together in zip(examples, packed, strict=True):
        (alone,) = states(encoder, [example], 0, False)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@few
@given(sizes=st.lists(st.integers(1, 20), min_size=2, max_size=6), style=st.sampled_from(STYLES))
def test_a_changed_neighbour_changes_nothing(
    make_encoder: Callable[..., Encoder],
    make_example: Callable[..., Example],
    sizes: list[int],
    style: str,
) -> None:
    encoder = make_encoder(style)
    examples = [make_example(n, i) for i, n in enumerate(sizes)]
    before = states(encoder, examples, 64, False)
    examples[-1] = make_example(sizes[-1], 99)
    after = states(encoder, examples, 64, False)
    for old, new in zip(before[:-1], after[:-1], strict=True):
        torch.testing.assert_close(old, new, atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", STYLES)
def test_under_a_prefix_the_target_never_sees_its_future(
    make_encoder: Callable[..., Encoder], style: str
) -> None:
    encoder = make_encoder(style)
    ids = np.arange(10)
    changed = ids.copy()
    changed[7] += 20
    rows = [Example((Sequence((Segment(x),), prefix=4),), ()) for x in (ids, changed)]
    (a,), (b,) = (states(encoder, [row], 0, False) for row in rows)
    torch.testing.assert_close(a[:7], b[:7])
    assert (a[7:] - b[7:]).abs().min() > 0
    changed = ids.copy()
    changed[3] += 20  # in the prefix: every position sees it
    (c,) = states(encoder, [Example((Sequence((Segment(changed),), prefix=4),), ())], 0, False)
    if style != "modern":  # a window of 2 keeps it from the far end of so few layers
        assert (a - c).abs().amax(-1).min() > 0


def test_gradients_do_not_leak(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    encoder = make_encoder("modern")
    batch = collate([make_example(9, 0), make_example(7, 1)], 64)
    x = encoder.embed(batch).detach().requires_grad_()
    encoder.encode(x, batch).last[batch.owner == 1].sum().backward()
    assert x.grad is not None
    assert x.grad[batch.owner == 1].abs().min() > 0
    assert x.grad[batch.owner != 1].abs().max() == 0


@given(sizes=st.lists(st.integers(1, 50), max_size=60), width=st.integers(0, 60))
def test_rows_hold_everything_once_and_fit(sizes: list[int], width: int) -> None:
    rows = pack_rows(sizes, width)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    for row in rows:
        assert len(row) == 1 or sum(sizes[i] for i in row) <= width


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=60), width=st.integers(1, 300))
def test_little_of_a_grid_is_padding(sizes: list[int], width: int) -> None:
    """First fit decreasing: any two rows together hold more than one row's width."""
    examples = [Example((Sequence((Segment(np.zeros(n, dtype=np.int64)),)),), ()) for n in sizes]
    rows, columns = collate(examples, width).shape
    assert columns <= max(width, 4 * max(sizes))
    if rows > 1:
        assert 2 * sum(sizes) > (rows - 1) * columns
    as_wide = pack_rows(sizes, max(width, *sizes))
    cells = len(as_wide) * max(sum(sizes[i] for i in row) for row in as_wide)
    assert rows * columns <= 1.3 * cells  # what more there are is won back in the attention


def _share(rows: list[list[int]], lengths: list[int]) -> float:
    """How full a grid is."""
    return sum(lengths) / (len(rows) * max(sum(lengths[i] for i in row) for row in rows))


@pytest.mark.parametrize("lengths", [[33] * 28 + [17] * 4, [100] + [70] * 40])
def test_a_width_is_found_where_much_the_same_lengths_would_leave_rows_half_empty(
    lengths: list[int],
) -> None:
    assert _share(pack_rows(lengths, max(64, *lengths)), lengths) < 0.75
    assert _share(fitting_rows(lengths, 64), lengths) > 0.9


def test_long_rows_are_not_laid_end_to_end_for_the_sake_of_little_padding() -> None:
    """Attention is quadratic: what is saved in positions would be lost there."""
    lengths = [4096] * 2 + [2600] * 3
    assert _share(pack_rows(lengths, 8192), lengths) > _share(pack_rows(lengths, 4096), lengths)
    assert len(fitting_rows(lengths, 64)) == 5


def test_what_was_wanted_is_gathered_from_where_it_stands(
    make_example: Callable[..., Example],
) -> None:
    examples = [make_example(n, n) for n in (5, 30, 12, 12)]
    batch = collate(examples, 32)
    ids = torch.zeros(batch.shape, dtype=torch.long).view(-1)
    values, index = batch.features["text"]
    ids[index] = values
    expected = np.concatenate(
        [np.concatenate([s.values for s in e.sequences[0].segments])[e.wanted[0]] for e in examples]
    )
    assert batch.gather(ids.view(*batch.shape, 1)).view(-1).tolist() == expected.tolist()
    owners = [i for i, e in enumerate(examples) for _ in e.wanted[0]]
    assert batch.wanted_owner.tolist() == owners
    assert batch.tokens == 59


def test_one_sequence_a_row_of_one_length_needs_no_mask(
    make_example: Callable[..., Example],
) -> None:
    assert collate([make_example(6, 0), make_example(6, 1)]).visible() is None
    assert collate([make_example(6, 0), make_example(5, 1)]).visible() is not None
    assert collate([make_example(6, 0, prefix=2)]).visible() is not None
    assert collate([make_example(6, 0)]).visible(window=2) is not None
    assert collate([make_example(6, 0)]).visible(window=5) is None


def test_an_empty_grid_is_a_grid() -> None:
    batch = collate([])
    assert batch.shape == (0, 0)
    assert batch.sequences == 0
