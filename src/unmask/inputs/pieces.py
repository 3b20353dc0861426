"""A very long text in pieces, so that tokenising it does not take gigabytes."""

from __future__ import annotations

from collections.abc import Iterator

PIECE = 1 << 18  # characters tokenised at once
_NEAR = 1 << 12  # of a piece's last characters, among which it is cut at white space
_SPACES = frozenset(" \t\n\r\u3000")


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where pieces of at most `PIECE` characters begin and end in a text; at least one.

    They are cut before white space where there is some near the end of a piece, so that the
    tokens are those of the whole text, and else anywhere.
    """
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        floor = max(start, end - _NEAR)
        cut = end
        while cut > floor and text[cut - 1] not in _SPACES:
            cut -= 1
        while cut > floor and text[cut - 1] in _SPACES:
            cut -= 1
        end = cut if cut > floor else end
        yield start, end
        start = end
    yield start, len(text)
