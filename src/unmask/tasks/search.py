"""Exact nearest neighbours, by products of matrices taken block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

_BLOCK = 1 << 24  # scores at a time: 64 MB


def numbered(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, int], dict[str, set[int]]]:
    """Of queries with their documents: numbers for the different documents, and each query's."""
    documents: dict[str, int] = {}
    right: dict[str, set[int]] = {}
    for query, document in pairs:
        number = documents.setdefault(document, len(documents))
        right.setdefault(query, set()).add(number)
    return documents, right


def ranks(
    queries: Tensor, documents: Tensor, own: Tensor, ignored: Sequence[Sequence[int]]
) -> Tensor:
    """The place, from 1, of each query's own document among all but those it ignores: (n,).

    queries (n, D), documents (m, D), own (n,). A document that is as near as the own one stands
    before it, so that vectors that are all the same find nothing.
    """
    found = []
    for start, scores in _blocks(queries, documents, ignored):
        mine = scores.gather(1, own[start : start + len(scores), None])
        found.append(scores.shape[1] - (scores < mine).sum(1))  # a NaN is below nothing: last
    return torch.cat(found)


def nearest(
    queries: Tensor, documents: Tensor, count: int, ignored: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The `count` nearest documents of each query, best first, without those that it ignores."""
    found: list[list[int]] = []
    for _, scores in _blocks(queries, documents, ignored):
        best = scores.topk(min(count, scores.shape[1]), dim=1)
        for values, places in zip(best.values, best.indices, strict=True):
            found.append(places[values > -torch.inf].tolist())
    return found


def _blocks(
    queries: Tensor, documents: Tensor, ignored: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Tensor]]:
    """The number of a block's first query, and its scores (b, m)."""
    size = max(1, _BLOCK // max(1, len(documents)))
    for start in range(0, len(queries), size):
        scores = queries[start : start + size] @ documents.T
        for i, row in enumerate(scores):
            row[list(ignored[start + i])] = -torch.inf
        yield start, scores
