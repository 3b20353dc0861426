"""Which tokens of a text to hide, for the kinds of task that guess hidden tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.recipe import TaskOptions
from unmask.tasks.base import Draw

Share = Annotated[float, Field(gt=0, lt=1)]

# SpanBERT's lengths (Joshi et al., arXiv:1907.10529): geometric, none above ten words.
_LENGTHS = np.arange(1, 11)
_ODDS = 0.2 * 0.8 ** (_LENGTHS - 1)
_ODDS /= _ODDS.sum()

# The Chinese characters that BERT's tokenizer makes words of their own.
_HAN = re.compile("[\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U0003ffff]")


class MaskingOptions(TaskOptions):
    """How much of a text is hidden, and in what units."""

    rate: Share | tuple[Share, Share] = Field(
        0.3,
        description="share of tokens to guess (0.15 in BERT; see arXiv:2202.08005); [start, end] "
        "moves from one to the other over the run",
    )
    masking: Literal["token", "word", "span"] = Field(
        "token",
        description="hide single tokens, whole words, or spans of words; for Chinese, words and "
        "spans need the extra `zh`",
    )

    @field_validator("rate", mode="before")
    @classmethod
    def _between(cls, rate: Any) -> Any:
        ends = rate if isinstance(rate, list | tuple) else (rate, rate)
        if len(ends) != 2 or not all(isinstance(x, int | float) and 0 < x < 1 for x in ends):
            raise ValueError(f"a share between 0 and 1, or two, [start, end]; not {rate!r}")
        return rate

    def rate_at(self, progress: float) -> float:
        """The rate when this share of the run, from 0 to 1, is over."""
        if isinstance(self.rate, float):
            return self.rate
        start, end = self.rate
        return start + (end - start) * progress


def choose(
    encoded: Encoded, texts: Sequence[str], options: MaskingOptions, draw: Draw
) -> np.ndarray:
    """The places (n,) of the tokens to hide, in order; never special ones.

    `texts` are what was encoded: one, or a pair; none where only the tokens are known. The budget
    is `round(rate * free tokens)`, at least 1. `token` hides exactly that many. `word` and `span`
    come to it from below, as BERT's whole-word masking does: what would exceed it is passed over
    (of a span, what exceeds it is left out), until nothing that is left fits. Where no word fits
    the budget, a shortest one is hidden.
    """
    free = np.flatnonzero(~encoded.special)
    budget = max(1, round(options.rate_at(draw.progress) * len(free)))
    if options.masking == "token":
        return np.sort(draw.rng.choice(free, budget, replace=False))
    if not texts and _HAN.search("".join(encoded.tokens)):
        raise UserError(
            f"`masking: {options.masking}` tells the words of Chinese apart by its text, and a "
            "corpus holds tokens: set `masking: token`, or train from the texts themselves"
        )
    word = words(encoded, texts)[free]  # (free,)
    side = encoded.sides[free][np.unique(word, return_index=True)[1]]  # (words,)
    hidden = _words_to_hide(np.bincount(word), side, budget, options.masking == "span", draw.rng)
    return free[hidden[word]]


def _words_to_hide(
    sizes: np.ndarray, side: np.ndarray, budget: int, spans: bool, rng: np.random.Generator
) -> np.ndarray:
    """Which words (words,) bool: each, in an order of chance, begins a span if it still fits."""
    hidden = np.zeros(len(sizes), dtype=bool)
    order = rng.permutation(len(sizes))
    lengths = rng.choice(_LENGTHS, len(sizes), p=_ODDS) if spans else np.ones(len(sizes), int)
    left = budget
    for first, length in zip(order.tolist(), lengths.tolist(), strict=True):
        for word in range(first, min(first + length, len(sizes))):
            if hidden[word] or sizes[word] > left or side[word] != side[first]:
                break
            hidden[word] = True
            left -= sizes[word]
        if not left:
            break
    if not hidden.any():
        hidden[order[sizes[order].argmin()]] = True
    return hidden


def words(encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
    """The number of the word of each token (n,), from 0 without gaps; -1 for special tokens.

    The tokenizer's words, but a token with Chinese characters belongs to the word that the
    segmenter finds around the first of them.
    """
    number, chinese = encoded.words.copy(), np.zeros(len(encoded.ids), dtype=bool)
    for side, text in enumerate(texts):
        own = np.flatnonzero(encoded.sides == side)
        if not len(own):
            continue
        begin, end = encoded.offsets[own].T
        start = int(begin.min())
        shown = text[start : int(end.max())]
        han = start + np.array([found.start() for found in _HAN.finditer(shown)], dtype=np.int64)
        if not len(han):
            continue
        starts = start + np.array([first for _, first, _ in _segmenter().tokenize(shown)])
        nearest = np.searchsorted(han, begin)  # the first Chinese character from there on
        place = han[np.minimum(nearest, len(han) - 1)]
        holds = (begin <= place) & (place < end)
        chinese[own] = holds
        number[own[holds]] = np.searchsorted(starts, place[holds], side="right")
    free = np.flatnonzero(~encoded.special)
    keys = np.stack((encoded.sides, chinese, number))[:, free]  # (3, free)
    new = (keys[:, 1:] != keys[:, :-1]).any(0)
    result = np.full(len(encoded.ids), -1)
    result[free[:1]] = 0
    result[free[1:]] = new.cumsum()
    return result


@cache
def _segmenter() -> Any:
    try:
        import rjieba
    except ImportError:
        raise UserError(
            "`masking: word` and `masking: span` need to tell the words of Chinese text apart; "
            "pip install 'unmask[zh]', or set `masking: token`"
        ) from None
    return rjieba.Jieba()
