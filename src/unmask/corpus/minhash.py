"""MinHash (Broder, 1997) with b-bit signatures (Li & König, arXiv:0910.3349), on NumPy.

Texts are sets of five neighbouring characters, so that languages without spaces are served too.
Two texts agree in each place of their signatures with the chance of their Jaccard similarity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmask.data.duplicates import fold

SIZE = 96  # hashes a signature, of which 8 bits are kept
_WIDTH = 5  # characters of a shingle
_RECALL = 0.95  # of the pairs that are just similar enough, this share must be found
_BLOCK = 1 << 15  # shingles at once, so that they stay in the cache

_dice = np.random.Generator(np.random.Philox(20))
_POWERS = _dice.integers(0, 1 << 31, _WIDTH, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_FACTORS = _dice.integers(0, 1 << 31, SIZE, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_SHIFTS = _dice.integers(0, 1 << 32, SIZE, dtype=np.uint32)
_MIXERS = _dice.integers(0, 1 << 63, SIZE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def rows_of_a_band(near: float) -> int:
    """How many hashes must agree for a pair to be looked at: as many as keep `_RECALL`."""
    fitting = [
        r for r in range(1, SIZE + 1)
        if SIZE % r == 0 and 1 - (1 - near**r) ** (SIZE // r) >= _RECALL
    ]  # fmt: skip
    return max(fitting)


def minima(texts: Sequence[str]) -> np.ndarray:
    """The least value of each hash over each text's shingles: (n, SIZE) uint32.

    Case, Unicode's compatibility forms and the kind of white space make no difference. A text
    shorter than a shingle is filled up.
    """
    if not texts:
        return np.zeros((0, SIZE), dtype=np.uint32)
    folded = [fold(text).ljust(_WIDTH, "\0") for text in texts]
    lengths = np.array([len(text) for text in folded])
    codes = np.frombuffer("".join(folded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    n = len(codes) - _WIDTH + 1
    hashes = np.zeros(n, dtype=np.uint32)
    for j in range(_WIDTH):
        hashes += codes[j : j + n] * _POWERS[j]
    hashes = _mixed(hashes)
    inside = np.ones(len(codes), dtype=bool)  # shingles that do not reach into the next text
    ends = lengths.cumsum()
    for j in range(1, _WIDTH):
        inside[ends - j] = False
    hashes = hashes[inside[:n]]
    starts = np.concatenate(([0], (lengths - _WIDTH + 1).cumsum()))
    result = np.full((len(texts), SIZE), np.iinfo(np.uint32).max, dtype=np.uint32)
    first = 0
    while first < len(texts):  # whole texts, and a long one in parts
        last = max(int(starts.searchsorted(starts[first] + _BLOCK, side="right")) - 1, first + 1)
        begins = starts[first:last] - starts[first]
        for at in range(int(starts[first]), int(starts[last]), _BLOCK):
            part = hashes[at : min(at + _BLOCK, int(starts[last]))]
            for p in range(SIZE):
                values = part * _FACTORS[p] + _SHIFTS[p]
                least = np.minimum.reduceat(values, begins)
                np.minimum(result[first:last, p], least, out=result[first:last, p])
        first = last
    return result


def signatures(least: np.ndarray) -> np.ndarray:
    """The low 8 bits of each minimum: (n, SIZE) uint8."""
    return least.astype(np.uint8)


def bands(least: np.ndarray, rows: int) -> np.ndarray:
    """A number for each band of `rows` minima, equal for equal ones: (n, SIZE / rows) uint64."""
    numbers = least.astype(np.uint64) * _MIXERS
    numbers ^= numbers >> np.uint64(29)
    whole = numbers.reshape(len(least), SIZE // rows, rows).sum(-1, dtype=np.uint64)
    whole += np.arange(SIZE // rows, dtype=np.uint64) * _MIXERS[0]
    whole ^= whole >> np.uint64(32)
    return np.asarray(whole * _MIXERS[1])


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The estimated Jaccard similarity of pairs of signatures (n, SIZE): (n,), without bias."""
    chance = 1 / 256  # that other minima have the same 8 bits
    return np.asarray(((a == b).mean(-1) - chance) / (1 - chance))


def _mixed(x: np.ndarray) -> np.ndarray:
    """MurmurHash3's last step: every bit comes to depend on every other."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
