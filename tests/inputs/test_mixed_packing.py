"""Pictures, recordings and texts in one grid: each sequence gives what it gives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.batch import Example, Segment, Sequence, collate
from unmask.encoder import Encoder
from unmask.recipe import AudioOptions, ImageOptions

STYLES = ("classic", "modern", "rms")
IMAGE = {"size": (8, 12), "patch": 2, "channels": 1}
AUDIO = AudioOptions(mels=8, frames=2)
few = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Of each sequence: tokens (1 at least), rows and columns of patches, frames.
shapes = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 4), st.integers(1, 6), st.integers(0, 7)),
    min_size=1,
    max_size=6,
)


def example(seed: int, tokens: int, rows: int, columns: int, frames: int) -> Example:
    rng = np.random.default_rng(seed)
    parts = [Segment(rng.integers(0, 60, tokens))]
    if rows:
        place = np.argwhere(np.ones((rows, columns)))
        values = rng.normal(size=(len(place), 4)).astype(np.float32)
        parts.append(Segment(values, modality="image", place=place))
    if frames:
        values = rng.normal(size=(frames, AUDIO.width)).astype(np.float32)
        parts.append(Segment(values, modality="audio"))
    sequence = Sequence(tuple(parts))
    return Example((sequence,), (np.arange(sequence.length),))


def states(encoder: Encoder, examples: list[Example], width: int) -> list[Any]:
    batch = collate(examples, width)
    with torch.no_grad():
        last = encoder(batch).last
    return [last[batch.owner == s + 1] for s in range(batch.sequences)]


@few
@given(
    shapes=shapes,
    width=st.integers(0, 90),
    style=st.sampled_from(STYLES),
    positions=st.sampled_from(("learned", "sinusoidal")),
)
def test_packed_is_alone(
    make_encoder: Callable[..., Encoder],
    shapes: list[tuple[int, int, int, int]],
    width: int,
    style: str,
    positions: str,
) -> None:
    image = ImageOptions(**IMAGE, positions=positions)
    encoder = make_encoder(style, image=image, audio=AUDIO)
    examples = [example(i, *shape) for i, shape in enumerate(shapes)]
    for one, together in zip(examples, states(encoder, examples, width), strict=True):
        (alone,) = states(encoder, [one], 0)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@few
@given(shapes=shapes, style=st.sampled_from(STYLES), what=st.sampled_from(("image", "audio")))
def test_a_changed_picture_or_recording_changes_its_own_sequence_alone(
    make_encoder: Callable[..., Encoder],
    shapes: list[tuple[int, int, int, int]],
    style: str,
    what: str,
) -> None:
    encoder = make_encoder(style, image=ImageOptions(**IMAGE), audio=AUDIO)
    examples = [example(i, *shape) for i, shape in enumerate([*shapes, (3, 2, 2, 4)])]
    before = states(encoder, examples, 64)
    changed = [
        Segment(s.values + (s.modality == what), s.kind, s.modality, s.place)
        for s in examples[-1].sequences[0].segments
    ]
    examples[-1] = Example((Sequence(tuple(changed)),), examples[-1].wanted)
    after = states(encoder, examples, 64)
    for old, new in zip(before[:-1], after[:-1], strict=True):
        torch.testing.assert_close(old, new, atol=1e-5, rtol=0)
    assert (before[-1] - after[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("style", STYLES)
def test_where_a_patch_is_makes_a_difference(
    make_encoder: Callable[..., Encoder], style: str, positions: str
) -> None:
    encoder = make_encoder(style, image=ImageOptions(**IMAGE, positions=positions))
    values = np.ones((4, 4), np.float32)
    found = []
    for rows, columns in ((2, 2), (4, 1)):
        place = np.argwhere(np.ones((rows, columns)))
        parts = (Segment(np.array([2])), Segment(values, modality="image", place=place))
        found += states(encoder, [Example((Sequence(parts),), ())], 0)
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("style", STYLES)
def test_modalities_leave_a_text_what_it_was(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example], style: str
) -> None:
    plain = make_encoder(style)
    richer = make_encoder(style, image=ImageOptions(**IMAGE), audio=AUDIO)
    richer.load_state_dict({**richer.state_dict(), **plain.state_dict()})
    examples = [make_example(9, 0), make_example(20, 1)]
    for a, b in zip(states(plain, examples, 0), states(richer, examples, 0), strict=True):
        assert torch.equal(a, b)


def test_the_same_patches_elsewhere_are_another_sequence() -> None:
    values = np.zeros((4, 4), np.float32)
    square, column = np.argwhere(np.ones((2, 2))), np.argwhere(np.ones((4, 1)))
    a, b, c = (
        Sequence((Segment(values, modality="image", place=place),))
        for place in (square, square.copy(), column)
    )
    assert a.content == b.content != c.content
