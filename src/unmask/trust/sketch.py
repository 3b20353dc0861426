"""What a set of texts is like, in a few thousand numbers that can be added up and compared.

A sketch holds sums over rows and nothing of any one row, so two of them add up to that of both, and
a server can keep one of its traffic beside that of what a model was trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

BUCKETS = 4096  # of words, by a hash
LENGTHS = 40  # bins, two to each doubling of the characters
FREQUENCIES = 128  # of the random features, each with a sine and a cosine
WIDTH = 1.0  # of the kernel, where unit vectors are 0 to 2 apart
_WORD = re.compile(r"[㐀-䶿一-鿿぀-ヿ]|[^\W_]+")  # of scripts without spaces each character


def words(text: str) -> list[str]:
    """A text's words in small letters; of Chinese and Japanese its characters."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Parts:
    """What each of N rows adds to a sketch."""

    lengths: np.ndarray  # (N,) int, a bin
    words: Any  # (N, BUCKETS), a sparse array of SciPy
    labels: list[str] | None  # N of them
    features: np.ndarray | None  # (N, 2 * FREQUENCIES)

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Sketch:
    """Sums over rows."""

    rows: int
    lengths: np.ndarray  # (LENGTHS,)
    words: np.ndarray  # (BUCKETS,)
    labels: Counter[str] | None = None
    features: np.ndarray | None = None  # (2 * FREQUENCIES,)

    def __add__(self, other: Sketch) -> Sketch:
        labels = features = None
        if self.labels is not None and other.labels is not None:
            labels = self.labels + other.labels
        if self.features is not None and other.features is not None:
            features = self.features + other.features
        lengths, words = self.lengths + other.lengths, self.words + other.words
        return Sketch(self.rows + other.rows, lengths, words, labels, features)

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "rows": self.rows,
            "lengths": self.lengths.tolist(),
            "words": self.words.tolist(),
            "labels": None if self.labels is None else dict(self.labels),
            "features": None if self.features is None else self.features.tolist(),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Sketch:
        """What `record` gave."""
        labels, features = record["labels"], record["features"]
        return cls(
            int(record["rows"]),
            np.array(record["lengths"], dtype=float),
            np.array(record["words"], dtype=float),
            None if labels is None else Counter(labels),
            None if features is None else np.array(features, dtype=float),
        )


def parts(
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    vectors: np.ndarray | None = None,
) -> Parts:
    """What each text adds, with its label and its vector (N, D) of length 1 where there are any."""
    from scipy.sparse import csr_array

    lengths = [min(int(2 * np.log2(max(len(text), 1))), LENGTHS - 1) for text in texts]
    counts = [Counter(crc32(word.encode()) % BUCKETS for word in words(text)) for text in texts]
    ends = np.cumsum([0, *map(len, counts)])
    places = np.array([place for own in counts for place in own], dtype=np.int64)
    values = np.array([n for own in counts for n in own.values()], dtype=float)
    sparse = csr_array((values, places, ends), shape=(len(texts), BUCKETS))
    features = None if vectors is None else random_features(vectors)
    return Parts(np.array(lengths), sparse, None if labels is None else list(labels), features)


def random_features(vectors: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, 2 F), whose inner products are about a Gaussian kernel (Rahimi & Recht, 2007).

    Always the same for one width of vectors; each has length 1.
    """
    rng = np.random.default_rng(0)
    angles = vectors @ (rng.normal(size=(vectors.shape[1], FREQUENCIES)) / WIDTH)
    return np.concatenate((np.cos(angles), np.sin(angles)), 1) / np.sqrt(FREQUENCIES)


def add_up(own: Parts, which: np.ndarray | None = None) -> Sketch:
    """The sketch of all rows, or of those at these places."""
    places = np.arange(len(own)) if which is None else which
    weights = np.bincount(places, minlength=len(own)).astype(float)
    return Sketch(
        len(places),
        np.bincount(own.lengths, weights, minlength=LENGTHS),
        np.asarray(weights @ own.words),
        None if own.labels is None else Counter(own.labels[i] for i in places),
        None if own.features is None else weights @ own.features,
    )


def together(a: Parts, b: Parts) -> Parts:
    """The rows of both, one behind the other."""
    from scipy.sparse import vstack

    labels = features = None
    if a.labels is not None and b.labels is not None:
        labels = a.labels + b.labels
    if a.features is not None and b.features is not None:
        features = np.concatenate((a.features, b.features))
    lengths = np.concatenate((a.lengths, b.lengths))
    return Parts(lengths, vstack((a.words, b.words)).tocsr(), labels, features)


def distances(a: Sketch, b: Sketch) -> dict[str, float]:
    """How far two sets are apart in each respect, 0 where they are alike.

    `lengths`, `vocabulary` and `labels` are Jensen–Shannon divergences in bits, at most 1;
    `vectors` is the maximum mean discrepancy (Gretton et al., 2012), squared and without bias.
    """
    found = {
        "lengths": divergence(a.lengths, b.lengths),
        "vocabulary": divergence(a.words, b.words),
    }
    if a.labels is not None and b.labels is not None:
        names = sorted({*a.labels, *b.labels})
        each = (
            np.array([own[name] for name in names], dtype=float) for own in (a.labels, b.labels)
        )
        found["labels"] = divergence(*each)
    if a.features is not None and b.features is not None and min(a.rows, b.rows) > 1:
        x, y = a.features / a.rows, b.features / b.rows
        chance = sum((1 - m @ m) / (n - 1) for m, n in ((x, a.rows), (y, b.rows)))
        found["vectors"] = float((x - y) @ (x - y) - chance)
    return found


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    """The Jensen–Shannon divergence of two histograms (K,) in bits: 0 alike, 1 nothing shared."""
    if not a.sum() or not b.sum():
        return 0.0
    p, q = a / a.sum(), b / b.sum()
    m = (p + q) / 2

    def to_middle(x: np.ndarray) -> float:
        there = x > 0
        return float((x[there] * np.log2(x[there] / m[there])).sum())

    return max((to_middle(p) + to_middle(q)) / 2, 0.0)
