"""What a form of a model takes and gives: bytes, speed and scores, beside the original's."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.evaluation.bootstrap import paired
from unmask.evaluation.pairs import Held, Scored, scored
from unmask.jobs import unseen
from unmask.model import Model

Work = Callable[[Sequence[Any]], object]

_ROUNDS, _ALONE = 5, 16  # and single texts of each round


def size(model: Model, half: bool = False, forms: Path | None = None) -> int:
    """Bytes of the weights, perhaps in bf16, of the tokenizer, and of a folder of forms."""
    weights = sum(t.numel() * (2 if half else 4) for t in model.state_dict().values())
    compiled = forms.rglob("*") if forms else ()
    beside = sum(file.stat().st_size for file in compiled if file.is_file())
    return weights + len(model.text.tokenizer.to_str(pretty=True).encode()) + beside


def speed(
    ours: Work, theirs: Work, items: Sequence[Any], rounds: int = _ROUNDS
) -> dict[str, float]:
    """Items a second, the milliseconds of one item alone, and how many times their rate.

    The two take turns, so that a busy moment hits both; medians count. A round before them, which
    compiles kernels, does not.
    """
    rates: list[float] = []
    ratios: list[float] = []
    alone: list[float] = []
    for one in (ours, theirs):
        _seconds(one, items)  # what is only done once is done
    for number in range(rounds):
        own, other = _seconds(ours, items), _seconds(theirs, items)
        rates.append(len(items) / own)
        ratios.append(other / own)
        alone += [1000 * _seconds(ours, [item]) for item in items[number::rounds][:_ALONE]]
    return {
        "texts_per_second": statistics.median(rates),
        "faster": statistics.median(ratios),
        "milliseconds": statistics.median(alone),
    }


def vectors(model: Model) -> Work:
    """Makes vectors of texts, so that models whose tasks differ can be compared.

    As `Model.encode` does, without its warnings of each text that is cut.
    """
    return lambda texts: model.vectors(model.pooled_example(text) for text in texts)


def answers(model: Model, name: str) -> Work:
    """Answers rows by a task."""
    task = model.task(name)
    return lambda rows: list(model.answers_to((task, unseen(task, row, 0)) for row in rows))


def _seconds(work: Work, items: Sequence[Any]) -> float:
    start = time.perf_counter()
    work(items)
    return time.perf_counter() - start


def scores(model: Model, held: Mapping[str, Held]) -> dict[str, Scored]:
    """The headline score of each task on its rows, with samples of them."""
    return {name: scored(model, name, own) for name, own in held.items()}


def changes(
    model: Model,
    held: Mapping[str, Held],
    ours: Mapping[str, Scored],
    theirs: Mapping[str, Scored],
) -> list[dict[str, Any]]:
    """For each task the score, and how far it is from the original's: plain data.

    The interval of the difference is that of a paired bootstrap: the same rows are drawn for both.
    """
    found: list[dict[str, Any]] = []
    for name, own in held.items():
        value, before = ours[name].value, theirs[name].value
        known = math.isfinite(value) and math.isfinite(before)
        chance = paired(np.stack([ours[name].samples - theirs[name].samples])) if known else None
        low, high = chance[:2] if chance else (None, None)
        found.append(
            {
                "task": name,
                "metric": model.task(name).headline,
                "split": own.split,
                "rows": len(own.rows),
                "value": value if known else None,
                "difference": value - before if known else None,
                "low": low,
                "high": high,
            }
        )
    return found
