"""How faithful an explanation is to the model: measured, not believed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from unmask.explain.game import Game
from unmask.explain.result import Faithfulness, Hiding
from unmask.model import Model

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # ERASER's
CURVE = 10  # steps of the deletion curve at most
CHANCE = 8  # orders drawn at random


def faithfulness(game: Game, scores: np.ndarray, seed: int = 0) -> Faithfulness:
    """What hiding the parts by their scores, the highest first, does to the value.

    Texts that are compared with one another are hidden one at a time, and the mean is given.
    """
    known: dict[bytes, float] = {}
    rng = np.random.default_rng(seed)
    own, chance = [], []
    for numbers in game.rounds:
        order = numbers[np.argsort(-scores[numbers], kind="stable")]
        orders = [order, *(rng.permutation(numbers) for _ in range(CHANCE))]
        plans = [_plan(len(game.parts), one) for one in orders]
        _learn(game, [kept for plan in plans for kept in plan], known)
        first, *others = [[known[k.tobytes()] for k in plan] for plan in plans]
        own.append(_measured(first, len(order)))
        chance += [_measured(one, len(order)) for one in others]
    curves = [np.array(curve) for _, curve in own]  # (points, 2) each
    shares = min(curves, key=len)[:, 0]  # of texts of two lengths, the shorter one's
    mean = np.mean([np.interp(shares, curve[:, 0], curve[:, 1]) for curve in curves], axis=0)
    return Faithfulness(
        **_mean([one for one, _ in own]).model_dump(),
        deletion=list(zip(shares.tolist(), mean.tolist(), strict=True)),
        chance=_mean([one for one, _ in chance]),
    )


def _counts(n: int) -> list[int]:
    """How many parts are hidden at each share of ERASER's: one at least."""
    return [max(math.ceil(share * n - 1e-9), 1) for share in SHARES]


def _plan(n: int, order: np.ndarray) -> list[np.ndarray]:
    """Which parts are there, (n,) each: without the first few, with them alone, and the curve."""
    m = len(order)

    def without(hidden: np.ndarray) -> np.ndarray:
        kept = np.ones(n, dtype=bool)
        kept[hidden] = False
        return kept

    counts = _counts(m)
    return [
        *(without(order[:k]) for k in counts),
        *(without(order[k:]) for k in counts),
        *(without(order[:k]) for k in _curve(m)),
    ]


def _curve(m: int) -> list[int]:
    return sorted({round(m * i / CURVE) for i in range(CURVE + 1)})


def _learn(game: Game, plans: Sequence[np.ndarray], known: dict[bytes, float]) -> None:
    """Ask for what is not known yet: no subset twice."""
    new = {kept.tobytes(): kept for kept in plans if kept.tobytes() not in known}
    if new:
        values = game.ask(np.stack([*new.values()]))[:, 1]
        known.update(zip(new, values.tolist(), strict=True))


def _measured(values: Sequence[float], m: int) -> tuple[Hiding, list[tuple[float, float]]]:
    n = len(SHARES)
    without, alone, curve = values[:n], values[n : 2 * n], values[2 * n :]
    whole, shares = curve[0], [k / m for k in _curve(m)]
    between = (np.array(curve[1:]) + np.array(curve[:-1])) / 2
    return (
        Hiding(
            comprehensiveness=whole - float(np.mean(without)),
            sufficiency=whole - float(np.mean(alone)),
            top_20=whole - without[SHARES.index(0.2)],
            deletion_area=float(np.diff(shares) @ between),
        ),
        list(zip(shares, curve, strict=True)),
    )


def _mean(found: Sequence[Hiding]) -> Hiding:
    records = [one.model_dump(include=set(Hiding.model_fields)) for one in found]
    return Hiding(**{k: float(np.mean([r[k] for r in records])) for k in Hiding.model_fields})


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's, rounded; None where there are fewer than three, or one does not vary."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]), 4)


def _ranks(x: np.ndarray) -> np.ndarray:
    """The rank of each value (n,), from 1; those that are equal share the mean of theirs."""
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def forgetful(game: Game, seed: int = 0) -> Game:
    """The same question to the same model with its weights drawn anew, as large as they were.

    An explanation that stays what it was does not explain what the model has learnt (Adebayo et
    al., arXiv:1810.03292).
    """
    own = game.model
    task = own.task(game.task.name)
    model = Model(
        copy.deepcopy(own.encoder),
        own.text,
        {task.name: task},
        {task.name: _head(own, task.name)},
        own.pooling,
    )
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.numel() > 1:
                noise = torch.randn(weight.shape, generator=drawn).to(weight.device)
                weight.copy_(weight.mean() + weight.std() * noise)
    return replace(game, model=model.to(own.device))


def _head(own: Model, name: str) -> torch.nn.Module:
    return copy.deepcopy(own.head(name))
