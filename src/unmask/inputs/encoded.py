"""A text as tokens, and where each of them came from."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from tokenizers import Encoding

from unmask.batch import Segment, Sequence


class Origins(Protocol):
    """Where n tokens came from."""

    @property
    def offsets(self) -> np.ndarray: ...  # (n, 2) int64: the characters; (0, 0) if special
    @property
    def sides(self) -> np.ndarray: ...  # (n,) int64: 0 in the text, 1 in its pair, -1 if special
    @property
    def words(self) -> np.ndarray: ...  # (n,) int64: number of its word; -1 if special
    @property
    def tokens(self) -> List[str]: ...  # as the vocabulary writes them


@dataclass(frozen=True)
class Known:
    """Origins that are at hand."""

    offsets: np.ndarray
    sides: np.ndarray
    words: np.ndarray
    tokens: List[str]


@dataclass(frozen=True)
class Found:
    """Origins in what the library found, each worked out when it is asked for.

    Most texts are only answered, and nobody asks. The text of `side` is the piece of one that
    begins at the character `start`.
    """

    encoding: Encoding
    start: int = 0
    side: int = 0

    @cached_property
    def offsets(self) -> np.ndarray:
        own = np.array(self.encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return own + np.where(self.sides == self.side, self.start, 0)[:, None]

    @cached_property
    def sides(self) -> np.ndarray:
        return _numbers(self.encoding.sequence_ids)

    @cached_property
    def words(self) -> np.ndarray:
        return _numbers(self.encoding.word_ids)

    @cached_property
    def tokens(self) -> List[str]:
        return list(self.encoding.tokens)


@dataclass(frozen=True)
class Encoded:
    """A text, or a pair, as the model sees it."""

    ids: np.ndarray  # (n,) int64
    kinds: np.ndarray  # (n,) int64: BERT's token types
    origins: Origins
    dropped: int = 0  # tokens that truncation cut

    @classmethod
    def of(cls, encoding: Encoding, dropped: int = 0, start: int = 0, side: int = 0) -> Encoded:
        """What the library found; the text of this side is a piece that begins at `start`."""
        ids = np.array(encoding.ids, dtype=np.int64)
        kinds = np.array(encoding.type_ids, dtype=np.int64)
        return cls(ids, kinds, Found(encoding, start, side), dropped)

    @property
    def offsets(self) -> np.ndarray:
        """(n, 2) int64: the characters each token came from; (0, 0) if special."""
        return self.origins.offsets

    @property
    def sides(self) -> np.ndarray:
        """(n,) int64: 0 in the text, 1 in its pair, -1 for special tokens."""
        return self.origins.sides

    @property
    def words(self) -> np.ndarray:
        """(n,) int64: number of the word each token belongs to; -1 if special."""
        return self.origins.words

    @property
    def tokens(self) -> List[str]:
        """The tokens as the vocabulary writes them."""
        return self.origins.tokens

    @property
    def special(self) -> np.ndarray:
        """(n,) bool: tokens that stand for no text."""
        return self.sides < 0

    def pick(self, places: np.ndarray, dropped: int) -> Encoded:
        """The tokens at these places."""
        tokens = self.tokens
        origins = Known(
            self.offsets[places],
            self.sides[places],
            self.words[places],
            [tokens[i] for i in places.tolist()],
        )
        return Encoded(self.ids[places], self.kinds[places], origins, dropped)

    def without(self, places: np.ndarray) -> Encoded:
        """All tokens but those at these places, which count as dropped."""
        dropped = self.dropped + len(places)
        return self.pick(np.delete(np.arange(len(self.ids)), places), dropped)

    def joined(self, other: Encoded, side: int = 0) -> Encoded:
        """This text with the next piece of it behind, between the special tokens of one.

        Of a pair it is the second text that goes on (`side` 1); the first stands in both.
        """
        behind = np.flatnonzero(other.sides == side)
        if not len(behind):
            return self
        own = np.flatnonzero(self.sides == side)
        first = int(behind[0])
        so_far = self.words[own].max(initial=-1) + 1
        words = other.words + np.where(other.sides == side, so_far, 0)

        def between(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
            return np.concatenate((outer[:first], inner[own], outer[first:]))

        origins = Known(
            between(other.offsets, self.offsets),
            between(other.sides, self.sides),
            between(words, self.words),
            [*other.tokens[:first], *(self.tokens[i] for i in own.tolist()), *other.tokens[first:]],
        )
        ids, kinds = between(other.ids, self.ids), between(other.kinds, self.kinds)
        return Encoded(ids, kinds, origins, self.dropped + other.dropped)

    def sequence(self) -> Sequence:
        """These tokens as a sequence for the encoder."""
        return Sequence((Segment(self.ids, self.kinds, origin=self),), dropped=self.dropped)


def _numbers(found: List[int | None]) -> np.ndarray:
    return np.array([-1 if one is None else one for one in found], dtype=np.int64)
