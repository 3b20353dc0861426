"""Third stage: which documents are the same, or nearly the same, as an earlier one.

Hashes are compared in parts, each a range of their values, as many as keep a part within memory.
Equal hashes fall into one part, so their number changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from unmask.corpus.minhash import SIZE, rows_of_a_band, similarity
from unmask.corpus.work import BAND, EXACT, Work, load_array, opened, save_array

# Bytes that a record of a part may take at its worst: gathered, sorted, and each a pair of
# signatures to compare.
_RECORD = 120
_PAIRS = 1 << 17  # whose signatures are compared at once


def parts(work: Work, memory: int) -> int:
    """Into how many parts the hashes are cut, if each may take so many bytes."""
    documents = sum(block.documents for block in work.blocks)
    near = work.recipe.near
    records = documents * (SIZE // rows_of_a_band(near) if near is not None else 1)
    return max(-(-records * _RECORD // memory), 1)


def match_part(folder: Path, part: int) -> None:
    """Find the documents that one part of the hashes drops."""
    work = opened(folder)
    near = work.recipe.near
    if near is not None and not (path := work.dropped(part, work.parts, "near")).exists():
        save_array(path, _near(work, part, near))
    if not (path := work.dropped(part, work.parts, "exact")).exists():
        save_array(path, _exact(work, part))


def _exact(work: Work, part: int) -> np.ndarray:
    """The documents that are the same as an earlier one, in order."""
    found = _gathered(work, part, "exact", "high", EXACT)
    found = found[np.lexsort((found["document"], found["low"], found["high"]))]
    same = (found["high"][1:] == found["high"][:-1]) & (found["low"][1:] == found["low"][:-1])
    return np.sort(found["document"][1:][same])


def _near(work: Work, part: int, near: float) -> np.ndarray:
    """The documents that are similar to the earliest one with which they share a band."""
    found = _gathered(work, part, "bands", "key", BAND)
    found = found[np.lexsort((found["document"], found["key"]))]
    new = np.ones(len(found), dtype=bool)
    new[1:] = found["key"][1:] != found["key"][:-1]
    starts = np.flatnonzero(new)
    firsts = found["document"][starts]
    sizes = np.diff(starts, append=len(found))
    documents = found["document"][~new]
    earliest = np.repeat(firsts, sizes - 1)  # of each document's band
    del found, new
    order = np.argsort(documents, kind="stable")  # so that their signatures lie side by side
    documents, earliest = documents[order], earliest[order]
    other = documents != earliest  # two bands of one document may have one number
    documents, earliest = documents[other], earliest[other]
    dropped = [np.zeros(0, dtype=np.uint32)]
    for start in range(0, len(documents), _PAIRS):
        ours, theirs = documents[start : start + _PAIRS], earliest[start : start + _PAIRS]
        alike = similarity(_signatures(work, ours), _signatures(work, theirs))
        dropped.append(np.unique(ours[alike >= near]))
    return np.unique(np.concatenate(dropped))


def _gathered(work: Work, part: int, array: str, key: str, kind: np.dtype[np.void]) -> np.ndarray:
    """The records of all blocks whose hashes fall into a part."""
    low, high = ((i << 64) // work.parts for i in (part, part + 1))
    found = [np.zeros(0, dtype=kind)]
    for block in work.blocks:
        records = load_array(work.sketch(block.name, array))
        start, end = (_place(records[key], value) for value in (low, high))
        found.append(np.array(records[start:end]))
    return np.concatenate(found)


def _place(column: np.ndarray, value: int) -> int:
    """Where a value would stand in a sorted column; unlike `searchsorted`, it copies no column."""
    return bisect_left(range(len(column)), value, key=lambda i: int(column[i]))


def _signatures(work: Work, documents: np.ndarray) -> np.ndarray:
    """The signatures of some documents: (n, SIZE)."""
    result = np.empty((len(documents), SIZE), dtype=np.uint8)
    firsts = np.array([block.first for block in work.blocks])
    owners = firsts.searchsorted(documents, side="right") - 1
    for number in np.unique(owners):
        block, own = work.blocks[number], owners == number
        stored = load_array(work.sketch(block.name, "signatures"))
        result[own] = stored[documents[own] - block.first]
    return result


def fates(work: Work, first: int, last: int) -> np.ndarray:
    """What becomes of the documents from `first` to before `last`: 0 kept, 1 exact, 2 near."""
    result = np.zeros(last - first, dtype=np.uint8)
    reasons = ["exact"] if work.recipe.near is None else ["near", "exact"]
    for reason in reasons:  # what is both counts as exact
        for part in range(work.parts):
            path = work.dropped(part, work.parts, reason)
            documents = load_array(path)
            start, end = _place(documents, first), _place(documents, last)
            result[documents[start:end].astype(np.int64) - first] = 1 if reason == "exact" else 2
    return result
