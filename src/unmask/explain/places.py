"""What an explanation is told in: the positions of an example, and the words they make up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unmask.batch import Example, Segment
from unmask.inputs.encoded import Encoded
from unmask.inputs.text import TextInput

By = Literal["word", "token"]


@dataclass(frozen=True)
class Place:
    """One position of an example: a token, a patch of a picture, a frame of a sound.

    `start` and `end` are characters of the text of this `side` (0, or 1 for the second of a pair),
    where they are known. A `fixed` place stays as it is in every explanation: special tokens, and
    what already is the blank.
    """

    text: str
    sequence: int
    modality: str
    side: int
    word: int  # number of the word within its side; its own for what has no words
    start: int | None
    end: int | None
    token: int | None  # its id
    fixed: bool


@dataclass(frozen=True)
class Part:
    """What is kept or hidden as a whole: a word, a token, a patch. `places` are its positions."""

    text: str
    sequence: int
    modality: str
    side: int
    start: int | None
    end: int | None
    places: tuple[int, ...]


def places_of(example: Example, text: TextInput, blank: int) -> list[Place]:
    """The positions of all sequences of an example, one after the other; `blank` hides a token."""
    return [
        place
        for number, sequence in enumerate(example.sequences)
        for segment in sequence.segments
        for place in _of_segment(segment, number, text, blank)
    ]


def parts_of(places: Sequence[Place], by: By, text: TextInput, apart: bool) -> list[Part]:
    """The words, or the tokens, of these places, without what is fixed.

    The windows of a long text overlap: a word that stands in several is one part. Texts that are
    read `apart` share none.
    """
    begins: dict[tuple[int, int, int], int | None] = {}  # of each word, its first character
    for place in places:
        begins.setdefault((place.sequence, place.side, place.word), place.start)
    groups: dict[object, list[int]] = {}
    for i, place in enumerate(places):
        if place.fixed:
            continue
        word = (place.sequence, place.side, place.word)
        key: object
        if place.start is None:  # nothing tells where it stands
            key = word if by == "word" else i
        else:
            own = (place.sequence if apart else -1, place.side)
            token = (place.start, place.end, place.token)
            key = (*own, begins[word]) if by == "word" else (*own, *token)
        groups.setdefault(key, []).append(i)
    return [_part([places[i] for i in own], own, text, apart) for own in groups.values()]


def _part(own: Sequence[Place], numbers: Sequence[int], text: TextInput, apart: bool) -> Part:
    first = own[0]
    ids = [p.token for p in own if p.token is not None and p.sequence == first.sequence]
    said = text.tokenizer.decode(ids, skip_special_tokens=False).strip() if ids else first.text
    ends = [p.end for p in own if p.end is not None]
    return Part(
        text=said or first.text,
        sequence=first.sequence,
        modality=first.modality,
        side=first.sequence if apart else first.side,
        start=first.start,
        end=max(ends) if ends else None,
        places=tuple(numbers),
    )


def _of_segment(segment: Segment, sequence: int, text: TextInput, blank: int) -> Iterator[Place]:
    kinds = np.broadcast_to(segment.kind, len(segment.values))
    if segment.modality != "text":
        for i in range(len(segment.values)):
            said = f"{segment.modality} {i + 1}"
            yield Place(said, sequence, segment.modality, int(kinds[i]), i, None, None, None, False)
        return
    origin, ids = segment.origin, segment.values.tolist()
    if isinstance(origin, Encoded):
        for i, token in enumerate(ids):
            special = bool(origin.sides[i] < 0)
            start, end = (None, None) if special else map(int, origin.offsets[i])
            yield Place(
                origin.tokens[i], sequence, "text", max(int(origin.sides[i]), 0),
                int(origin.words[i]), start, end, token, special or token == blank,
            )  # fmt: skip
        return
    names = [text.tokenizer.id_to_token(token) or "" for token in ids]
    marked = any(name.startswith(("▁", "Ġ")) for name in names)
    word = -1
    for i, (name, token) in enumerate(zip(names, ids, strict=True)):
        word += not (name.startswith("##") or (marked and not name.startswith(("▁", "Ġ"))))
        fixed = token in text.special_ids or token == blank
        yield Place(name, sequence, "text", int(kinds[i]), max(word, 0), None, None, token, fixed)
