"""Word vectors from files of word2vec (text and binary) and GloVe, one at a time.

Nothing is held but the line at hand: a file may be larger than memory.
"""

from __future__ import annotations

import codecs
import gzip
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from unmask import progress
from unmask.errors import UserError

_WIDEST = 10_000  # numbers to a word, and bytes of a word: a broken header could ask for any
_LARGEST = 1e18  # number: of larger ones a sum may not be finite
_HEADER = re.compile(rb"\s*(\d+)[ \t]+(\d+)\s*")


class WordVector(NamedTuple):
    """A word, its vector (d,) in float32, and how much it counts among others."""

    word: str
    vector: np.ndarray
    weight: float


def read_vectors(path: Path) -> Iterator[WordVector]:
    """The words of a file, in its order.

    word2vec's binary files end in `.bin`; any other is text, with word2vec's header (how many
    words, and how wide) or without one, as GloVe writes it. `.gz` may follow. Such files begin with
    the most frequent word, and the n-th counts for 1 / n (Zipf's law).

    A UserError names the line, or in a binary file the word, with which something is wrong: rows of
    uneven width, what is no finite number, no UTF-8, and fewer or more words than the header says.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of word vectors")
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    binary = Path(path.stem if path.suffix == ".gz" else path).suffix == ".bin"
    try:
        with opener(path, "rb") as file:
            yield from (_binary if binary else _text)(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} could not be read: {error}; fetch it again") from None


def _text(file: BinaryIO, path: Path) -> Iterator[WordVector]:
    first = file.readline().removeprefix(codecs.BOM_UTF8)
    header = _HEADER.fullmatch(first)
    if header:
        promised, width = _size(header, path)
        lines, start = iter(file), 2
    else:
        promised, width = None, len(first.split()) - 1
        lines, start = _with(first, file), 1
    if width < 1:
        raise UserError(f"{path}, line 1: no word with a vector behind it; is it such a file?")
    count = 0
    with _bar(path) as advance:
        for number, line in enumerate(lines, start):
            advance(len(line))
            if not line.strip():
                raise UserError(f"{path}, line {number} is empty; fetch the file again")
            count += 1
            word, vector = _row(line, width, f"{path}, line {number}")
            yield WordVector(word, vector, 1 / count)
    if promised is not None and promised != count:
        raise UserError(
            f"{path}: its first line promises {promised} words, and there are {count}; "
            "fetch the file again"
        )


def _row(line: bytes, width: int, where: str) -> tuple[str, np.ndarray]:
    try:
        # From the right: GloVe has words with spaces in them.
        parts = line.decode().replace("\t", " ").rstrip().rsplit(" ", width)
    except UnicodeDecodeError:
        raise UserError(f"{where} is not UTF-8; save the file as UTF-8") from None
    found = len(line.split()) - 1
    if len(parts) <= width or (_is_number(parts[0].rpartition(" ")[2]) and found > width):
        raise UserError(f"{where}: {found} numbers, where the lines before have {width}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy takes what is no number
        try:
            vector = np.fromstring(" ".join(parts[1:]), np.float32, sep=" ")
        except (DeprecationWarning, ValueError):
            vector = np.zeros(0, np.float32)
    if len(vector) != width:
        raise UserError(f"{where}: what stands behind {parts[0]!r} is not {width} numbers")
    return _word(parts[0], where), _finite(vector, where)


def _binary(file: BinaryIO, path: Path) -> Iterator[WordVector]:
    header = _HEADER.fullmatch(file.readline(64))
    if not header:
        raise UserError(
            f"{path}: a .bin file begins with the number of its words and their width; "
            "if it is text, name it .txt"
        )
    promised, width = _size(header, path)
    with _bar(path) as advance:
        for number in range(1, promised + 1):
            where = f"{path}, word {number}"
            raw = _until_space(file, where)
            values = file.read(4 * width)
            if len(values) < 4 * width:
                raise UserError(f"{where} of {promised}: the file ends here; fetch it again")
            advance(len(raw) + 1 + len(values))
            try:
                word = raw.decode()
            except UnicodeDecodeError:
                raise UserError(f"{where} is not UTF-8; is the header right?") from None
            vector = np.frombuffer(values, "<f4").astype(np.float32)
            yield WordVector(_word(word, where), _finite(vector, where), 1 / number)
    if file.read(64).strip():
        raise UserError(f"{path}: its header promises {promised} words, and there are more")


def _until_space(file: BinaryIO, where: str) -> bytes:
    """A word, less the line break that some writers put behind the vector before it."""
    found = bytearray()
    while len(found) < _WIDEST:
        byte = file.read(1)
        if byte == b" ":
            return bytes(found).lstrip(b"\n")
        if not byte:
            break
        found += byte
    raise UserError(f"{where}: no word ends here; the file is cut short or its header wrong")


def _size(header: re.Match[bytes], path: Path) -> tuple[int, int]:
    count, width = int(header[1]), int(header[2])
    if not 0 < width <= _WIDEST or not count:
        raise UserError(f"{path}, line 1: {count} words, {width} wide, cannot be; fetch it again")
    return count, width


def _word(word: str, where: str) -> str:
    if not word:
        raise UserError(f"{where}: a vector without a word before it")
    return word


def _finite(vector: np.ndarray, where: str) -> np.ndarray:
    if not np.abs(vector).max() < _LARGEST:  # as with NaN
        raise UserError(
            f"{where}: its vector holds numbers that are not finite, or too large; fetch it again"
        )
    return vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with(first: bytes, rest: BinaryIO) -> Iterator[bytes]:
    yield first
    yield from rest


def _bar(path: Path) -> Any:
    """By the bytes read, where a file is not compressed."""
    total = None if path.suffix == ".gz" else path.stat().st_size
    return progress.bar("word vectors", total, unit="")
