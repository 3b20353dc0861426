"""How rows become prompts to write from, and lessons to learn from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from unmask import progress
from unmask.errors import UserError
from unmask.tasks.base import text_in
from unmask.tasks.generation.options import DecodeOptions
from unmask.tasks.generation.prompt import Pieces, Prompt

log = logging.getLogger("unmask")

_LACKING = 0.05  # share of unknown pieces from which on an alphabet seems to be missing


class Told(Protocol):
    """What of a task's options rows are read by."""

    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def target(self) -> str | None: ...
    @property
    def target_length(self) -> int: ...
    @property
    def mode(self) -> str: ...
    @property
    def max_length(self) -> int | None: ...


@dataclass(frozen=True)
class Lesson:
    """A prompt, and the pieces to write behind it: the end is the last unless they go on."""

    prompt: Prompt
    truth: np.ndarray  # (n,), n > 0
    ended: bool


@dataclass(frozen=True)
class Lessons:
    """The rows of one task as its encoder is to see them."""

    task: str
    options: Told
    pieces: Pieces

    def prompt(self, row: Mapping[str, Any], limit: int | None = None) -> Prompt:
        """What a row gives to write from.

        The source, cut where it leaves no room for a target. Without a target column, the input is
        the text's own beginning; of one that is too long the end is kept.
        """
        limit = min(limit or self.pieces.text.max_length, self.pieces.text.max_length)
        room = self._room(limit)
        texts = tuple(text_in(self.task, row, column) for column in self.options.inputs)
        if self.options.target is None:
            begun = self.pieces.of(texts[0])
            most = max(limit - 1 - room, 1)
            if self.options.mode != "left_to_right":  # it knows no longer texts
                most = max(min(most, self.options.target_length // 2), 1)
            kept = begun[max(len(begun) - most, 0) :]
            return Prompt(
                np.array([self.pieces.begin]), np.zeros(1, dtype=np.int64), kept,
                room=min(len(kept) + room, limit - 2), dropped=len(begun) - len(kept),
            )  # fmt: skip
        pair = texts[1] if len(texts) == 2 else None
        source = self.pieces.text.encode(texts[0], pair, limit - room)
        return Prompt(
            source.ids, source.kinds, np.zeros(0, dtype=np.int64), room=room - 1,
            dropped=source.dropped, empty=not (source.sides == len(texts) - 1).any(),
            unknown=self.pieces.lacking(source, texts), origin=source,
        )  # fmt: skip

    def of(self, row: Mapping[str, Any], limit: int | None, learn: bool) -> Iterator[Lesson]:
        """A row's lessons: one, or a window for each piece of a long text without a source.

        A row without source or target, or with a target of unknown pieces alone, teaches nothing.
        """
        limit = min(limit or self.pieces.text.max_length, self.pieces.text.max_length)
        if self.options.target is None:
            yield from self._windows(text_in(self.task, row, self.options.inputs[0]), limit)
            return
        prompt, target = self.prompt(row, limit), self.target(row)
        if learn and (prompt.empty or not self.teaches(target)):
            return
        cut = max(len(target) - prompt.room, 0)
        prompt = replace(prompt, dropped=prompt.dropped + cut)
        if cut:  # what ends there is not the text
            yield Lesson(prompt, target[: prompt.room], ended=False)
        else:
            yield Lesson(prompt, np.append(target, self.pieces.end), ended=True)

    def target(self, row: Mapping[str, Any]) -> np.ndarray:
        """The pieces of a row's target, (n,)."""
        assert self.options.target is not None
        return self.pieces.of(text_in(self.task, row, self.options.target))

    def teaches(self, target: np.ndarray) -> bool:
        """Whether there is anything to learn from a target: a piece that is known."""
        return bool((target != self.pieces.unknown).any())

    def begin(self, prompt: Prompt, options: DecodeOptions) -> Prompt:
        """A prompt whose text begins and ends as these options say."""
        forced = self.pieces.of(options.prefix)
        if self.pieces.unknown is not None and self.pieces.unknown in forced:
            whole = self.pieces.text.whole(options.prefix)
            words = ", ".join(map(repr, self.pieces.lacking(whole, (options.prefix,))))
            raise UserError(
                f"task {self.task}: the prefix {options.prefix!r} has what the vocabulary lacks, "
                f"{words}: no text can begin so; write it in other words"
            )
        room = prompt.room
        if options.mode == "parallel":
            room = min(room, self.options.target_length)
        if options.longest is not None:
            room = min(room, len(prompt.begun) + options.longest)
        begun = np.append(prompt.begun, forced)
        if len(forced) and len(begun) >= room:
            raise UserError(
                f"task {self.task}: the prefix {options.prefix!r} leaves no room to write: with it "
                f"a text has {len(begun)} pieces, of {room} at most; shorten it, or allow more "
                "(`longest`, or `target_length` in training)"
            )
        if options.copy_source:
            return replace(prompt, begun=begun, room=room)
        return replace(prompt, begun=begun, room=room, unknown=())

    def _windows(self, text: str, limit: int) -> Iterator[Lesson]:
        begin = Prompt(np.array([self.pieces.begin]), np.zeros(1, dtype=np.int64),
                       np.zeros(0, dtype=np.int64), room=limit - 2)  # fmt: skip
        if self.options.mode != "left_to_right":
            limit = min(limit, self.options.target_length + 2)  # longer ones the head cannot name
        window: np.ndarray | None = None
        for part in self.pieces.text.windows(text, limit):
            if window is not None and len(window):
                yield Lesson(begin, window, ended=False)
            window = self.pieces.own(part)
        if window is not None and len(window):
            yield Lesson(begin, np.append(window, self.pieces.end), ended=True)

    def _room(self, limit: int) -> int:
        """Positions that are kept for a target and its end: at most half of a sequence."""
        return max(min(self.options.target_length + 1, limit // 2), 2)


def survey(lessons: Lessons, rows: Sequence[Mapping[str, Any]]) -> None:
    """Warn of training rows that teach nothing, are cut, or hold what the vocabulary lacks."""
    if lessons.options.target is None:
        return
    counts = dict.fromkeys(("empty source", "nothing known in the target"), 0)
    cut = total = unknown = 0
    number = len(rows)
    with progress.bar("looking over the rows", len(rows)) as advance:
        for row in rows:
            prompt, target = lessons.prompt(row, lessons.options.max_length), lessons.target(row)
            counts["empty source"] += prompt.empty
            counts["nothing known in the target"] += not (prompt.empty or lessons.teaches(target))
            cut += bool(prompt.dropped) or len(target) > prompt.room
            total += len(prompt.ids) + len(target)
            unknown += lessons.pieces.strange(prompt)
            unknown += int((target == lessons.pieces.unknown).sum())
            advance(1)
    left = sum(counts.values())
    if left == number:
        raise UserError(
            f"task {lessons.task}: none of its {number} training rows teaches anything; are source "
            f"and target texts that the vocabulary knows ({_listed(counts)})?"
        )
    if left:
        log.warning(
            "task %s: %d of %d training rows are left out (%s)",
            lessons.task, left, number, _listed(counts),
        )  # fmt: skip
    if cut:
        log.warning(
            "task %s: %d of %d training rows are too long for a source and a target, and are cut",
            lessons.task, cut, number,
        )  # fmt: skip
    if unknown > _LACKING * total:
        log.warning(
            "task %s: %.0f %% of the training rows' pieces are unknown: the vocabulary lacks their "
            "alphabet; take another encoder, or a new one whose vocabulary is learnt from them",
            lessons.task, 100 * unknown / total,
        )  # fmt: skip


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
