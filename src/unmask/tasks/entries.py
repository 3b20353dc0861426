"""Numbers picked out of a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def entries(table: Tensor, numbers: Sequence[int]) -> Tensor:
    """Of each row of a table (n, C) the entry of its number: (n,)."""
    index = torch.tensor(list(numbers), dtype=torch.long, device=table.device)
    return table.gather(1, index[:, None])[:, 0]
