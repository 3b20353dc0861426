"""An encoder that computes as its int8 form will, in floats, so that it can learn with that.

What the form does (`unmask.tuning.making`): tables and matrices have a scale a row. What goes into
a matrix has one scale and one zero, and before that a factor for each channel, which the matrix
takes back (SmoothQuant, Xiao et al., arXiv:2211.10438); its bias makes up for what rounding does
to the mean. Queries and keys have a scale each. All of them are measured on texts beforehand.

Values are rounded on the way forward, and the way back takes the rounding for nothing (Jacob et
al., arXiv:1712.05877).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.attention import Attention
from unmask.encoder.bricks import Linear, Table
from unmask.encoder.encoder import Encoder

Scales = dict[str, dict[str, list[float]]]  # by the part's name, as plain data
# Of a matrix's row on each side of zero, by its bits. The largest weight is to be rounded down, as
# in the form: half of 127 is as near to 64 as to 63.
LEVELS = {8: 127.0, 7: 63.499}

_SMOOTH = 0.95  # how much of a channel's spread goes into the matrix
_LEAST, _MOST = 0.1, 100.0  # factors: not under this quantile of them, not over this


def scales_of(encoder: Encoder, batches: Iterable[Batch]) -> Scales:
    """What int8 needs to know of grids with a text each, measured on the encoder in floats."""
    with _watched(encoder) as (products, pairs):
        for batch in batches:
            encoder(batch)
    found: Scales = {}
    for name, part in _linears(encoder):
        seen = products[name]
        most = torch.stack([torch.maximum(-low, high) for low, high, _ in seen.texts]).amax(0)
        smooth = _factors(most, part.weight.detach().float().abs().amax(0))
        low = torch.stack([(one / smooth).amin() for one, _, _ in seen.texts]).mean()
        high = torch.stack([(one / smooth).amax() for _, one, _ in seen.texts]).mean()
        found[name] = {
            "smooth": smooth.tolist(),
            "range": [float(low), float(high)],
            "mean": torch.stack([mean for _, _, mean in seen.texts]).mean(0).tolist(),
        }
    for name, own in pairs.items():
        most = torch.tensor(own.most).mean(0)  # (2,)
        found[name] = {"most": most.tolist()}
    return found


def simulate(
    encoder: Encoder, scales: Mapping[str, Mapping[str, list[float]]], bits: int = 8
) -> None:
    """Let an encoder compute as int8 would, with these scales; its weights stay as they are.

    Matrices have 7 of the 8 `bits` on processors whose sums would run over.
    """
    device = encoder.embeddings.token.weight.device
    for part in encoder.embeddings.modules():
        if isinstance(part, Table):
            part.rounded = by_row
    for name, linear in _linears(encoder):
        own = scales[name]
        low, high = own["range"]
        smooth, mean = (torch.tensor(own[key], device=device) for key in ("smooth", "mean"))
        linear.product = Product(smooth, mean, low, high, LEVELS[bits])
    for name, attention in _attentions(encoder):
        attention.rounded = Pair(*scales[name]["most"])


def plain(encoder: Encoder) -> None:
    """Let an encoder compute in floats again."""
    for part in encoder.modules():
        if isinstance(part, Linear):
            part.product = None
        elif isinstance(part, Table | Attention):
            part.rounded = None


@dataclass(frozen=True)
class Product:
    """The product of a linear layer in int8."""

    smooth: Tensor  # (inner,): what each channel is divided by
    mean: Tensor  # (inner,): of what goes in
    low: float
    high: float
    levels: float

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(…, inner), (outer, inner) -> (…, outer)."""
        whole = weight.float() * self.smooth
        rounded = by_row(whole, self.levels)
        if bias is not None:  # it makes up for what rounding does to the mean, if that is little
            apart = F.linear(self.mean / self.smooth, whole - rounded).detach()
            bias = bias + apart if bool((apart.abs() < 2 * bias.abs()).all()) else bias
        return F.linear(between(x / self.smooth, self.low, self.high), rounded, bias)


@dataclass(frozen=True)
class Pair:
    """Queries and keys in int8: the largest of each."""

    query: float
    key: float

    def __call__(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Of any shape."""
        return up_to(q, self.query), up_to(k, self.key)


def by_row(x: Tensor, levels: float = LEVELS[8]) -> Tensor:
    """Rows (…, W) with a scale each, of so many levels on each side of zero."""
    flat = x.float().flatten(0, -2)
    most = flat.detach().abs().amax(1)
    most = most.clamp_min(max(float(most.max()) / 100 if len(most) else 0.0, 8e-5))
    zero = torch.zeros_like(most, dtype=torch.int32)
    found = torch.fake_quantize_per_channel_affine(flat, most / levels, zero, 0, -127, 127)
    return found.view_as(x)


def between(x: Tensor, low: float, high: float) -> Tensor:
    """256 levels from low to high, of which one is zero: the range is made so much wider."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 8e-4:
        low, high = low - 4e-4, high + 4e-4
    zero = round(255 * -low / (high - low))
    steps = [end / count for end, count in ((-low, zero), (high, 255 - zero)) if count]
    return torch.fake_quantize_per_tensor_affine(x.float(), max(steps), zero, 0, 255)


def up_to(x: Tensor, most: float) -> Tensor:
    """256 levels around zero."""
    scale = max(most, 8e-5) / 127
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, 0, -128, 127).to(x.dtype)


def _factors(most: Tensor, weights: Tensor) -> Tensor:
    """What channels (inner,) are divided by, from the largest they hold and are multiplied with."""
    tiny = torch.finfo(torch.float32).eps
    found = most.clamp_min(tiny) ** _SMOOTH / (weights.clamp_min(tiny) ** (1 - _SMOOTH) + tiny)
    return found.clamp(float(torch.quantile(found, _LEAST)), _MOST)


@dataclass
class _Channels:
    """In a product's place: computes it in floats, and keeps what its channels hold."""

    # The least, the largest and the mean of each channel, (inner,) each, of each text.
    texts: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        flat = x.detach().float().flatten(0, -2)
        self.texts.append((flat.amin(0), flat.amax(0), flat.mean(0)))
        return F.linear(x, weight, bias)


@dataclass
class _Largest:
    """In the place of what rounds queries and keys: keeps the largest of each."""

    most: list[list[float]] = field(default_factory=list)  # of each text

    def __call__(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        self.most.append([float(q.abs().amax()), float(k.abs().amax())])
        return q, k


@contextmanager
def _watched(encoder: Encoder) -> Iterator[tuple[dict[str, _Channels], dict[str, _Largest]]]:
    """Watch what goes into products, without gradients and dropout."""
    products = {name: _Channels() for name, _ in _linears(encoder)}
    pairs = {name: _Largest() for name, _ in _attentions(encoder)}
    training = encoder.training
    plain(encoder)
    encoder.eval()
    for name, part in _linears(encoder):
        part.product = products[name]
    for name, attention in _attentions(encoder):
        attention.rounded = pairs[name]
    try:
        with torch.no_grad():
            yield products, pairs
    finally:
        plain(encoder)
        encoder.train(training)


def _linears(encoder: nn.Module) -> list[tuple[str, Linear]]:
    return [(name, part) for name, part in encoder.named_modules() if isinstance(part, Linear)]


def _attentions(encoder: nn.Module) -> list[tuple[str, Attention]]:
    return [(name, part) for name, part in encoder.named_modules() if isinstance(part, Attention)]
