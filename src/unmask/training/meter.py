"""What a run has used of its budget, and when it is time to score and to save."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unmask.recipe import TrainOptions
from unmask.training.stream import Chunk

_SAVE_SECONDS = 600.0
_MARKS = ("scored_steps", "scored_share", "saved")  # what was done when


@dataclass
class Meter:
    """Updates, tokens, rows and seconds so far; the clock is one that cannot be set."""

    options: TrainOptions
    epoch_rows: int  # rows that make one epoch, of all tasks
    steps: int = 0
    tokens: int = 0
    rows: int = 0
    before: float = 0.0  # epochs, until the last time that a task was left out …
    since: int = 0  # … and rows by then
    seconds: float = 0.0
    scored_steps: int = 0  # when the rows were last scored
    scored_share: float = 0.0
    saved: float = 0.0  # when the last checkpoint was written, in seconds of the run
    _began: float = field(default_factory=time.monotonic)

    def count(self, chunks: Sequence[Chunk]) -> None:
        """Take an update's chunks as used."""
        self.steps += 1
        self.tokens += sum(chunk.tokens for chunk in chunks)
        self.rows += sum(chunk.rows for chunk in chunks)

    def elapsed(self) -> float:
        """Seconds of the run until now, those before it was resumed included."""
        return time.monotonic() - self._began

    def wait(self, seconds: float) -> None:
        """Take this time off the clock."""
        self._began += seconds

    def leave(self, rows: int) -> None:
        """From now on an epoch has so many rows fewer."""
        self.before, self.since = self.epochs, self.rows
        self.epoch_rows -= rows

    @property
    def epochs(self) -> float:
        """Passes over the rows so far."""
        return self.before + (self.rows - self.since) / max(self.epoch_rows, 1)

    @property
    def share(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        unit, size = self.options.budget
        used = {
            "steps": self.steps,
            "tokens": self.tokens,
            "minutes": self.seconds / 60,
            "epochs": self.epochs,
        }
        return min(used[unit] / size, 1.0)

    @property
    def score_due(self) -> bool:
        """Every so many updates, or five times a run, and always at its end."""
        every = self.options.evaluate_every
        if self.steps == self.scored_steps:
            return False
        if self.share >= 1:
            return True
        if every is None:
            return int(self.share * 5) > int(self.scored_share * 5)
        return self.steps // every > self.scored_steps // every

    def score_done(self) -> None:
        """The scores of this moment are known."""
        self.scored_steps, self.scored_share = self.steps, self.share

    @property
    def save_due(self) -> bool:
        """Every so many updates, or ten minutes, and always at the end."""
        every = self.options.save_every
        due = self.steps % every == 0 if every else self.seconds - self.saved >= _SAVE_SECONDS
        return due or self.share >= 1

    def state(self) -> dict[str, Any]:
        """All of it, as plain data."""
        names = ("steps", "tokens", "rows", "before", "since", "seconds")
        return {name: getattr(self, name) for name in (*names, *_MARKS)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what was used before."""
        for name, value in state.items():
            setattr(self, name, value)
        self.scored_share = min(self.scored_share, self.share)  # the budget may have grown
        self._began = time.monotonic() - self.seconds
