"""Text in: offsets that point back, cuts that are counted, windows that lose nothing."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.inputs.text import TextInput

sentence = st.lists(
    st.sampled_from(["the", "cat", "dogs", "runs,", "good", "bad!", "zzz"]), max_size=30
)
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@shared
@given(words=sentence)
def test_offsets_point_back_to_the_characters(text: TextInput, words: list[str]) -> None:
    given_text = " ".join(words)
    encoded = text.encode(given_text, max_length=32)
    for token, special, (begin, end) in zip(
        encoded.tokens, encoded.special, encoded.offsets, strict=True
    ):
        if token == "[UNK]":
            assert not special
        elif not special:
            assert given_text[begin:end] == token.removeprefix("##")
        else:
            assert begin == end


@shared
@given(first=sentence, second=st.none() | sentence, limit=st.integers(5, 32))
def test_every_cut_is_counted_and_special_tokens_stay(
    text: TextInput, first: list[str], second: list[str] | None, limit: int
) -> None:
    a, b = " ".join(first), None if second is None else " ".join(second)
    whole = text.tokenizer.encode(a, b)
    encoded = text.encode(a, b, limit)
    assert len(encoded.ids) == min(len(whole), limit)
    assert encoded.dropped == len(whole) - len(encoded.ids)
    assert encoded.tokens[0] == "[CLS]"
    assert encoded.tokens[-1] == "[SEP]"
    assert encoded.tokens.count("[SEP]") == (1 if b is None else 2)
    if b is None:
        assert encoded.tokens[1:-1] == whole.tokens[1:-1][: limit - 2]
    elif encoded.dropped:  # the longer text is cut first
        kept = [(encoded.kinds == kind).sum() - (2, 1)[kind] for kind in (0, 1)]
        full = [whole.type_ids.count(kind) - (2, 1)[kind] for kind in (0, 1)]
        for mine, other in ((0, 1), (1, 0)):
            if kept[mine] < full[mine]:
                assert kept[mine] + 1 >= kept[other]
    assert encoded.sequence().dropped == encoded.dropped


@shared
@given(words=sentence, limit=st.integers(3, 12))
def test_windows_lose_nothing(text: TextInput, words: list[str], limit: int) -> None:
    whole = text.tokenizer.encode(" ".join(words), add_special_tokens=False).ids
    windows = list(text.windows(" ".join(words), limit))
    assert all(len(w.ids) <= limit and w.dropped == 0 for w in windows)
    assert [int(i) for w in windows for i in w.ids[1:-1]] == whole


@shared
@given(first=sentence, second=sentence, limit=st.integers(5, 32), overlap=st.integers(0, 9))
def test_windows_of_a_pair(
    text: TextInput, first: list[str], second: list[str], limit: int, overlap: int
) -> None:
    """All of the second text, as much of the first as half the room holds, and the overlap."""
    a, b = " ".join(first), " ".join(second)
    windows = list(text.windows(b, limit, before=a, overlap=overlap))
    alone = [text.tokenizer.encode(part, add_special_tokens=False).ids for part in (a, b)]
    kept = min(len(alone[0]), (limit - 3) // 2)
    room = limit - 3 - kept
    assert [w.dropped for w in windows] == [len(alone[0]) - kept, *(0 for _ in windows[1:])]
    shared_tokens = min(overlap, room // 2)
    found: list[int] = []
    for window in windows:
        own = window.ids[window.sides == 1].tolist()
        assert window.ids[window.sides == 0].tolist() == alone[0][:kept]
        assert (window.tokens[0], window.tokens[-1], len(window.ids) <= limit) == (
            "[CLS]",
            "[SEP]",
            True,
        )
        if found:
            assert found[-shared_tokens:] == own[:shared_tokens] or not shared_tokens
            assert len(own) > shared_tokens
        found += own[shared_tokens if found else 0 :]
        if window is not windows[-1]:
            assert len(own) == room
    assert found == alone[1]


@shared
@given(words=sentence, limit=st.integers(8, 16), overlap=st.integers(0, 4))
def test_windows_are_the_same_read_piece_by_piece(
    text: TextInput, words: list[str], limit: int, overlap: int
) -> None:
    given_text = " ".join(words)
    asked = {"max_length": limit, "before": "the cats", "overlap": overlap}
    whole = list(text.windows(given_text, **asked))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmask.inputs.pieces.PIECE", 12)
        pieces = list(text.windows(given_text, **asked))  # type: ignore[arg-type]
    assert len(whole) == len(pieces)
    for one, other in zip(whole, pieces, strict=True):
        for key in ("ids", "kinds", "offsets", "sides", "words"):
            assert (getattr(one, key) == getattr(other, key)).all()


def test_a_files_own_truncation_and_padding_are_off(text: TextInput, tmp_path: Path) -> None:
    text.tokenizer.enable_truncation(4)
    text.tokenizer.enable_padding(length=16)
    text.save(tmp_path / "tokenizer.json")
    again = TextInput.read(tmp_path / "tokenizer.json")
    assert len(again.encode("the cat runs the dog").tokens) == 7


def test_long_texts_and_pairs_cost_little(text: TextInput) -> None:
    """Two long texts must not multiply: tokens only ever add up."""
    long = "the cat was good " * 20_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encoded = text.encode(long, long, 32)
    assert len(encoded.ids) == 32
    assert encoded.dropped == 2 * 80_000 + 3 - 32
    assert sum(len(w.ids) - 2 for w in text.windows(long)) == 80_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500_000  # kB


def test_what_is_not_unicode_is_said(text: TextInput) -> None:
    with pytest.raises(UserError, match="not Unicode"):
        text.encode("a \ud800 b")


def test_no_room_for_text(text: TextInput) -> None:
    with pytest.raises(UserError, match="leaves no room for text"):
        text.encode("the cat", max_length=2)


def test_a_broken_tokenizer_file(tmp_path: Path) -> None:
    bad = tmp_path / "tokenizer.json"
    bad.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer"):
        TextInput.read(bad)


def test_special_tokens_have_roles(text: TextInput) -> None:
    roles = ("pad", "unknown", "begin", "end", "mask")
    assert [text.special_id(role) for role in roles] == [0, 1, 2, 3, 4]
    assert text.mask_token == "[MASK]"
