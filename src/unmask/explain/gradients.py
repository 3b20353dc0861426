"""Explanations from the gradient of the embeddings."""

from __future__ import annotations

import numpy as np

from unmask.explain.game import Game
from unmask.explain.result import Found

FIRST = 12  # intervals to begin with; doubled until the error is small enough
# Where on the way from the blank models change their mind most; points lie densest there.
CENTRE, WIDTH = 0.35, 0.2


def gradient_input(game: Game) -> Found:
    """The gradient times the embedding, of each position (Shrikumar et al., arXiv:1605.01713)."""
    _, product, _ = game.slopes(np.ones((1, len(game.places)), dtype=np.float32))
    return Found(game.gather(product[0]), tokens=product[0])


def integrated_gradients(game: Game, tolerance: float = 0.01, most: int = 192) -> Found:
    """Integrated gradients on the straight way from the blank (Sundararajan et al., 2017).

    The scores of all positions add up to the target's change along the way (arXiv:1703.01365);
    what is missing of that is the convergence error. The integral is taken by Clenshaw-Curtis
    quadrature, about as good as Gauss's for smooth functions (Trefethen, SIAM Review 2008): its
    points include both ends, so the error costs nothing more, and twice as many points include
    those known already. They are doubled until the error is at most `tolerance` of the change, or
    there are `most` intervals. A change of variable lays them densely where most happens (see
    `way`); it changes how many points are needed, not what they converge to.
    """
    P = len(game.places)
    scores, error, steps, change = np.zeros(P), 0.0, 0, 0.0
    for own in game.rounds:
        moving = np.zeros(P, dtype=bool)
        for i in own:
            moving[list(game.parts[i].places)] = True
        found, (start, end), points = _along(game, moving, tolerance, most)
        scores += found
        change += end - start
        error += abs(end - start - found.sum())
        steps += points
    return Found(game.gather(scores), tokens=scores, change=change, error=error, passes=steps)


def _along(
    game: Game, moving: np.ndarray, tolerance: float, most: int
) -> tuple[np.ndarray, tuple[float, float], int]:
    """Scores (P,) of the positions that move, the target at both ends, and the points used."""
    known: dict[float, np.ndarray] = {}  # at each point of the way
    ends = (0.0, 0.0)
    n = FIRST
    while True:
        points, weights = way(n)
        new = [a for a in points if a not in known]
        there = np.where(moving, np.array(new, dtype=np.float32)[:, None], np.float32(1))
        along, _, said = game.slopes(there)
        if n == FIRST:
            ends = float(said[0, 0]), float(said[-1, 0])
        known.update(zip(new, np.where(moving, along, 0.0), strict=True))
        scores = weights @ np.stack([known[a] for a in points])
        change = ends[1] - ends[0]
        if abs(change - scores.sum()) <= tolerance * abs(change) or 2 * n > most:
            return scores, ends, n + 1
        n *= 2


def way(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n + 1,) from 0 to 1 and their weights, dense about `CENTRE`.

    A tangent maps the points of Clenshaw and Curtis (Bayliss & Turkel, J. Comput. Phys. 1992).
    """
    u = (1 - np.cos(np.pi * np.arange(n + 1) / n)) / 2
    low, high = np.arctan(CENTRE / WIDTH), np.arctan((1 - CENTRE) / WIDTH)
    turn = (low + high) * u - low
    points = CENTRE + WIDTH * np.tan(turn)
    points[0], points[-1] = 0.0, 1.0
    return points, clenshaw_curtis(n) * WIDTH * (low + high) / np.cos(turn) ** 2


def clenshaw_curtis(n: int) -> np.ndarray:
    """The weights (n + 1,) of the points (1 - cos(pi j / n)) / 2, for an even n, on [0, 1]."""
    j, k = np.arange(n + 1), np.arange(1, n // 2 + 1)
    b = np.where(k == n // 2, 1.0, 2.0)
    inner = (b / (4 * k**2 - 1) * np.cos(2 * np.pi * np.outer(j, k) / n)).sum(1)
    c = np.where((j == 0) | (j == n), 1.0, 2.0)
    return c / (2 * n) * (1 - inner)
