"""Writing `.npy` files piece by piece, since a shard is not held in memory."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

_HEADER = 128  # bytes, filled up with blanks


class ArrayFile:
    """A one-dimensional array that grows; its length is written in front at the end."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[np.generic]) -> None:
        """Begin in an empty file."""
        self._file, self._dtype = file, dtype
        self._count = 0
        file.write(b"\0" * _HEADER)

    def write(self, values: np.ndarray) -> None:
        """Append values."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._count += len(values)

    def finish(self) -> None:
        """Write the header of NumPy's format 1.0; nothing comes behind."""
        shape = f"({self._count},)"
        said = f"{{'descr': {self._dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        head = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
        self._file.seek(0)
        self._file.write(head + said.encode().ljust(_HEADER - 11) + b"\n")
        self._file.flush()


class BitFile(ArrayFile):
    """An array of bits, eight to a byte, the first one lowest."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin in an empty file."""
        super().__init__(file, np.dtype(np.uint8))
        self._rest = np.zeros(0, dtype=bool)

    def write(self, values: np.ndarray) -> None:
        """Append bits."""
        bits = np.concatenate((self._rest, values))
        whole = len(bits) // 8 * 8
        self._rest = bits[whole:]
        super().write(np.packbits(bits[:whole], bitorder="little"))

    def finish(self) -> None:
        """Write the last bits, and the header."""
        super().write(np.packbits(self._rest, bitorder="little"))
        super().finish()
