"""An example of which parts are hidden or faded: what the model says then, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.batch import Batch, Example, collate
from unmask.errors import UserError
from unmask.explain.places import By, Part, Place, parts_of, places_of
from unmask.inputs.text import TextInput
from unmask.jobs import chunks
from unmask.model import Model
from unmask.tasks import Answer, Task


def blank_of(text: TextInput) -> int:
    """The token that stands for one that is hidden: the mask, else padding, else the unknown."""
    for role in ("mask", "pad", "unknown"):
        if (found := text.special_id(role)) is not None:
            return found
    raise UserError("this tokenizer has no token to hide others with, such as [MASK] or [PAD]")


@dataclass(frozen=True)
class Pace:
    """How an explanation goes about its passes, for whoever has other work for the process too."""

    positions: int = 4096  # of one pass; a text alone may have more
    pause: Callable[[], None] = lambda: None  # called before each pass; it may raise to end it all


@dataclass(frozen=True)
class Game:
    """What a model says of an example when only some of its parts are there (P positions).

    A part that is hidden is replaced at its place by the blank, so that all others stay where they
    are: the mask for tokens, zeros for other modalities. Between a part and its blank there is
    every mixture of their embeddings. Copies of the example with different parts hidden share the
    grid, so that one pass answers many of them.
    """

    model: Model
    task: Task[Any, Any]
    example: Example
    answer: Answer
    by: By = "word"
    pace: Pace = Pace()

    @cached_property
    def places(self) -> list[Place]:
        """The positions of the example."""
        return places_of(self.example, self.task.text, blank_of(self.task.text))

    @cached_property
    def parts(self) -> list[Part]:
        """What can be hidden: n parts."""
        return parts_of(self.places, self.by, self.task.text, self.task.explained_apart)

    @cached_property
    def rounds(self) -> list[np.ndarray]:
        """Numbers of parts that are hidden together while all others stay: usually all at once.

        Of texts that are compared with one another each has its own round.
        """
        owner = np.array([part.sequence for part in self.parts], dtype=int)
        if not self.task.explained_apart:
            return [np.arange(len(owner))]
        return [np.flatnonzero(owner == number) for number in np.unique(owner)]

    def spread(self, kept: np.ndarray) -> np.ndarray:
        """How much is there of each part (K, n), told of each position: (K, P)."""
        there = np.ones((len(kept), len(self.places)), dtype=np.float32)
        for i, part in enumerate(self.parts):
            there[:, list(part.places)] = kept[:, [i]]
        return there

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """Scores of positions (P,) added up to scores of parts: (n,)."""
        return np.array([positions[list(part.places)].sum() for part in self.parts])

    def ask(self, kept: np.ndarray) -> np.ndarray:
        """What the model says where only these parts (K, n) are there: (K, 2), target and value."""
        found = []
        for some in chunks(self.spread(kept), self._at_once):
            self.pace.pause()
            with torch.no_grad(), self.model.autocast():
                x, batch = self._mixed(np.stack(some))
                outputs = self._outputs(x, batch, len(some))
                found.append(_numpy(torch.stack((self.target(outputs), self.value(outputs)), 1)))
        return np.concatenate(found)

    def slopes(self, there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gradient of the target where so much of each position is there (K, P).

        Its products with the way from the blank, and with the embedding itself, of each position:
        (K, P) each; and the target and the value: (K, 2).
        """
        found = [self._slopes(np.stack(some)) for some in chunks(there, self._at_once)]
        along, of, said = zip(*found, strict=True)
        return np.concatenate(along), np.concatenate(of), np.concatenate(said)

    def _slopes(self, there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.pace.pause()
        K = len(there)
        with self._still(), self.model.autocast():
            x, batch = self._mixed(there)
            x.requires_grad_()
            outputs = self._outputs(x, batch, K)
            targets = self.target(outputs)  # (K,)
            (slope,) = torch.autograd.grad(targets.sum(), x)
            with torch.no_grad():
                values = self.value(outputs)
        whole, blank = self._embedded
        slope = slope.view(K, *whole.shape)  # (K, B, T, D)
        along, of = ((slope * e).sum(-1).flatten(1)[:, self._flat] for e in (whole - blank, whole))
        return _numpy(along), _numpy(of), _numpy(torch.stack((targets, values), dim=1))

    @cached_property
    def whole(self) -> tuple[float, float]:
        """Target and value of the example as it is."""
        target, value = self.ask(np.ones((1, len(self.parts))))[0]
        return float(target), float(value)

    def target(self, outputs: dict[str, Tensor]) -> Tensor:
        """The scalar that is explained, of each copy's outputs: (K,)."""
        return torch.vmap(lambda own: self.task.explain_target(own, self.answer))(outputs)

    def value(self, outputs: dict[str, Tensor]) -> Tensor:
        """The same in people's unit: (K,)."""
        return torch.vmap(lambda own: self.task.explain_value(own, self.answer))(outputs)

    @cached_property
    def _grid(self) -> Batch:
        """The example alone, a sequence a row: (B, T)."""
        batch = collate([self.example]).to(self.model.device)
        return self.task.prepare(batch, self.model.head(self.task.name))

    @cached_property
    def _flat(self) -> Tensor:
        """Where in the flat grid each position is: (P,)."""
        owner, T = self._grid.owner.flatten(), self._grid.shape[1]
        order = torch.argsort(owner * T + self._grid.position.flatten(), stable=True)
        return order[int((owner == 0).sum()) :]

    @cached_property
    def _embedded(self) -> tuple[Tensor, Tensor]:
        """The embeddings of the example, and of the blank in its place: (B, T, D) each."""
        blank = hidden(self._grid, blank_of(self.task.text))
        with torch.no_grad(), self.model.autocast():
            return self.model.encoder.embed(self._grid), self.model.encoder.embed(blank)

    @property
    def _at_once(self) -> int:
        """How many copies go through the encoder together."""
        return max(self.pace.positions // max(self._grid.owner.numel(), 1), 1)

    def _mixed(self, there: np.ndarray) -> tuple[Tensor, Batch]:
        """Embeddings (K B, T, D) with so much of each position (K, P), and the grid of them."""
        K, (B, T) = len(there), self._grid.shape
        share = torch.ones(K, B * T, device=self.model.device)
        share[:, self._flat] = torch.from_numpy(there.astype(np.float32)).to(share.device)
        whole, blank = self._embedded
        x = torch.lerp(blank[None], whole[None], share.view(K, B, T, 1).to(whole.dtype))
        return x.flatten(0, 1), copies(self._grid, K)

    def _outputs(self, x: Tensor, batch: Batch, count: int) -> dict[str, Tensor]:
        """The head's outputs of each copy, (K, …), from the embeddings (K B, T, D)."""
        adapter = self.task.options.adapter
        seen = self.model.encoder.encode(x, batch, narrow=True, adapter=adapter)
        outputs = self.task.outputs(self.model.head(self.task.name), seen, batch)
        return {
            name: own.view(count, len(own) // count, *own.shape[1:])
            for name, own in outputs.items()
        }

    @contextmanager
    def _still(self) -> Iterator[None]:
        """The weights want no gradient meanwhile: nothing is kept for them."""
        wanting = [p for p in self.model.parameters() if p.requires_grad]
        for p in wanting:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in wanting:
                p.requires_grad_(True)


def copies(batch: Batch, count: int) -> Batch:
    """So many copies of a grid (B, T) below one another: (count B, T). It holds no truth."""
    B, T = batch.shape
    S = batch.sequences

    def again(x: Tensor, step: int) -> Tensor:
        steps = torch.arange(count, device=x.device) * step
        return (x[None] + steps.view(-1, *[1] * x.ndim)).flatten(0, 1)

    owner = again(batch.owner, S)
    return replace(
        batch,
        owner=owner.masked_fill(again(batch.owner, 0) == 0, 0),
        position=again(batch.position, 0),
        segment=again(batch.segment, 0),
        limit=again(batch.limit, 0),
        features={
            name: (values.repeat(count, *[1] * (values.ndim - 1)), again(index, B * T))
            for name, (values, index) in batch.features.items()
        },
        wanted=again(batch.wanted, B * T),
        wanted_owner=again(batch.wanted_owner, S),
        group=again(batch.group, int(batch.group.max()) + 1),
        truth={},
    )


def hidden(batch: Batch, blank: int) -> Batch:
    """The grid with each token replaced by the blank, and all else by zeros."""
    return replace(
        batch,
        features={
            name: (torch.full_like(values, blank if name == "text" else 0), index)
            for name, (values, index) in batch.features.items()
        },
    )


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()
