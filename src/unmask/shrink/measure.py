"""What a form of a model takes and gives: bytes, speed and scores, beside the original's."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.evaluation.bootstrap import paired
from unmask.evaluation.pairs import Held, Scored, scored
from unmask.model import Model

_ROUNDS, _ALONE, _SECONDS = 3, 16, 10.0  # at most so many rounds, single texts, and time


def size(model: Model, half: bool = False, forms: Path | None = None) -> int:
    """Bytes of the weights, perhaps in bf16, of the tokenizer, and of a folder of forms."""
    weights = sum(t.numel() * (2 if half else 4) for t in model.state_dict().values())
    compiled = forms.rglob("*") if forms else ()
    beside = sum(file.stat().st_size for file in compiled if file.is_file())
    return weights + len(model.text.tokenizer.to_str(pretty=True).encode()) + beside


def speeds(models: Sequence[Model], texts: Sequence[str]) -> list[dict[str, float]]:
    """Of each model texts a second, and the milliseconds of one text alone: medians, taken in turn.

    Vectors of texts are made, so that models whose tasks differ can be compared.
    """
    rates: list[list[float]] = [[] for _ in models]
    alone: list[list[float]] = [[] for _ in models]
    for model in models:
        _vectors(model, texts[:2])  # what is only done once is done
    begun = time.perf_counter()
    for number in range(_ROUNDS):
        for model, rate, single in zip(models, rates, alone, strict=True):
            start = time.perf_counter()
            _vectors(model, texts)
            rate.append(len(texts) / (time.perf_counter() - start))
            for text in texts[number::_ROUNDS][:_ALONE]:
                start = time.perf_counter()
                _vectors(model, [text])
                single.append(1000 * (time.perf_counter() - start))
        if time.perf_counter() - begun > _SECONDS:
            break
    return [
        {"texts_per_second": statistics.median(rate), "milliseconds": statistics.median(single)}
        for rate, single in zip(rates, alone, strict=True)
    ]


def _vectors(model: Model, texts: Sequence[str]) -> None:
    """What `Model.encode` does, without a warning for each text that is cut."""
    model.vectors(model.pooled_example(text) for text in texts)


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
