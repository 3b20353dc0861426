"""What layers made of earlier positions, kept, so that a new token costs one position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.batch import Batch


class Past:
    """One layer's keys and values, already turned by their positions."""

    def __init__(self) -> None:
        self._both: Tensor | None = None  # (2, B, H, room, D/H)
        self.columns = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D/H) each; all there are now, (B, H, K, D/H) each."""
        B, H, T, width = keys.shape
        first, last = self.columns, self.columns + T
        if self._both is None or last > self._both.shape[3]:
            room = 2 * last if first else last  # growing copies everything
            wider = keys.new_empty(2, B, H, room, width)
            if self._both is not None:
                wider[:, :, :, :first] = self._both[:, :, :, :first]
            self._both = wider
        self._both[0, :, :, first:last] = keys
        self._both[1, :, :, first:last] = values
        self.columns = last
        return self._both[0, :, :, :last], self._both[1, :, :, :last]

    def unpack(self, row: Tensor, column: Tensor) -> None:
        """Go on with what stands at these places (R, S), a row each."""
        if self._both is not None:
            found = self._both[:, row, :, column]  # (R, S, 2, H, D/H)
            self._both = found.permute(2, 0, 3, 1, 4)
            self.columns = column.shape[1]

    @classmethod
    def joined(cls, parts: Sequence[Past]) -> Past:
        """The rows of all, which have as many columns."""
        past = cls()
        # As they were unpacked: what is contiguous is joined several times as fast.
        kept = [p._both.permute(1, 3, 0, 2, 4) for p in parts if p._both is not None]
        if kept:
            past._both = torch.cat(kept).permute(2, 0, 3, 1, 4)
            past.columns = parts[0].columns
        return past

    def select(self, rows: Tensor, moved: Tensor) -> None:
        """Go on with these rows (R,); `moved` are those that are not where they were."""
        if self._both is None:
            return
        if len(rows) > self._both.shape[1]:
            self._both = self._both.index_select(1, rows)
            return
        own = self._both[:, :, :, : self.columns]
        own[:, moved] = own[:, rows[moved]]
        self._both = self._both[:, : len(rows)]


class Cache:
    """All that rows of a grid have seen so far, for `Encoder.encode`.

    Each call's grid goes on where the last one's rows ended. A column sees what the same column of
    the grid before it saw, and of its own grid what the grid's rule lets it see. So padding in the
    middle of a row does no harm, rows of different lengths go on together, and the columns of one
    row can be texts that share a beginning.
    """

    def __init__(self, layers: int) -> None:
        self.layers = [Past() for _ in range(layers)]
        self.position = torch.zeros(0, 0, dtype=torch.long)  # (B, K)
        self.seen = torch.zeros(0, 0, 0, dtype=torch.bool)  # (B, T, K): by whom; T may be 1 for all

    @classmethod
    def joined(cls, parts: Sequence[Cache]) -> Cache:
        """The rows of all, which have as many columns."""
        cache = cls(0)
        cache.position = torch.cat([part.position for part in parts])
        cache.seen = torch.cat([part.seen for part in parts])
        every = zip(*(part.layers for part in parts), strict=True)
        cache.layers = [Past.joined(own) for own in every]
        return cache

    @property
    def columns(self) -> int:
        """K, how many columns it holds."""
        return self.position.shape[1]

    def add(self, batch: Batch) -> None:
        """Take note of a grid whose keys and values the layers are about to add."""
        own = batch.seen  # (B, T, T)
        if self.columns:
            kept = self.seen.expand(-1, own.shape[1], -1)
            self.seen = torch.cat((kept, own), dim=2)
            self.position = torch.cat((self.position, batch.position), dim=1)
        else:
            self.seen, self.position = own, batch.position

    def visible(self, position: Tensor, window: int | None) -> Tensor:
        """The mask (B, 1, T, K) of the grid that was added last, whose positions are (B, T)."""
        mask = self.seen
        if window is not None:
            mask = mask & ((self.position[:, None] - position[:, :, None]).abs() <= window)
        return mask[:, None]

    def unpack(self, place: Tensor, held: Tensor) -> None:
        """Give what was packed into one grid rows of its own.

        `place` (R, S) are flat indices of that grid. What comes next sees all that is `held`,
        (R, S) bool; the rest is padding.
        """
        row, column = place // self.columns, place % self.columns
        self.position, self.seen = self.position[row, column], held[:, None]
        for past in self.layers:
            past.unpack(row, column)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (R,), in this order; one may come more than once.

        Only what moves is copied, so that rows which end cost little where others fill their gaps.
        """
        self.position, self.seen = self.position[rows], self.seen[rows]
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for past in self.layers:
            past.select(rows, moved)

    def follow(self, origin: Tensor) -> None:
        """Let each column go on from what another of its row saw, (B, T): nothing is copied."""
        every = self.seen.expand(-1, origin.shape[1], -1)
        self.seen = every.gather(1, origin[:, :, None].expand_as(every))

    def rewind(self, columns: int) -> None:
        """Forget all but the first columns."""
        self.position, self.seen = self.position[:, :columns], self.seen[:, :, :columns]
        for past in self.layers:
            past.columns = columns
