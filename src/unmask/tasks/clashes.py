"""Labels that look like the same thing under other names in another language."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from unmask.recipe import Column, TaskOptions

log = logging.getLogger("unmask")

_ENOUGH = 3.0  # rows with a label that one would expect, so that to have none is hardly chance


def look_for_clashes(
    name: str,
    options: TaskOptions,
    rows: Sequence[Mapping[str, Any]],
    labels_of: Callable[[Mapping[str, Any]], Collection[str]],
) -> None:
    """Say where the languages of a task's rows have labels that clash, if a column tells them."""
    language = options.tags.get("language")
    if isinstance(language, Column):
        told = ((spoken, labels_of(row)) for row in rows if (spoken := language.of(row)))
        for line in clashes(told):
            log.warning("task %s: %s", name, line)


def clashes(rows: Iterable[tuple[str, Collection[str]]]) -> list[str]:
    """Of rows with their language and labels: those labels that may be the same, a line a clash.

    Two labels may, where no language has both, and both are missed: by their share in the languages
    that have them, some other would have three rows with them. A label that is the language's own
    name is none of these.
    """
    total: Counter[str] = Counter()
    found: dict[str, Counter[str]] = defaultdict(Counter)  # of each label, rows by language
    for language, labels in rows:
        total[language] += 1
        for label in set(labels):
            found[label][language] += 1
    alike: dict[tuple[frozenset[str], frozenset[str]], str] = {}  # the first label of those held
    for label, own in sorted(found.items()):  # and missed by the same languages
        missed = {x for x in total.keys() - own.keys() if _expected(own, total, x) >= _ENOUGH}
        if missed and own.keys() != {label}:
            alike.setdefault((frozenset(own), frozenset(missed)), label)
    said: dict[tuple[str, str], str] = {}
    for ((ours, ours_miss), one), ((theirs, theirs_miss), other) in combinations(alike.items(), 2):
        if not ours & theirs and theirs & ours_miss and ours & theirs_miss:
            who = ", ".join(sorted(ours)), ", ".join(sorted(theirs))
            line = (
                f"the rows in {who[0]} have the label {one!r} and none of them has {other!r}, "
                f"which those in {who[1]} have: if these mean the same, give them one name"
            )
            said.setdefault((min(who), max(who)), line)
    return list(said.values())


def _expected(own: Counter[str], total: Counter[str], language: str) -> float:
    """How many rows of a language would have a label if it were as common as where there is any."""
    return total[language] * own.total() / sum(total[x] for x in own)
