"""Tags of words, and the spans that they stand for: BIO, BIOES, BILOU, or labels as they are.

`B-city` begins a span, `I-city` goes on in it, `O` is outside of all. BIOES (BILOU) has further
tags for the last word of a span and for one of a single word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

OUTSIDE = "O"
PLAIN = "plain"
_PREFIXED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_GOES_ON, _ENDS = frozenset("IEL"), frozenset("ESLU")
# The prefixes for a word of a span by its place there, in the order in which they are tried.
_SINGLE, _FIRST, _INNER, _LAST = "SUBI", "BI", "IB", "ELIB"


@dataclass(frozen=True, order=True)
class Span:
    """From `start` to before `end`, in words or in characters, and what it is."""

    start: int
    end: int
    label: str


def scheme(tags: Collection[str]) -> str:
    """What tags are written in: BIO, BIOES, BILOU or `plain`; a ValueError names an odd one."""
    letters = {tag[0] for tag in tags if _PREFIXED.fullmatch(tag)}
    bare = sorted(tag for tag in tags if tag != OUTSIDE and not _PREFIXED.fullmatch(tag))
    if not letters:
        return PLAIN
    if bare:
        raise ValueError(f"tag {bare[0]!r} has no prefix such as B- or I-, and other tags have")
    for name in ("BIO", "BIOES", "BILOU"):
        if letters <= set(name):
            return name
    raise ValueError(f"the prefixes {', '.join(sorted(letters))} belong to no one scheme of tags")


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans, in words, of tags of any scheme.

    What cannot go on from the word before begins a span. So the older BIO of CoNLL-2003, in which
    B- only parts neighbours, is read as it is meant; and labels without prefixes give a span for
    each run of one label.
    """
    spans: list[Span] = []
    label, start = "", 0  # of the span that is open; none where the label is empty

    for i, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = split(tag)
        if label and (own != label or prefix not in _GOES_ON):
            spans.append(Span(start, i, label))
            label = ""
        if own and not label:
            label, start = own, i
        if own and prefix in _ENDS:
            spans.append(Span(start, i + 1, label))
            label = ""
    return spans


def split(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag; ("", "") outside, and a label without a prefix goes on."""
    if tag == OUTSIDE:
        return "", ""
    found = _PREFIXED.fullmatch(tag)
    return (found[1], found[2]) if found else ("I", tag)


@dataclass(frozen=True)
class Tagset:
    """The tags that a head tells apart, in the order of its logits.

    `strict`: a tag that goes on may only follow its own span's. False where it is not known how
    the tags were meant, as in another library's checkpoint: then nothing is forbidden.
    """

    tags: tuple[str, ...]
    strict: bool = True

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Each tag's place."""
        return {tag: i for i, tag in enumerate(self.tags)}

    @cached_property
    def labels(self) -> frozenset[str]:
        """The labels of spans, without prefixes."""
        return frozenset(split(tag)[1] for tag in self.tags) - {""}

    def write(self, spans: Sequence[Span], words: int) -> list[str]:
        """The tags of so many words with these spans, which may not overlap."""
        tags = [OUTSIDE] * words
        for span in spans:
            inner = [self._tag(_INNER, span.label)] * (span.end - span.start)
            if len(inner) == 1:
                inner[0] = self._tag(_SINGLE, span.label)
            else:
                inner[0] = self._tag(_FIRST, span.label)
                inner[-1] = self._tag(_LAST, span.label)
            tags[span.start : span.end] = inner
        return tags

    def _tag(self, prefixes: str, label: str) -> str:
        tags = (f"{prefix}-{label}" for prefix in prefixes)
        return next((tag for tag in tags if tag in self.numbers), label)

    @cached_property
    def closing(self) -> bool:
        """Whether the end of each span has a tag of its own."""
        return any(split(tag)[0] in _ENDS for tag in self.tags)

    def may_follow(self, before: str | None, tag: str | None) -> bool:
        """Whether one tag may stand behind another; None is the beginning or the end."""
        prefix, label = split(tag) if tag is not None else ("", "")
        goes_on = prefix in _GOES_ON and f"B-{label}" in self.numbers
        was, open_ = split(before) if before is not None else ("", "")
        is_open = was in ("B", "I") and f"B-{open_}" in self.numbers
        if goes_on:
            return is_open and label == open_
        return not (is_open and self.closing)

    @cached_property
    def _costs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """0 or minus infinity: from tag to tag (K, K), at the beginning (K,), at the end (K,)."""
        table = np.zeros((len(self.tags) + 1, len(self.tags) + 1))
        if self.strict:
            ends: list[str | None] = [*self.tags, None]
            table[:] = [
                [0.0 if self.may_follow(before, tag) else -np.inf for tag in ends]
                for before in ends
            ]
        return table[:-1, :-1], table[-1, :-1], table[:-1, -1]

    def best(self, log_p: np.ndarray) -> np.ndarray:
        """The likeliest tags of neighbouring words (W,), of all rows of tags that are allowed.

        `log_p` is (W, K), the words' log-probabilities as if independent (Viterbi, 1967).
        """
        step, begin, end = self._costs
        path = log_p.argmax(1)
        if not len(path) or np.isfinite(
            begin[path[0]] + step[path[:-1], path[1:]].sum() + end[path[-1]]
        ):
            return path  # the likeliest of all is allowed
        score = log_p[0] + begin
        back = np.zeros(log_p.shape, dtype=np.int64)
        for i in range(1, len(log_p)):
            ways = score[:, None] + step  # (K, K): from, to
            back[i] = ways.argmax(0)
            score = ways.max(0) + log_p[i]
        path[-1] = (score + end).argmax()
        for i in range(len(log_p) - 1, 0, -1):
            path[i - 1] = back[i, path[i]]
        return path
