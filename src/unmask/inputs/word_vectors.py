"""Word vectors of one's own texts, counted and factorised: no training, a minute of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from scipy.sparse import coo_array, csr_array

from unmask.inputs.vectors import WordVector
from unmask.inputs.words import words

WIDTH = 100
_WINDOW = 5  # words on each side; one at distance n counts for 1 / n, as in GloVe
_WORDS = 30_000  # the most frequent
_TEXTS = 200_000
_LEAST = 2  # times that a word must occur
_SMOOTHING = 0.75  # of the context's frequency, without which rare contexts look telling
_AT_ONCE = 1 << 20  # words whose neighbours are counted together


def learn_vectors(texts: Callable[[], Iterable[str]], width: int = WIDTH) -> Iterator[WordVector]:
    """Vectors of the frequent words, those near together that stand among the same words.

    The positive pointwise mutual information of a word and its neighbours, by its largest singular
    vectors (Levy et al., Transactions of the ACL 2015). A word counts for as often as it occurs.
    Of the first 200,000 texts; the same texts always give the same vectors on one machine.
    """
    counts = Counter(word for text in islice(texts(), _TEXTS) for word in words(text))
    ranked = sorted(
        ((word, n) for word, n in counts.items() if n >= _LEAST), key=lambda item: (-item[1], item)
    )[:_WORDS]
    if not ranked:
        return iter(())
    number = {word: i for i, (word, _) in enumerate(ranked)}
    vectors = _factors(_telling(_neighbours(islice(texts(), _TEXTS), number)), width)
    return (WordVector(word, vectors[i], float(n)) for i, (word, n) in enumerate(ranked))


def _neighbours(texts: Iterable[str], number: dict[str, int]) -> csr_array:
    """How often words stand near each other, (n, n); rare words take a place and count nothing."""
    n = len(number)
    total = csr_array((n, n), dtype=np.float64)
    row: list[int] = []
    for text in texts:
        row += [number.get(word, -1) for word in words(text)]
        row += [-1] * _WINDOW  # no neighbours across texts
        if len(row) >= _AT_ONCE:
            total, row = total + _pairs(row, n), []
    return total + _pairs(row, n)


def _pairs(row: list[int], n: int) -> csr_array:
    ids = np.array(row, dtype=np.int64)
    total = csr_array((n, n), dtype=np.float64)
    for distance in range(1, _WINDOW + 1):
        left, right = ids[:-distance], ids[distance:]
        both = (left >= 0) & (right >= 0)
        ones = np.full(int(both.sum()), 1 / distance)
        total = total + coo_array((ones, (left[both], right[both])), shape=(n, n)).tocsr()
    return total + total.T


def _telling(pairs: csr_array) -> csr_array:
    """Positive pointwise mutual information: log p(word, context) / (p(word) p(context)), or 0."""
    found = pairs.tocoo()
    word = np.asarray(pairs.sum(1)).ravel()
    context = np.asarray(pairs.sum(0)).ravel() ** _SMOOTHING
    context = context / max(context.sum(), 1e-12)
    rows, columns = found.row, found.col
    value = np.log(found.data / (word[rows] * context[columns]))
    kept = value > 0
    return coo_array((value[kept], (rows[kept], columns[kept])), shape=pairs.shape).tocsr()


def _factors(matrix: csr_array, width: int) -> np.ndarray:
    """The rows of a sparse matrix (n, n) in few dimensions: (n, k), k at most `width`."""
    from sklearn.utils.extmath import randomized_svd

    k = max(1, min(width, matrix.shape[0] - 1))
    u, s, _ = randomized_svd(matrix, k, n_iter=4, random_state=0)
    return np.ascontiguousarray(u * np.sqrt(s), dtype=np.float32)
