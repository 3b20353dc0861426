"""Connectionist temporal classification: from a distribution at each position to a text.

Graves et al. (ICML 2006): each position names a unit or a blank; equal units side by side are one,
and blanks go. A text's chance is the sum over all ways to write it so.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLANK = 0  # the class of a position that names nothing; units are numbered from 1


def collapsed(path: np.ndarray) -> list[int]:
    """The units that a path (T,) of classes spells."""
    turns = np.flatnonzero(np.diff(path, prepend=-1))
    return [unit for unit in path[turns].tolist() if unit != BLANK]


def greedy(log_p: np.ndarray) -> tuple[list[int], float]:
    """The units of the likeliest path through (T, C) log-probabilities, and the path's own."""
    return collapsed(log_p.argmax(-1)), float(log_p.max(-1, initial=-np.inf).sum())


def beam_search(log_p: np.ndarray, width: int) -> list[tuple[list[int], float]]:
    """The likeliest texts for (T, C) log-probabilities, best first, `width` kept at each position.

    Prefix beam search (Hannun et al., arXiv:1408.2873): paths that spell the same text are added
    up, apart by whether they end in a blank, since a unit behind a blank is a new one.
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}  # blank, unit
    for now in log_p:  # (C,)
        found: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-np.inf, -np.inf])
        units = np.argsort(-now, kind="stable")[: width + 1].tolist()
        for text, (blank, unit) in beams.items():
            whole = np.logaddexp(blank, unit)
            same = found[text]
            same[0] = np.logaddexp(same[0], whole + now[BLANK])
            if text:
                same[1] = np.logaddexp(same[1], unit + now[text[-1]])
            for c in units:
                if c == BLANK:
                    continue
                # The unit that the text ends in goes on with it, unless a blank stood between.
                before = blank if text and text[-1] == c else whole
                if before == -np.inf:
                    continue
                longer = found[(*text, c)]
                longer[1] = np.logaddexp(longer[1], before + now[c])
        best = sorted(found.items(), key=lambda item: -np.logaddexp(item[1][0], item[1][1]))
        beams = {text: (ends[0], ends[1]) for text, ends in best[:width]}
    return [(list(text), float(np.logaddexp(*ends))) for text, ends in beams.items()]


def positions_needed(units: np.ndarray) -> int:
    """The fewest positions that can spell these units: a blank stands between equal ones."""
    return len(units) + int((np.diff(units) == 0).sum())


def losses(logits: Tensor, lengths: Tensor, units: Tensor, sizes: Tensor) -> Tensor:
    """Minus the log-probability of each text: (S,), infinite where its positions cannot spell it.

    logits (N, C) of all positions, `lengths` (S,) of them to each sequence; `units` (U,) of all
    texts, `sizes` (S,) of them to each.
    """
    return _ctc(logits, lengths, units, sizes, "none", False)


def loss(logits: Tensor, lengths: Tensor, units: Tensor, sizes: Tensor) -> Tensor:
    """The sum of `losses`, to which what cannot be spelt adds 0, and no gradient: ()."""
    return _ctc(logits, lengths, units, sizes, "sum", True)


def _ctc(
    logits: Tensor, lengths: Tensor, units: Tensor, sizes: Tensor, reduction: str, finite: bool
) -> Tensor:
    log_p = logits.float().log_softmax(-1)
    rows = torch.nn.utils.rnn.pad_sequence(list(torch.split(log_p, lengths.tolist())))  # (T, S, C)
    return F.ctc_loss(
        rows, units, lengths, sizes, blank=BLANK, reduction=reduction, zero_infinity=finite
    )
