"""Promises of answers that are one of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unmask.tasks.calibration import calibrated, fit_vector
from unmask.tasks.promises import (
    Promise,
    bound,
    label_set,
    ladder,
    limit_for,
    stairs,
    surprise_of,
)


def label_promises(logits: np.ndarray, truth: np.ndarray, vector: bool) -> dict[str, Any]:
    """How unexpected truths (n,) were by logits (n, C), and how many of the surest answers wrong.

    Both by the logits that the weights give. With `vector` the calibration changes answers too, so
    those of one half of the rows are judged as fitted to the other half.
    """
    surprise, places = surprise_of(logits), np.arange(len(truth))
    chosen = logits.argmax(1)
    if vector:
        for half in (places % 2 == 0, places % 2 == 1):
            if half.any() and not half.all():
                found = fit_vector(logits[~half], truth[~half])
                chosen[half] = calibrated(torch.from_numpy(logits[half]), found).argmax(1)
    return {
        "rows": len(truth),
        "coverage": ladder(surprise[places, truth]),
        "risk": stairs(surprise.min(1), chosen != truth),
    }


def hedges(
    logits: Sequence[Sequence[float]],
    labels: Sequence[str],
    record: Mapping[str, Any],
    asked: Mapping[str, float],
) -> list[Promise]:
    """The promise of each answer, by what `label_promises` found."""
    n, coverage, risk = record["rows"], asked.get("coverage"), asked.get("risk")
    limit = None if coverage is None else bound(record["coverage"], n, coverage)
    most = None if risk is None else limit_for(record["risk"], risk)
    found = []
    for z in logits:
        surprise = surprise_of(z)
        own = None if limit is None else tuple(labels[i] for i in label_set(surprise, limit))
        unsure = None if most is None else bool(surprise.min() > most)
        found.append(Promise(n, coverage, own, risk=risk, abstains=unsure))
    return found
