"""The encoder: embeddings and a stack of layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.adapters import AdaptedLinear, LowRank
from unmask.encoder.attention import View
from unmask.encoder.bricks import initialise, make_norm
from unmask.encoder.cache import Cache
from unmask.encoder.config import EncoderConfig
from unmask.encoder.embeddings import Embeddings, rotary_angles
from unmask.encoder.layer import Layer
from unmask.encoder.stems import Stem

_FEW = 0.75  # share of the grid from which on picking positions saves less than it costs


@dataclass(frozen=True)
class Hidden:
    """What the encoder found out about a grid.

    One vector a position: hidden states, not class logits. A head turns them into those.
    """

    wanted: Tensor  # (N, D): at the positions that the batch wants; all that heads see
    last: Tensor | None  # (B, T, D): at every position, unless only the wanted were asked for
    layers: tuple[Tensor, ...] = ()  # the embeddings and each layer's output, (B, T, D) each
    attention: tuple[Tensor, ...] = ()  # each layer's weights, (B, H, T, T)


class Encoder(nn.Module):
    """A bidirectional Transformer encoder over packed grids.

    Embedding and encoding are separate steps, so that attributions, adversarial noise or mixup
    can stand between them. Embeddings that are handed in take the place of new ones.
    """

    def __init__(self, config: EncoderConfig, embeddings: Embeddings | None = None) -> None:
        super().__init__()
        self.config = config
        self.embeddings = embeddings or Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.norm = make_norm(config) if config.pre_norm else nn.Identity()
        initialise(self, config.initializer_range)
        for part in self.modules():
            if isinstance(part, LowRank | Stem):
                part.start()

    def embed(self, batch: Batch) -> Tensor:
        """The first hidden states of a grid: (B, T, D)."""
        return self.embeddings(batch)

    def encode(
        self,
        x: Tensor,
        batch: Batch,
        cache: Cache | None = None,
        *,
        adapter: str | None = None,
        narrow: bool = False,
        layers: bool = False,
        attention: bool = False,
    ) -> Hidden:
        """Run the layers on `x` (B, T, D), keeping every layer or the attention if asked to.

        The adapter of that name changes them all. With a `cache` the grid goes on where the one
        before it ended: it sees what is kept there, and is added to it.

        With `narrow` the last layer looks everywhere but computes only what a head will see: the
        result at the wanted positions is the same, for most of a layer less.
        """
        narrow = narrow and wants_few(batch) and not layers and not attention
        if cache is not None:
            cache.add(batch)
        views: dict[int | None, View] = {}
        states, weights = [x], []
        for number, layer in enumerate(self.layers):
            window = self.config.layer_window(number)
            if window not in views:
                views[window] = self.view(batch, window, adapter, cache)
            last = number == len(self.layers) - 1
            only = batch.wanted if narrow and last else None
            past = None if cache is None else cache.layers[number]
            x, w = layer(x, views[window], weights=attention, only=only, past=past)
            if layers:
                states.append(x)
            if w is not None:
                weights.append(w)
        x = self.norm(x)
        if x.ndim == 2:  # (N, D)
            return Hidden(x, None)
        return Hidden(batch.gather(x), x, tuple(states) if layers else (), tuple(weights))

    def forward(
        self,
        batch: Batch,
        shift: Tensor | None = None,
        *,
        narrow: bool = False,
        adapter: str | None = None,
        layers: bool = False,
    ) -> Hidden:
        """Embed and encode; `shift` (B, T, D) is added in between."""
        x = self.embed(batch)
        if shift is not None:
            x = x + shift
        return self.encode(x, batch, narrow=narrow, adapter=adapter, layers=layers)

    def merge(self, adapter: str) -> None:
        """Make an adapter's changes the encoder's own."""
        for part in self.modules():
            if isinstance(part, AdaptedLinear):
                part.merge(adapter)

    def view(
        self,
        batch: Batch,
        window: int | None,
        adapter: str | None = None,
        cache: Cache | None = None,
    ) -> View:
        """What layers of this window may look at in a grid, for all of them."""
        config, angles = self.config, None
        if config.position == "rotary":
            base = config.rotary_base if window is None else config.local_rotary_base
            angles = rotary_angles(batch.position, config.head_width, base)
        if cache is None:
            return View(batch.visible(window), angles, adapter)
        return View(cache.visible(batch.position, window), angles, adapter)


def wants_few(batch: Batch) -> bool:
    """Whether the last layer had better compute a grid's wanted positions alone."""
    return len(batch.wanted) < _FEW * batch.owner.numel()
