"""Guesses of hidden tokens; filled one after the other, so that they go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from unmask.batch import Example, Segment
from unmask.tasks.base import Answer


@dataclass(frozen=True)
class Guess:
    """One hidden token: the likeliest candidates with their probabilities, best first."""

    position: int
    candidates: tuple[tuple[str, float], ...]
    token: int  # the id of the best
    loss: float | None = None  # -log p(truth), in nats, where the truth is known
    hit: bool | None = None


@dataclass(frozen=True)
class FillAnswer(Answer):
    """A guess for each hidden token, and the text with the best ones in place."""

    draw: ClassVar[str] = "fill"

    guesses: tuple[Guess, ...]
    filled: str

    @property
    def short(self) -> str:
        """The filled text."""
        return self.filled

    def columns(self) -> dict[str, Any]:
        """The filled text and every token's candidates."""
        candidates: list[dict[str, float]] = [{} for _ in self.guesses]
        for own, guess in zip(candidates, self.guesses, strict=True):
            for name, probability in guess.candidates:
                own.setdefault(name, probability)  # of pieces that are spelt alike, the likeliest
        return {"filled": self.filled, "candidates": candidates, **super().columns()}


def best_first(
    ask: Callable[[Iterable[Example]], Iterator[FillAnswer]], examples: Iterable[Example]
) -> Iterator[FillAnswer]:
    """Answers in which each guess knows those that were surer than itself.

    Of all hidden tokens of a text the surest is filled, and the rest are asked again with it in
    place, until none is left: a pass for each (as in masked diffusion, arXiv:2502.09992). With one
    hidden token nothing changes.
    """
    open_ = dict(enumerate(examples))
    known: dict[int, dict[int, Guess]] = {i: {} for i in open_}
    done: dict[int, FillAnswer] = {}
    while open_:
        asked = list(open_.items())
        answers = ask(example for _, example in asked)
        for (i, example), answer in zip(asked, answers, strict=True):
            if len(answer.guesses) < 2:  # the last, or there was none
                known[i] |= {guess.position: guess for guess in answer.guesses}
                guesses = tuple(known[i][place] for place in sorted(known[i]))
                done[i] = replace(answer, guesses=guesses)
                del open_[i]
                continue
            surest = max(answer.guesses, key=lambda guess: guess.candidates[0][1])
            known[i][surest.position] = surest
            open_[i] = _filled(example, surest)
    yield from (done[i] for i in range(len(done)))


def _filled(example: Example, guess: Guess) -> Example:
    """The example with a hidden token in place."""
    (sequence,), (wanted,) = example.sequences, example.wanted
    (part,) = sequence.segments
    ids = part.values.copy()
    ids[guess.position] = guess.token
    sequence = replace(sequence, segments=(Segment(ids, part.kind),))
    return replace(example, sequences=(sequence,), wanted=(np.setdiff1d(wanted, guess.position),))
