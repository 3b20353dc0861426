"""Words of a text as ranges of its characters, the pieces they begin with, and windows of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.tasks.spans_of_tags import Span

_OVERLAP = 4  # neighbouring windows share a fourth: a word has an eighth on its either side


@dataclass(frozen=True)
class Window:
    """A part of a text, and those of its words that are looked at here."""

    encoded: Encoded
    wanted: np.ndarray  # (n,) places in the window of the words' first pieces


def joined(words: Sequence[str]) -> tuple[str, np.ndarray]:
    """Words as one text, and where each stands in it: (W, 2) characters.

    Between two there is a blank, but none beside a character of Chinese or Japanese.
    """
    text, ranges = "", np.zeros((len(words), 2), dtype=np.int64)
    parts, place = [], 0
    for i, word in enumerate(words):
        if text and word and not (_unspaced(text[-1]) or _unspaced(word[0])):
            parts.append(" ")
            place += 1
        parts.append(word)
        ranges[i] = place, place + len(word)
        place += len(word)
        text = word or text  # the last that is not empty
    return "".join(parts), ranges


def _unspaced(character: str) -> bool:
    """Whether a character is of Chinese or Japanese, which are written without blanks."""
    code = ord(character)
    return (
        0x3000 <= code <= 0x30FF  # punctuation, kana
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0xFF00 <= code <= 0xFFEF  # wide forms
        or 0x20000 <= code <= 0x3FFFF
    )


def found(text: str, encoded: Encoded) -> np.ndarray:
    """The words that the tokenizer finds in a text: (W, 2) characters.

    Punctuation is a word of its own for every tokenizer, also for those that leave it with the
    word before it (SentencePiece).
    """
    inside = encoded.offsets[encoded.sides == 0]
    numbers = encoded.words[encoded.sides == 0]
    ranges: list[list[int]] = []
    last = -1
    for (start, end), number in zip(inside.tolist(), numbers.tolist(), strict=True):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end -= len(piece) - len(piece.rstrip())
        if start >= end:
            continue
        same = ranges and number == last
        if same and _is_mark(text[start]) == _is_mark(text[ranges[-1][1] - 1]):
            ranges[-1][1] = max(end, ranges[-1][1])
        else:
            ranges.append([start, end])
        last = number
    return np.array(ranges, dtype=np.int64).reshape(-1, 2)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def first_pieces(text: str, words: np.ndarray, encoded: Encoded) -> np.ndarray:
    """The place in `encoded` of each word's first piece (W,); -1 for a word without any.

    Where a tokenizer makes a piece of the blank before a word, that is the first.
    """
    start, end = encoded.offsets[:, 0], encoded.offsets[:, 1]
    inside = encoded.sides == 0
    blank = np.array([not text[a:b].strip() for a, b in encoded.offsets.tolist()], dtype=bool)
    places = np.flatnonzero(inside & ~blank)
    if not len(places):
        return np.full(len(words), -1)
    # The ends of tokens only grow, so the first that ends behind a word's start is the one, …
    nearest = np.searchsorted(np.maximum.accumulate(end[places]), words[:, 0], side="right")
    chosen = places[np.minimum(nearest, len(places) - 1)]
    # … if it begins before the word's end.
    touches = (nearest < len(places)) & (start[chosen] < words[:, 1])
    before = np.maximum(chosen - 1, 0)
    belongs = (inside & blank)[before] & (encoded.words[before] == encoded.words[chosen])
    return np.where(touches & (words[:, 1] > words[:, 0]), np.where(belongs, before, chosen), -1)


def windows(encoded: Encoded, first: np.ndarray, limit: int) -> Iterator[Window]:
    """Windows of at most `limit` tokens, in which each place of `first` (n,) is wanted once.

    Neighbours overlap, and a place is wanted where it is further from the window's edge.
    """
    if len(encoded.ids) <= limit:
        yield Window(encoded, first)
        return
    inside = np.flatnonzero(encoded.sides == 0)
    before, behind = np.arange(inside[0]), np.arange(inside[-1] + 1, len(encoded.ids))
    room = limit - len(before) - len(behind)
    if room < 1:
        raise UserError(f"max_length {limit} leaves no room for text; set it higher")
    last = len(inside) - room
    starts = [*range(0, last, max(room - room // _OVERLAP, 1)), last]
    borders = [(left + room + right) // 2 for left, right in pairwise(starts)]
    place = first - inside[0]  # among the tokens of the text
    for start, low, high in zip(starts, [0, *borders], [*borders, len(inside)], strict=True):
        own = np.concatenate((before, inside[start : start + room], behind))
        wanted = place[(low <= place) & (place < high)] - start + len(before)
        yield Window(encoded.pick(own, dropped=0), wanted)


def fitted(spans: Sequence[Span], words: np.ndarray) -> tuple[list[Span], list[Span], int]:
    """Spans of characters, in order, as spans of whole words: in words, and again in characters.

    One that ends within a word is widened, but not over a word of the span before it. One that no
    word is left for is only among those in characters, as it was: nothing can find it. The number
    is that of both.
    """
    by_word, by_character, free = [], [], 0
    for span in spans:
        first = max(int(np.searchsorted(words[:, 1], span.start, side="right")), free)
        behind = int(np.searchsorted(words[:, 0], span.end, side="left"))
        if first >= behind:
            by_character.append(span)
            continue
        by_word.append(Span(first, behind, span.label))
        start, end = int(words[first, 0]), int(words[behind - 1, 1])
        by_character.append(Span(start, end, span.label))
        free = behind
    widened = sum(a != b for a, b in zip(spans, by_character, strict=True))
    return by_word, by_character, widened + len(spans) - len(by_word)
