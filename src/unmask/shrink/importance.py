"""How much a model would miss a layer, an attention head or a feed-forward unit.

What of a loss would change, to the first order, if a part gave nothing: the sum over a text's
positions of what the part gives times the loss's gradient by it, without its sign, averaged over
texts (Molchanov et al., arXiv:1611.06440; of heads Michel et al., arXiv:1905.10650). One pass
forward and back measures all parts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.layer import Layer
from unmask.model import Model


@dataclass(frozen=True)
class Importance:
    """Of each part, in the loss's own unit."""

    layers: Tensor  # (L,)
    heads: Tensor  # (L, H)
    units: Tensor  # (L, F)


Losses = Iterable[tuple[Batch, Callable[[], Tensor]]]  # a grid, and what makes its loss


def importance(model: Model, losses: Losses) -> Importance:
    """The importance of every part for these losses, each of a grid that the encoder sees."""
    config = model.encoder.config
    L, H, F = config.num_layers, config.num_heads, config.intermediate_size
    sums = [torch.zeros(L), torch.zeros(L, H), torch.zeros(L, F)]
    sequences = 0
    model.eval()
    for batch, loss in losses:
        watch = _Watch(model)
        try:
            with torch.enable_grad():
                torch.autograd.backward(loss())
        finally:
            watch.end()
        for i in range(L):
            # What a layer adds is what would be missing: it is left out by handing on its input.
            before, after = watch.states[i], watch.states[i + 1]
            gradient = _gradient(after)
            if gradient.ndim == 2:  # the last layer, at wanted positions alone
                before = before.flatten(0, 1)[batch.wanted]
            added = ((after.detach() - before.detach()) * gradient).sum(-1, keepdim=True)
            sums[0][i] += _by_sequence(added, batch).abs().sum()
            seen = watch.heads[i].detach() * _gradient(watch.heads[i])
            seen = seen.view(*seen.shape[:-1], H, -1).sum(-1)
            sums[1][i] += _by_sequence(seen, batch).abs().sum(0)
            inner = watch.units[i].detach() * _gradient(watch.units[i])
            sums[2][i] += _by_sequence(inner, batch).abs().sum(0)
        sequences += batch.sequences
        model.zero_grad(set_to_none=True)
    return Importance(*(total / max(sequences, 1) for total in sums))


def _gradient(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad


def _by_sequence(x: Tensor, batch: Batch) -> Tensor:
    """The sums over each sequence's positions of x (B, T, W), or (N, W) at the wanted: (S, W)."""
    owner = batch.owner.flatten() - 1 if x.ndim == 3 else batch.wanted_owner
    x = x.flatten(0, -2)
    real = owner >= 0
    return x.new_zeros(batch.sequences, x.shape[-1]).index_add_(0, owner[real], x[real]).cpu()


class _Watch:
    """Keeps what the layers hand on in a pass, with its gradient."""

    def __init__(self, model: Model) -> None:
        self.states: list[Tensor] = []
        self.heads: list[Tensor] = []
        self.units: list[Tensor] = []
        self._hooks = []
        for number, layer in enumerate(model.encoder.layers):
            assert isinstance(layer, Layer)
            attention, forward = layer.attention.output, layer.feed_forward.outer
            if number == 0:
                self._hooks.append(layer.register_forward_pre_hook(self._before(self.states)))
            self._hooks.append(layer.register_forward_hook(self._after))
            self._hooks.append(attention.register_forward_pre_hook(self._before(self.heads)))
            self._hooks.append(forward.register_forward_pre_hook(self._before(self.units)))

    def _before(self, kept: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if given[0].requires_grad:
                given[0].retain_grad()
            kept.append(given[0])

        return keep

    def _after(self, module: nn.Module, given: object, result: tuple[Tensor, object]) -> None:
        result[0].retain_grad()
        self.states.append(result[0])

    def end(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()
