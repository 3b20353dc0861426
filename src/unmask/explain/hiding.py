"""Explanations from hiding parts and asking again."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np

from unmask.explain.game import Game
from unmask.explain.result import Found

EXACT = 7  # parts up to which every subset is asked
MOST = 2048  # subsets of a sample at most: long texts have fewer orders


def occlusion(game: Game) -> Found:
    """How much the target falls without each part (Zeiler & Fergus, arXiv:1311.2901)."""
    n = len(game.parts)
    target = game.ask(np.ones((n + 1, n)) - np.eye(n + 1, n, k=-1))[:, 0]  # the first is whole
    return Found(target[0] - target[1:], passes=n + 1)


def shapley(game: Game, orders: int = 16, seed: int = 0) -> Found:
    """Each part's mean contribution when parts are put in one after the other.

    Over all orders of few parts, the Shapley values themselves; else over a sample of orders
    (Štrumbelj & Kononenko, 2010), each with its reverse, which cancels much of the chance (Mitchell
    et al., arXiv:2104.12199). The values of a round add up to the target's change, whatever the
    sample; `spread` is the standard error of each, and None where there are too few orders to tell.
    """
    n = len(game.parts)
    scores, spread = np.zeros(n), np.zeros(n)
    known = True  # how large the standard errors are
    passes, change = 0, 0.0
    rng = np.random.default_rng(seed)
    for own in game.rounds:
        exact = len(own) <= EXACT
        if exact:
            drawn = np.array(list(permutations(range(len(own)))))
        else:
            pairs = max(min(orders, MOST // len(own)) // 2, 1)
            half = [rng.permutation(len(own)) for _ in range(pairs)]
            drawn = np.array([order for one in half for order in (one, one[::-1])])
        gains, asked = _gains(game, own, drawn)  # (orders, n of this round)
        scores[own] = gains.mean(0)
        if not exact:
            each = gains.reshape(-1, 2, len(own)).mean(1)  # an order and its reverse are one draw
            known &= len(each) > 1
            spread[own] = each.std(0, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else 0
        passes += asked
        change += float(gains[0].sum())
    return Found(scores, change=change, spread=spread if known else None, passes=passes)


def _gains(game: Game, own: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, int]:
    """What each part adds in each order, and how many subsets were asked: no subset twice."""
    K, m = orders.shape
    rank = np.argsort(orders, axis=1)  # (K, m): when each part comes
    there = rank[:, None, :] < np.arange(m + 1)[None, :, None]  # (K, m + 1, m)
    subsets, number = np.unique(there.reshape(-1, m), axis=0, return_inverse=True)
    kept = np.ones((len(subsets), len(game.parts)))
    kept[:, own] = subsets
    target = game.ask(kept)[number.reshape(-1), 0].reshape(K, m + 1)
    steps = np.diff(target, axis=1)  # (K, m): in the order that they come
    return np.take_along_axis(steps, rank, axis=1), len(subsets)
