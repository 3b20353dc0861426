"""What changes over a run: the learning rate, the size of an update, and the length of texts."""

from __future__ import annotations

import math

from unmask.recipe import TrainOptions

_FIRST = 1 / 8  # of the batch or the length that a warm-up ends at
_SHORTEST = 16  # tokens; shorter windows teach little but their own edges


def rate_at(progress: float, options: TrainOptions) -> float:
    """The learning rate at this share of the run, as a share of its peak.

    `wsd` is warm-up, stable, decay (Hu et al., arXiv:2404.06395), its end shaped 1 - sqrt
    (Hägele et al., arXiv:2405.18392).
    """
    if progress < options.warmup:
        return progress / options.warmup
    left = 1 - options.decay if options.schedule == "wsd" else options.warmup
    falling = min(max(progress - left, 0.0) / max(1 - left, 1e-9), 1.0)  # 0 to 1
    if options.schedule == "linear":
        return 1 - falling
    if options.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * falling))
    if options.schedule == "wsd":
        return 1 - math.sqrt(falling)
    return 1.0


def batch_tokens_at(progress: float, options: TrainOptions) -> int:
    """Tokens of an update at this share of the run: small while the gradient is still simple.

    Batch-size warm-up after Brown et al. (arXiv:2005.14165).
    """
    return max(round(options.batch_tokens * _grown(progress, options.batch_warmup)), 1)


def longest_at(progress: float, longest: int, options: TrainOptions) -> int | None:
    """Tokens of a text's window at this share of the run, or None once all of it is read.

    Sequence-length warm-up after Li et al. (arXiv:2108.06084).
    """
    if progress >= options.length_warmup:
        return None
    return min(max(round(longest * _grown(progress, options.length_warmup)), _SHORTEST), longest)


def _grown(progress: float, warmup: float) -> float:
    return 1.0 if progress >= warmup else _FIRST + (1 - _FIRST) * progress / warmup
