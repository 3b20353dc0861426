"""What is answered to a question: the candidates of all windows, and whether any is right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from unmask.tasks.base import Answer


@dataclass(frozen=True)
class Candidate:
    """A stretch of the context, from character `start` to before `end`.

    `score` is the sum of its two logits, `probability` the product of their softmaxes over all
    windows, and `places` are those of its first and last token among the wanted positions.
    """

    text: str
    start: int
    end: int
    score: float
    probability: float
    places: tuple[int, int]


@dataclass(frozen=True)
class SpanAnswer(Answer):
    """The best stretches of the context, best first, and whether there is an answer at all."""

    draw: ClassVar[str] = "spans"

    candidates: tuple[Candidate, ...]
    null: Candidate | None  # that there is no answer, where that may be so
    threshold: float = 0.0  # of `margin`, above which there is none
    loss: float | None = None  # -log p(truth), in nats, where the truth is known

    @property
    def margin(self) -> float:
        """By how much the score of there being no answer is above the best candidate's."""
        if not self.candidates:
            return math.inf
        return -math.inf if self.null is None else self.null.score - self.candidates[0].score

    @property
    def best(self) -> Candidate | None:
        """The best candidate; None where there is no answer."""
        return self.candidates[0] if self.candidates and self.margin <= self.threshold else None

    @property
    def text(self) -> str:
        """The answer as it stands in the context; empty where there is none."""
        return self.best.text if self.best else ""

    @property
    def short(self) -> str:
        """The answer's text."""
        return self.text

    def columns(self) -> dict[str, Any]:
        """The answer, its probability and place, and the candidates where more were asked for."""
        chosen = self.best or self.null
        found: dict[str, Any] = {
            "prediction": self.text,
            "probability": chosen.probability if chosen else 0.0,
            "start": self.best.start if self.best else None,
            "end": self.best.end if self.best else None,
        }
        if len(self.candidates) > 1:
            found["candidates"] = [
                [one.text, one.probability, one.start, one.end] for one in self.candidates
            ]
        return {**found, **super().columns()}


@dataclass(frozen=True)
class Reading:
    """A context, and from which character to which each candidate stands in each window.

    With `null` the first candidate of each window is no part of the context but stands for there
    being no answer.
    """

    context: str
    offsets: tuple[np.ndarray, ...]  # one (n, 2) a window
    null: bool

    def best(
        self, logits: np.ndarray, longest: int, top: int
    ) -> tuple[list[Candidate], Candidate | None]:
        """The `top` best spans of at most `longest` tokens, and there being none.

        `logits` (n, 2) are those of beginning and of ending at each candidate, window by window.
        A span stands within one window; of the same characters in several windows the best
        counts. There being no answer scores what the window that doubts it most gives: one that
        does not hold the answer cannot know of the others.
        """
        log_p = logits - np.logaddexp.reduce(logits, axis=0, initial=-np.inf)
        found: dict[tuple[int, int], Candidate] = {}
        nulls: list[Candidate] = []
        first = int(self.null)
        at = 0  # of the window's first candidate among those of all windows
        for offsets in self.offsets:
            window = slice(at + first, at + len(offsets))
            if self.null:
                nulls.append(self._candidate(logits, log_p, at, at, (0, 0)))
            own: dict[tuple[int, int], Candidate] = {}
            for begin, end in best_pairs(logits[window], longest):
                chars = self._trimmed(offsets[first + begin, 0], offsets[first + end, 1])
                if chars[0] < chars[1] and chars not in own:
                    places = window.start + begin, window.start + end
                    own[chars] = self._candidate(logits, log_p, *places, chars)
                if len(own) == top:
                    break
            for chars, new in own.items():
                if chars not in found or new.score > found[chars].score:
                    found[chars] = new
            at += len(offsets)
        ranked = sorted(found.values(), key=lambda one: (-one.score, one.start, one.end))
        return ranked[:top], min(nulls, key=lambda one: one.score, default=None)

    def find(self, text: str) -> Candidate | None:
        """Where a stretch of the context first stands in whole tokens of one window."""
        start = self.context.find(text) if text.strip() else -1
        while start >= 0:
            at = 0
            for offsets in self.offsets:
                inside = offsets[int(self.null) :]
                begins = np.flatnonzero((inside[:, 0] <= start) & (start < inside[:, 1]))
                ends = np.flatnonzero(inside[:, 1] == start + len(text))
                if len(begins) and len(ends):
                    chars = self._trimmed(inside[begins[0], 0], inside[ends[0], 1])
                    if chars == (start, start + len(text)):
                        first = at + int(self.null)
                        places = first + int(begins[0]), first + int(ends[0])
                        return Candidate(text, *chars, 0.0, 0.0, places)
                at += len(offsets)
            start = self.context.find(text, start + 1)
        return None

    def _candidate(
        self, logits: np.ndarray, log_p: np.ndarray, begin: int, end: int, chars: tuple[int, int]
    ) -> Candidate:
        score = float(logits[begin, 0] + logits[end, 1])
        chance = float(np.exp(log_p[begin, 0] + log_p[end, 1]))
        return Candidate(self.context[slice(*chars)], *chars, score, chance, (begin, end))

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        """Without white space at either side, which some tokenizers count to a token."""
        text = self.context[start:end]
        return int(end) - len(text.lstrip()), int(start) + len(text.rstrip())


def best_pairs(logits: np.ndarray, longest: int) -> Iterator[tuple[int, int]]:
    """All pairs of a beginning and an end in one window, best first: logits (n, 2).

    The end is not before the beginning, and they have at most `longest` tokens.
    """
    n = len(logits)
    longest = min(longest, n)
    if not n:
        return
    ends = np.concatenate((logits[:, 1], np.full(longest - 1, -np.inf)))
    table = logits[:, :1] + sliding_window_view(ends, longest)  # (n, longest)
    for place in np.argsort(-table, axis=None, kind="stable"):
        begin, more = divmod(int(place), longest)
        if begin + more < n:
            yield begin, begin + more
