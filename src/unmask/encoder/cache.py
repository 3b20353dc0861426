"""What layers made of earlier positions, kept, so that a new token costs one position."""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.batch import Batch

_AHEAD = 32  # columns of room made at a time: growing copies everything


class Past:
    """One layer's keys and values, already turned by their positions."""

    def __init__(self) -> None:
        self._both: Tensor | None = None  # (2, B, H, room, D/H)
        self.columns = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D/H) each; all there are now, (B, H, K, D/H) each."""
        first, last = self.columns, self.columns + keys.shape[2]
        if self._both is None or last > self._both.shape[3]:
            B, H, _, width = keys.shape
            wider = keys.new_empty(2, B, H, last + _AHEAD, width)
            if self._both is not None:
                wider[:, :, :, :first] = self._both[:, :, :, :first]
            self._both = wider
        self._both[0, :, :, first:last] = keys
        self._both[1, :, :, first:last] = values
        self.columns = last
        return self._both[0, :, :, :last], self._both[1, :, :, :last]

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; one may come more than once."""
        if self._both is not None:
            self._both = self._both.index_select(1, rows)


class Cache:
    """All that rows of a grid have seen so far, for `Encoder.encode`.

    Each call's grid goes on where the last one's rows ended: row b sees what row b saw. The rule
    of the grid is the same as ever: a query sees the keys of its own sequence that do not lie
    beyond its limit, wherever they stand in the row. So padding in the middle of a row does no
    harm, and rows of different lengths go on together.
    """

    def __init__(self, layers: int) -> None:
        self.layers = [Past() for _ in range(layers)]
        self.owner = torch.zeros(0, 0, dtype=torch.long)  # (B, K)
        self.position = self.owner

    @property
    def columns(self) -> int:
        """K, how many columns it holds."""
        return self.owner.shape[1]

    @property
    def keys(self) -> tuple[Tensor, Tensor]:
        """Owner and position of what is kept, (B, K) each."""
        return self.owner, self.position

    def add(self, batch: Batch) -> None:
        """Take note of a grid whose keys and values the layers are about to add."""
        if self.columns:
            self.owner = torch.cat((self.owner, batch.owner), dim=1)
            self.position = torch.cat((self.position, batch.position), dim=1)
        else:
            self.owner, self.position = batch.owner, batch.position

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (R,), in this order; one may come more than once."""
        self.owner, self.position = self.owner[rows], self.position[rows]
        for past in self.layers:
            past.select(rows)

    def rewind(self, columns: int) -> None:
        """Forget all but the first columns."""
        self.owner, self.position = self.owner[:, :columns], self.position[:, :columns]
        for past in self.layers:
            past.columns = columns
