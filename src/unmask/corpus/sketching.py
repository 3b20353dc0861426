"""Second stage: what the documents of a block are told apart by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unmask.corpus.minhash import SIZE, bands, minima, rows_of_a_band, signatures
from unmask.corpus.normalise import Digest
from unmask.corpus.reading import read_block
from unmask.corpus.work import BAND, EXACT, opened, save_array

_AT_ONCE = 1 << 18  # characters whose shingles are hashed at once


def sketch_block(folder: Path, number: int) -> None:
    """Hash the documents of a block: all of each, and its shingles; sorted by hash."""
    work = opened(folder)
    block = work.blocks[number]
    near = work.recipe.near
    last = work.sketch(block.name, "exact" if near is None else "signatures")
    if last.exists():  # it is written last
        return
    texts = read_block(work, block.name).column("text").to_pylist()
    places = np.arange(block.first, block.first + len(texts), dtype=np.uint32)
    exact = np.zeros(len(texts), dtype=EXACT)
    digests = [Digest.of(text, work.recipe.seed) for text in texts]
    exact["high"] = [digest.high for digest in digests]
    exact["low"] = [digest.low for digest in digests]
    exact["document"] = places
    save_array(work.sketch(block.name, "exact"), exact[np.argsort(exact["high"], kind="stable")])
    if near is None:
        return
    rows = rows_of_a_band(near)
    short = np.zeros((len(texts), SIZE), dtype=np.uint8)
    found = np.zeros((len(texts), SIZE // rows), dtype=BAND)
    found["document"] = places[:, None]
    start = 0
    for part in _parts(texts):
        least = minima(part)
        short[start : start + len(part)] = signatures(least)
        found["key"][start : start + len(part)] = bands(least, rows)
        start += len(part)
    records = found.ravel()
    save_array(work.sketch(block.name, "bands"), records[np.argsort(records["key"], kind="stable")])
    save_array(last, short)


def _parts(texts: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= _AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part
