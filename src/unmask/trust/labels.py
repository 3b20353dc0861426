"""Rows whose label is probably wrong: confident learning (Northcutt et al., arXiv:1911.00068).

A classifier on vectors that do not learn is fitted to four fifths of the rows and asked of the last
fifth, five times. A label is doubted where another one is at least as likely as it is for the rows
that carry that other label, on average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FOLDS = 5
MANY = 300  # labels: with more, the nearest label's mean takes the place of logistic regression
_SHARP = 20.0  # of the softmax over cosines then


@dataclass(frozen=True)
class Suspect:
    """A row with the label that it has and the one that it seems to have, and how likely each."""

    row: int
    label: str
    instead: str
    own: float
    other: float


def probabilities(
    x: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Out-of-sample probabilities (N, C) for vectors (N, D), labels (N,) 0 to C - 1.

    Rows of one group (N,), such as equal texts, are never on both sides.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    C = int(labels.max()) + 1
    found = np.zeros((len(x), C))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(x, labels, groups):
        seen = np.unique(labels[train])
        if C > MANY or len(seen) < 2:
            means = np.stack([x[train][labels[train] == c].mean(0) for c in seen])
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
            z = _SHARP * x[test] @ means.T
            p = np.exp(z - z.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
        else:
            model = LogisticRegression(C=10, max_iter=100, tol=1e-3).fit(x[train], labels[train])
            p = model.predict_proba(x[test])
        found[np.ix_(test, seen)] = p
    return found


def suspects(p: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[Suspect]:
    """The rows whose label is doubted, the likeliest mistakes first: p (N, C), labels (N,)."""
    C = len(names)
    own = p[np.arange(len(labels)), labels]
    count = np.bincount(labels, minlength=C)
    usual = np.bincount(labels, own, minlength=C) / np.maximum(count, 1)  # (C,)
    usual[count == 0] = np.inf
    confident = np.where(p >= usual, p, -1.0)
    instead = confident.argmax(1)
    doubted = np.flatnonzero((confident.max(1) > 0) & (instead != labels))
    found = [
        Suspect(int(i), names[labels[i]], names[instead[i]], float(own[i]), float(p[i, instead[i]]))
        for i in doubted
    ]
    return sorted(found, key=lambda one: one.own - one.other)


def character_vectors(texts: Sequence[str], advance: Callable[[int], None]) -> np.ndarray:
    """Vectors (N, 256) of length 1 from two to four characters, where there is no trunk."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000
    ).fit_transform(texts)
    width = min(256, *(n - 1 for n in counts.shape))
    x = TruncatedSVD(max(width, 1), random_state=0).fit_transform(counts)
    advance(len(texts))
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
