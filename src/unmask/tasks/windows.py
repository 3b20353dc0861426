"""The windows of a long context: where answers stand in them, and the best spans of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor


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


def mark(marks: Sequence[np.ndarray], offsets: Sequence[np.ndarray], start: int, end: int) -> None:
    """Set in each window's marks (n, 2) where the answer from `start` to before `end` stands.

    It counts in the windows that hold it whole. Where none does, being longer than their overlap,
    its beginning and its end count where each of them is.
    """
    touched = {}
    for w, own in enumerate(offsets):  # (n, 2)
        begin = int(np.searchsorted(own[:, 1], start, side="right"))
        last = int(np.searchsorted(own[:, 0], end, side="left")) - 1
        if begin <= last:
            touched[w] = begin, last
    if not touched:
        return
    first = min(offsets[w][begin, 0] for w, (begin, _) in touched.items())
    final = max(offsets[w][last, 1] for w, (_, last) in touched.items())
    begins = {w for w, (begin, _) in touched.items() if offsets[w][begin, 0] == first}
    ends = {w for w, (_, last) in touched.items() if offsets[w][last, 1] == final}
    whole = begins & ends
    for w in whole or begins:
        marks[w][touched[w][0], 0] = True
    for w in whole or ends:
        marks[w][touched[w][1], 1] = True


def draw_windows(holds: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Which windows to learn from, in their order: half of `most` hold a gold answer if so many do.

    `holds` (windows,) says which do; at least one of them is drawn.
    """
    shuffled = rng.permutation(len(holds))
    with_gold, without = shuffled[holds[shuffled]], shuffled[~holds[shuffled]]
    kept = with_gold[: max(most - len(without), (most + 1) // 2)]
    return np.sort(np.concatenate((kept, without[: most - len(kept)])))


def grouped_logsumexp(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """The log of the sum of exponentials over each group: x (N, C), group (N,) -> (groups, C)."""
    index = group[:, None].expand_as(x)
    top = x.new_full((groups, x.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, index, x.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, group, (x - top[group]).exp())
    return top + total.log()


def best_threshold(
    margins: Sequence[float], answered: Sequence[float], silent: Sequence[float]
) -> float:
    """Above which margin to give no answer, so that the sum of scores is the largest.

    For each row: its margin, what answering scores, and what giving no answer does. The threshold
    lies halfway between two neighbouring margins; of equally good ones the smallest is taken.
    """
    margin, gain = np.array(margins), np.array(answered) - np.array(silent)
    known = np.isfinite(margin)
    margin, places = np.unique(margin[known], return_inverse=True)
    if not len(margin):
        return 0.0
    gains = np.concatenate(([0.0], np.bincount(places, gain[known]).cumsum()))
    best = int(gains.argmax())  # how many of the margins are answered
    bounds = np.concatenate(([margin[0] - 1], (margin[1:] + margin[:-1]) / 2, [margin[-1] + 1]))
    return float(bounds[best])
