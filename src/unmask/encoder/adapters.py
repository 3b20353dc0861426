"""Adapters: small changes of the encoder's matrices, several of them on one trunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import init

from unmask.encoder.bricks import Dropout, Linear
from unmask.recipe import AdapterOptions


class LowRank(nn.Module):
    """The change to one matrix (LoRA, Hu et al., arXiv:2106.09685): two thin ones."""

    def __init__(self, inner: int, outer: int, config: AdapterOptions) -> None:
        super().__init__()
        self.scale = config.scale
        self.dropout = Dropout(config.dropout)
        self.down = nn.Linear(inner, config.rank, bias=False)
        self.up = nn.Linear(config.rank, outer, bias=False)

    def start(self) -> None:
        """Weights of an adapter that changes nothing yet."""
        init.kaiming_uniform_(self.down.weight, a=5**0.5)
        init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inner) -> (…, outer)."""
        return self.up(self.down(self.dropout(x))) * self.scale


class AdaptedLinear(Linear):
    """A linear layer that one of its adapters may change, or none."""

    def __init__(
        self, inner: int, outer: int, bias: bool, adapters: Mapping[str, AdapterOptions]
    ) -> None:
        super().__init__(inner, outer, bias)
        # An adapter may be called `type` or `train`; a module's child may not.
        self.adapters = nn.ModuleDict(
            {f"{name}_adapter": LowRank(inner, outer, own) for name, own in adapters.items()}
        )

    def forward(self, x: Tensor, adapter: str | None = None) -> Tensor:
        """(…, inner) -> (…, outer), as the adapter of that name has it."""
        if adapter is None:
            return super().forward(x)
        return nn.Linear.forward(self, x) + self.adapter(adapter)(x)

    def adapter(self, name: str) -> LowRank:
        """The change that the adapter of that name makes."""
        return cast(LowRank, self.adapters[f"{name}_adapter"])

    def merge(self, adapter: str) -> None:
        """Make an adapter's change the matrix's own."""
        change = self.adapter(adapter)
        self.weight.data += change.up.weight @ change.down.weight * change.scale


def adapters_of(module: nn.Module) -> set[Tensor]:
    """The weights of all adapters within a module."""
    parts = [part for part in module.modules() if isinstance(part, AdaptedLinear)]
    return {p for part in parts for p in part.adapters.parameters()}
