"""Early exits: a text that a lower layer is sure of goes no further up.

Beside the head on the last layer there is a small one of the same sort on some lower layers
(BranchyNet, Teerapittayanon et al., arXiv:1709.01686; for BERT DeeBERT, Xin et al.,
arXiv:2004.12993, and FastBERT, Liu et al., arXiv:2004.02178). One limit on their doubt decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.batch import Batch, without
from unmask.encoder.attention import View
from unmask.encoder.encoder import Encoder, wants_few
from unmask.encoder.heads import LabelHead


@dataclass(frozen=True)
class Exits:
    """The heads on lower layers, by how many layers lie below each, and when they may answer.

    A head's logits are divided by its temperature, so that it is as sure as it is right about what
    the last layer would say. Where its doubt, in nats, is within `limit`, it answers.
    """

    heads: Mapping[int, LabelHead]
    temperatures: Mapping[int, float]
    limit: float

    def logits(self, encoder: Encoder, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """For each sequence of a grid its logits (S, C), and how many layers it took (S,).

        Sequences see only themselves, so each leaves where it would leave alone. Those that are
        left are packed anew.
        """
        x = encoder.embed(batch)  # (B, T, D)
        left = torch.arange(batch.sequences, device=x.device)  # who is still in the grid
        labels = next(iter(self.heads.values())).output.out_features
        found = torch.zeros(batch.sequences, labels, device=x.device)
        layers = torch.full_like(left, len(encoder.layers))
        views: dict[int | None, View] = {}
        for number, layer in enumerate(encoder.layers, 1):
            window = encoder.config.layer_window(number - 1)
            if window not in views:
                views[window] = encoder.view(batch, window)
            narrow = number == len(encoder.layers) and wants_few(batch)
            x, _ = layer(x, views[window], only=batch.wanted if narrow else None)
            if number not in self.heads:
                continue
            own = self.heads[number].to(next(head.parameters()))
            z = own(batch.gather(encoder.norm(x)), batch.wanted_owner, batch.sequences)
            z = z.float() / self.temperatures[number]
            sure = doubt(z) <= self.limit
            if not sure.any():
                continue
            found[left[sure]], layers[left[sure]] = z[sure], number
            left = left[~sure]
            if not len(left):
                return found, layers
            batch, index = without(batch, sure)
            x = x.flatten(0, 1)[index].view(*batch.shape, -1)
            views = {}
        x = encoder.norm(x)
        seen = x if x.ndim == 2 else batch.gather(x)  # (N, D)
        found[left] = head(seen, batch.wanted_owner, batch.sequences).float()
        return found, layers


def doubt(logits: Tensor) -> Tensor:
    """Minus the log-probability of the likeliest label, in nats: (n, C) -> (n,)."""
    z = logits.double()  # in fp32 next to no doubt would be none
    return z.logsumexp(-1) - z.amax(-1)
