"""What a task that writes says of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.errors import UserError
from unmask.tasks.base import Answer


@dataclass(frozen=True)
class Written:
    """One text, its pieces, and how likely the model took it to be."""

    text: str
    pieces: tuple[str, ...]
    log_probability: float  # of the pieces that were chosen and of the end, in nats
    unfinished: bool = False  # it was as long as it may be before it ended


@dataclass(frozen=True)
class Reading:
    """How well the model foresaw the truth, given what comes before or around each piece."""

    loss: float  # nats, summed over the pieces to guess
    hits: int  # pieces that were its first guess
    count: int


@dataclass(frozen=True)
class TextAnswer(Answer):
    """The texts that were written, best first. In `reading` is what was made of the truth."""

    texts: tuple[Written, ...]
    reading: Reading | None = None
    unknown: int = 0  # pieces of the source that the vocabulary lacks
    asked: tuple[int, ...] = ()  # the ids that an explanation is of

    @property
    def short(self) -> str:
        """The best text."""
        return self.texts[0].text if self.texts else ""

    @property
    def unfinished(self) -> bool:
        """Whether the best text was cut off at the limit."""
        return bool(self.texts) and self.texts[0].unfinished

    @property
    def marks(self) -> list[str]:
        """What a reader of the text should know, a line each."""
        found = []
        if self.dropped:
            total = self.tokens + self.dropped
            found.append(f"the source of {total} tokens was cut to {self.tokens}")
        if self.unknown:
            found.append(
                f"{self.unknown} of the {self.tokens} tokens read are unknown to this model"
            )
        if self.unfinished:
            found.append("the text is unfinished: it was as long as it may be")
        return found

    def columns(self) -> dict[str, Any]:
        """The best text with its log-probability, and all texts where there are several."""
        found: dict[str, Any] = {"written": self.short}
        if self.texts:
            found["log_probability"] = self.texts[0].log_probability
            found["unfinished"] = self.unfinished
        if len(self.texts) > 1:
            found["candidates"] = [
                {
                    "written": t.text,
                    "log_probability": t.log_probability,
                    "unfinished": t.unfinished,
                }
                for t in self.texts
            ]
        return {**found, "unknown": self.unknown, **super().columns()}


def asked_pieces(task: str, pieces: Sequence[str], first: int, wanted: str | None) -> np.ndarray:
    """Places (n,) of the pieces of a text to explain: all from `first` on, or the one wanted."""
    written = range(first, len(pieces))
    if not written:
        raise UserError(f"task {task}: nothing was written, so nothing is to be explained")
    if wanted is None:
        return np.array(written)
    found = [i for i in written if wanted in (pieces[i], pieces[i].lstrip("#▁Ġ"))]
    if not found and wanted.isdecimal() and int(wanted) - 1 in written:
        found = [int(wanted) - 1]
    if not found:
        some = " ".join(pieces[i] for i in written[:20])
        raise UserError(
            f"task {task}: {wanted!r} is no piece of what was written; name one by itself or its "
            f"number, from {first + 1} to {len(pieces)}: {some}"
        )
    return np.array(found[:1])
