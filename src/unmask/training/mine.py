"""Hard negatives: the documents that a model takes for an answer, and that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unmask.model import Model
from unmask.tasks.search import nearest, numbered

NEGATIVES = "negatives"  # the column that they are written to


def mine(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    count: int,
    skip: int,
    progress: Callable[[int], None] | None = None,
) -> list[list[str]]:
    """For each query with its document, the nearest other documents, nearest first.

    What belongs to the same query is left out, and so are the `skip` nearest of the rest, among
    which are often answers that nobody has marked (arXiv:2010.08191). Up to `count` are given.
    """
    numbers, right = numbered(pairs)
    queries, documents = list(right), list(numbers)
    found = nearest(
        model.encode(queries, progress),
        model.encode(documents, progress),
        skip + count,
        [sorted(right[query]) for query in queries],
    )
    mined = {
        query: [documents[i] for i in own[skip:]] for query, own in zip(queries, found, strict=True)
    }
    return [mined[query] for query, _ in pairs]
