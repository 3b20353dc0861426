"""Vectors of words to vectors of a vocabulary's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from unmask.inputs.text import TextInput
from unmask.inputs.vectors import WordVector

_AT_ONCE = 4096  # words


@dataclass(frozen=True)
class TokenVectors:
    """A vector for each token that any word held; zeros for the others."""

    vectors: np.ndarray  # (V, d) float32
    whole: np.ndarray  # (V,) bool: the token is a word
    known: np.ndarray  # (V,) bool: it is one, or a part of one


class Gathering:
    """The tokens of one vocabulary, as words come by; memory is that of the table.

    A token that is a word gets the word's vector: where several words are one token, as capitals
    in a lowercase vocabulary, their weighted mean. Any other gets the weighted mean of the words
    that it is a part of, as in WECHSEL (Minixhofer et al., arXiv:2112.06598).
    """

    def __init__(self, text: TextInput) -> None:
        self._text = text
        tokenizer = text.tokenizer
        # A vocabulary with the space in its pieces reads a word in two ways.
        both = tokenizer.encode("a").ids != tokenizer.encode(" a").ids
        self._before = ("", " ") if both else ("",)
        self._sums: tuple[np.ndarray, np.ndarray] | None = None  # (2, V, d), (2, V): parts, whole

    def add(self, words: list[WordVector]) -> None:
        """Some more words."""
        V, d = self._text.vocab_size, len(words[0].vector)
        if self._sums is None:
            self._sums = np.zeros((2, V, d), np.float32), np.zeros((2, V))
        sums, weights = self._sums
        vectors = np.stack([one.vector for one in words])
        weight = np.array([one.weight for one in words], np.float32)
        for before in self._before:
            found = self._text.tokenizer.encode_batch_fast(
                [before + one.word for one in words], add_special_tokens=False
            )
            lengths = np.array([len(one.ids) for one in found])
            ids = np.array([i for one in found for i in one.ids], dtype=np.int64)
            owner = np.repeat(np.arange(len(words)), lengths)
            side = (lengths == 1).astype(int)[owner]
            np.add.at(sums, (side, ids), (weight[:, None] * vectors)[owner])
            np.add.at(weights, (side, ids), weight[owner])

    def done(self) -> TokenVectors:
        """What came of them; special tokens have none."""
        V = self._text.vocab_size
        if self._sums is None:
            nothing = np.zeros(V, bool)
            return TokenVectors(np.zeros((V, 1), np.float32), nothing, nothing)
        sums, weights = self._sums
        weights[:, sorted(self._text.special_ids)] = 0
        whole, known = weights[1] > 0, weights.sum(0) > 0
        side = whole.astype(int)
        every = np.arange(V)
        scale = np.where(known, weights[side, every], 1)
        vectors = np.where(known[:, None], sums[side, every], 0) / scale[:, None]
        return TokenVectors(vectors.astype(np.float32), whole, known)


def token_vectors(words: Iterable[WordVector], *texts: TextInput) -> list[TokenVectors]:
    """For each vocabulary, the vectors of its tokens: all in one pass over the words."""
    gatherings = [Gathering(text) for text in texts]
    source = iter(words)
    while some := list(islice(source, _AT_ONCE)):
        for gathering in gatherings:
            gathering.add(some)
    return [gathering.done() for gathering in gatherings]
