"""Searching a few chains for the one that meets a budget and costs least of the score."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.errors import UserError
from unmask.shrink.chain import Chain, check_room, opened, working_folder, write
from unmask.shrink.steps import Step

log = logging.getLogger("unmask")

_LAYERS, _UNITS = ("75%", "50%", "25%"), ("", "50%")
_TRIED = 3  # of the chains that are small and fast enough, the mildest, are learnt again
_SIZES = {"kb": 1e3, "mb": 1e6, "gb": 1e9}
_PART = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(kb|mb|gb|ms|points?)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """The most bytes, the most milliseconds for a text alone, and the largest drop in points."""

    bytes: float = math.inf
    milliseconds: float = math.inf
    points: float = math.inf  # of a hundred, of each task's headline score; a positive number

    def fits(self, figures: Mapping[str, Any]) -> bool:
        """Whether a form is small and fast enough."""
        return self.beyond({**figures, "scores": []}) <= 0

    def beyond(self, figures: Mapping[str, Any]) -> float:
        """By what share of itself the budget is missed, in all; 0 where it is met."""
        over = [figures["bytes"] / self.bytes - 1]
        if self.milliseconds < math.inf:
            over.append(figures["milliseconds"] / self.milliseconds - 1)
        if self.points < math.inf:
            drops = [-100 * _known(one["difference"]) for one in figures["scores"]]
            over += [(drop - self.points) / max(self.points, 0.1) for drop in drops]
        return sum(max(one, 0.0) for one in over)


def parse(text: str) -> Budget:
    """A budget as `20 MB, 5 ms, -0.5 points`: any of the three, in any order."""
    found: dict[str, float] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise UserError(
                f"--budget: {part.strip()!r} is no limit; write such as `20 MB, 5 ms, -0.5 points`"
            )
        number, unit = float(match[1]), match[2].lower()
        key = "milliseconds" if unit == "ms" else "bytes" if unit in _SIZES else "points"
        if key in found:
            raise UserError(f"--budget: {part.strip()!r} is the second limit of its sort; give one")
        if key == "points" and number > 0:
            raise UserError(
                f"--budget: {part.strip()!r}: how much may be lost, so write -{number:g} points"
            )
        if key != "points" and number <= 0:
            raise UserError(f"--budget: {part.strip()!r}: give more than nothing")
        found[key] = -number if key == "points" else number * _SIZES.get(unit, 1)
    return Budget(**found)


def search(
    source: str,
    out: Path,
    budget: str,
    recipe: Path | None = None,
    texts: Sequence[Path] = (),
    teachers: Sequence[str] = (),
    sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the best chain that meets a budget on the validation rows; plain data, as `shrink`.

    Chains go from mild to harsh: the vocabulary trimmed, then fewer layers and units, recovered.
    The mildest that are small and fast enough are learnt again, and the one whose scores suffer
    least is kept. A UserError that names the nearest where none meets the budget.
    """
    wanted = parse(budget)
    check_room(out)
    begin = opened(source, recipe, texts, teachers, split="valid")
    if wanted.points < math.inf and not begin.held:
        raise UserError("the budget names points, and there are no rows to score: give --recipe")
    with working_folder(out) as folder:
        tried = list(_tried(begin, wanted, sets, Path(folder)))
    chain, steps = min(tried, key=lambda one: _worth(one[0], wanted))
    missed = wanted.beyond(chain.figures[-1])
    if missed > 0:
        raise UserError(
            f"no chain meets the budget {budget!r}; the nearest is {_said(chain, steps)}: allow "
            "more, or give `recover` more to learn with --set"
        )
    log.info("kept: %s", _said(chain, steps))
    more = {"budget": budget, "tried": [_said(*one) for one in tried]}
    return write(chain, source, out, steps, texts, teachers, sets, more)


def _tried(
    begin: Chain, wanted: Budget, sets: Sequence[str], folder: Path
) -> Iterator[tuple[Chain, list[Step]]]:
    """Chains with their steps: all that are measured, learnt again where they are small enough."""
    first = Step("vocabulary")
    begin.take(first, (), folder)
    yield begin.copy(), [first]
    learnt = 0
    for layers in _LAYERS:
        for units in _UNITS:
            chain = begin.copy()
            steps = [first, Step("layers", layers)] + ([Step("units", units)] if units else [])
            for step in steps[1:]:
                chain.take(step, (), folder)
            if learnt < _TRIED and wanted.fits(chain.figures[-1]):
                steps.append(Step("recover"))
                chain.take(steps[-1], sets, folder)
                learnt += 1
            yield chain, steps


def _worth(chain: Chain, wanted: Budget) -> tuple[float, float, int]:
    """What chains are compared by: how far beyond the budget, how much was lost, how large."""
    last = chain.figures[-1]
    lost = -sum(_known(one["difference"]) for one in last["scores"])
    return wanted.beyond(last), lost, last["bytes"]


def _known(difference: float | None) -> float:
    return -1.0 if difference is None else difference


def _said(chain: Chain, steps: Sequence[Step]) -> str:
    last = chain.figures[-1]
    parts = [f"{last['bytes'] / 1e6:.2f} MB"]
    if "milliseconds" in last:
        parts.append(f"{last['milliseconds']:.2f} ms")
    for one in last["scores"]:
        if one["difference"] is not None:
            parts.append(f"{one['task']} {100 * one['difference']:+.2f} points")
    return f"{' '.join(map(str, steps))}: {', '.join(parts)}"
