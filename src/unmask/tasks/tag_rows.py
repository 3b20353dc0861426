"""Rows with tagged words, or with spans of a text, in the forms that data sets have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.errors import UserError
from unmask.tasks.spans_of_tags import OUTSIDE, Span, scheme, spans_of
from unmask.tasks.words import joined


@dataclass(frozen=True)
class Input:
    """The input of a row: a text, and its words (W, 2) in characters where the row has them."""

    text: str
    words: np.ndarray | None = None


def read_input(value: Any, column: str) -> Input:
    """A text, or a list of words."""
    if isinstance(value, str):
        return Input(value)
    if isinstance(value, list | tuple):
        for word in value:
            if not isinstance(word, str):
                raise UserError(f"column {column!r} has {word!r} among its words; give texts only")
        return Input(*joined(value))
    raise UserError(
        f"column {column!r} holds {value!r} and neither a text nor a list of words; name another "
        "column in `input`, or mend the row"
    )


def read_spans(value: Any, source: Input, column: str) -> list[Span]:
    """The labelled spans of a row, in characters and in order, from its tags or its spans."""
    if not isinstance(value, list | tuple):
        raise UserError(
            f"column {column!r} holds {value!r} and neither a list of tags nor one of spans; name "
            "another column in `label`, or mend the row"
        )
    if source.words is not None:
        tags = read_tags(value, column)
        if len(tags) != len(source.words):
            raise UserError(
                f"{len(source.words)} words and {len(tags)} tags in column {column!r}; give each "
                "word one tag"
            )
        return [
            Span(int(source.words[s.start, 0]), int(source.words[s.end - 1, 1]), s.label)
            for s in spans_of(tags)
        ]
    odd = next((item for item in value if not isinstance(item, Mapping)), None)
    if isinstance(odd, str):
        raise UserError(
            f"column {column!r} holds tags, and the input is one text: name a column with a list "
            "of words in `input`"
        )
    if odd is not None:
        raise UserError(f"column {column!r} has {odd!r} among its spans; {_FORMS}")
    placed = any(item.get("start") is not None for item in value)
    read = _by_place if placed or not value else _by_piece
    return _checked(list(read(value, source.text, column)), source.text, column)


def read_tags(value: Sequence[Any], column: str) -> list[str]:
    """A row's tags as they stand there, in one scheme."""
    for tag in value:
        if not isinstance(tag, str) or not tag.strip():
            raise UserError(
                f"column {column!r} has {tag!r} among its tags; a tag is a text such as B-city or "
                "O, also where a data set numbers them"
            )
    tags = [tag.strip() for tag in value]
    try:
        scheme(set(tags))
    except ValueError as error:
        raise UserError(f"column {column!r}: {error}; mend the tag") from None
    return tags


_FORMS = "a span is {start, end, label}, or all are pieces {text, slot} that make up the text"


def _by_place(items: Sequence[Mapping[str, Any]], text: str, column: str) -> Iterator[Span]:
    """Spans that say where they are."""
    for item in items:
        start, end, label = item.get("start"), item.get("end"), _label(item)
        if not isinstance(start, int) or not isinstance(end, int) or not label:
            raise UserError(f"column {column!r} has {dict(item)!r} among its spans; {_FORMS}")
        if not 0 <= start < end <= len(text):
            raise UserError(
                f"column {column!r} has a span from {start} to {end}, which does not lie in the "
                f"{len(text)} characters of its text; mend the span"
            )
        yield Span(start, end, label)


def _by_piece(items: Sequence[Mapping[str, Any]], text: str, column: str) -> Iterator[Span]:
    """Pieces that make up the text, those without a label being outside of all spans."""
    place = 0
    for item in items:
        piece, label = item.get("text"), _label(item)
        if not isinstance(piece, str) or label is None:
            raise UserError(f"column {column!r} has {dict(item)!r} among its spans; {_FORMS}")
        if not text.startswith(piece, place):
            raise UserError(
                f"column {column!r}: the pieces of a row make up its text, and {piece!r} does not "
                f"stand at character {place} of {text[:40]!r}; mend the row"
            )
        if label and label != OUTSIDE and piece:
            yield Span(place, place + len(piece), label)
        place += len(piece)
    if place < len(text):
        raise UserError(
            f"column {column!r}: the pieces of a row make up its text, and {text[place:]!r} is in "
            "none; mend the row"
        )


def _label(item: Mapping[str, Any]) -> str | None:
    """The label of a span, empty for none; None where it is no text."""
    for key in ("label", "slot"):
        if key in item:
            value = "" if item[key] is None else item[key]
            return value.strip() if isinstance(value, str) else None
    return None


def _checked(spans: list[Span], text: str, column: str) -> list[Span]:
    """The spans in order, none over another, without the white space around them."""
    result = []
    end = 0
    for span in sorted(spans):
        if span.start < end:
            raise UserError(
                f"column {column!r}: the span {text[span.start : span.end]!r} begins within "
                "another, and a word has one tag; keep one of the two"
            )
        end = span.end
        own = text[span.start : span.end]
        lead, tail = len(own) - len(own.lstrip()), len(own) - len(own.rstrip())
        if own.strip():
            result.append(Span(span.start + lead, span.end - tail, span.label))
    return result
