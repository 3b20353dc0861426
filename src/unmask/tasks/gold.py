"""The gold answers of a row: read in the layouts that there are, and found in their context."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.errors import UserError

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Gold:
    """One gold answer: its text, and the character at which it is said to start."""

    text: str
    start: int

    def find(self, context: str) -> tuple[int, int] | None:
        """From which character to which it stands in the context, at its start or nearest to it."""
        start, size = max(self.start, 0), len(self.text)
        before, behind = context.rfind(self.text, 0, start + size), context.find(self.text, start)
        places = [place for place in (before, behind) if place >= 0]
        if not places:
            return None
        found = min(places, key=lambda place: abs(place - start))
        return found, found + size


def read_gold(value: Any, what: str) -> tuple[Gold, ...]:
    """A row's gold answers; none where there is no answer.

    `value` is a list of `{text, start}` (or `{text, answer_start}`), or a mapping
    `{text: […], answer_start: […]}` as `datasets` has it. A blank text is no answer. `what` is
    what a UserError calls it.
    """
    if isinstance(value, Mapping):
        starts = value.get("answer_start", value.get("start"))
        pairs = list(zip(_listed(value.get("text")), _listed(starts), strict=False))
        whole = len(pairs) == len(_listed(value.get("text")))
    else:
        items = _listed(value)
        whole = all(isinstance(item, Mapping) for item in items)
        pairs = [(a.get("text"), a.get("answer_start", a.get("start"))) for a in items if whole]
    if not whole or not all(isinstance(t, str) and isinstance(s, int) for t, s in pairs):
        raise UserError(
            f"{what} holds {str(value)[:80]!r} and no answers: write a list of "
            "{text: …, start: character at which it begins}, empty where there is no answer"
        )
    return tuple(Gold(text, start) for text, start in pairs if text.strip())


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def survey(task: str, where: str, rows: Iterable[tuple[str, tuple[Gold, ...]]]) -> int:
    """How many rows can be learnt from; says in one line which cannot, or are not as they say.

    `rows` are contexts with their gold answers, `where` is the split that they are of.
    """
    moved: list[int] = []
    lost: list[int] = []
    good = 0
    for number, (context, gold) in enumerate(rows, 1):
        found = [answer.find(context) for answer in gold]
        if gold and not any(found):
            lost.append(number)
            continue
        good += 1
        if any(f and f[0] != a.start for f, a in zip(found, gold, strict=True)):
            moved.append(number)
    said = []
    if lost:
        said.append(
            f"{len(lost)} have no answer that stands in its context (first row {lost[0]}) and "
            f"{'teach nothing' if where == 'train' else 'are scored by its text alone'}"
        )
    if moved:
        said.append(
            f"{len(moved)} have an answer that starts elsewhere than said (first row {moved[0]}): "
            "the nearest place was taken"
        )
    if said:
        log.warning("task %s: of its %s rows, %s", task, where, "; ".join(said))
    return good
