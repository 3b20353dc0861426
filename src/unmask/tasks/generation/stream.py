"""A text in parts, as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

UNCLEAR = "\ufffd"  # what a decoder gives for bytes that are no character yet


def parts(texts: Iterable[str]) -> Iterator[str]:
    """What each longer text adds to the one before it; joined, they are the last one.

    A decoder may still change its mind about the end: half a character, a space before a comma. So
    a part is given once the next text has kept it.
    """
    given, last = 0, ""
    for text in texts:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(last, text, strict=False))
        sure = len(last[: len(list(same))].rstrip(UNCLEAR))
        if sure > given:
            yield text[given:sure]
            given = sure
        last = text
    if len(last) > given:
        yield last[given:]
