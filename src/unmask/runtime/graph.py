"""A model as one graph of tensors: what other engines can take over and compile.

The bricks are the encoder's own. Only the grid is another: one sequence a row, so that a plain
padding mask (B, T) says who sees whom, instead of an owner for every position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder import Encoder, Hidden
from unmask.encoder.attention import View
from unmask.encoder.embeddings import rotary_angles
from unmask.model import Model
from unmask.tasks import Task

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TRUNK = ("last_hidden_state", "mean_vector", "first_vector")


class Trunk(nn.Module):
    """The encoder over rows of one sequence each: three (B, T) tensors to hidden states.

    It gives `last_hidden_state` (B, T, D), `mean_vector` (B, D) over the positions that are no
    padding, and `first_vector` (B, D). An adapter of that name changes the layers.
    """

    outputs: Sequence[str] = TRUNK

    def __init__(self, encoder: Encoder, adapter: str | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapter = adapter

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> tuple[Tensor, ...]:
        """(B, T) whole numbers each: token ids, 1 where a token is, token types."""
        x = self.hidden(ids, mask, kinds)
        return x, pool(x, mask), x[:, 0]

    def hidden(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> Tensor:
        """The last hidden states, (B, T, D)."""
        encoder = self.encoder
        position = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
        embeddings = encoder.embeddings
        x = embeddings.add(embeddings.token(ids), position, kinds)  # (B, T, E)
        if embeddings.projection is not None:
            x = embeddings.projection(x)
        views: dict[int | None, View] = {}
        for number, layer in enumerate(encoder.layers):
            window = encoder.config.layer_window(number)
            if window not in views:
                views[window] = self._view(position, mask, window)
            x, _ = layer(x, views[window])
        return encoder.norm(x)

    def _view(self, position: Tensor, mask: Tensor, window: int | None) -> View:
        config, angles = self.encoder.config, None
        if config.position == "rotary":
            base = config.rotary_base if window is None else config.local_rotary_base
            angles = rotary_angles(position, config.head_width, base)
        seen = mask[:, None, None, :] > 0  # (B, 1, 1, T)
        if window is not None:
            apart = (position[0, :, None] - position[0, None, :]).abs()  # (T, T)
            # Padding sees itself: a row of a softmax with nothing in it is not a number.
            seen = (seen & (apart <= window)) | (apart == 0)  # (B, 1, T, T)
        return View(seen, angles, self.adapter)


class Graph(Trunk):
    """The trunk with every head on it: what `unmask export` writes.

    Beside `last_hidden_state` there is `vector` (B, D), pooled and normalised as `Model.encode`
    gives it, and for each task what its `outputs` gives: a row a text, or a row a position
    (B, T, C).
    """

    def __init__(self, model: Model, tasks: Mapping[str, Task[Any, Any]]) -> None:
        adapters = {task.options.adapter for task in tasks.values()}
        super().__init__(model.encoder, next(iter(adapters), None))
        self.tasks = dict(tasks)
        self.heads = nn.ModuleDict({f"{name}_head": model.head(name) for name in tasks})
        self.pooling = model.how_to_pool
        self.outputs = self._names(model.device)

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> tuple[Tensor, ...]:
        """As `Trunk.forward`; the outputs are those that `outputs` names."""
        return tuple(self._compute(ids, mask, kinds).values())

    def _compute(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> dict[str, Tensor]:
        x = self.hidden(ids, mask, kinds)
        found = {"last_hidden_state": x, "vector": self._vector(x, mask)}
        for name, task in self.tasks.items():
            for key, value in self._answer(task, x, mask).items():
                found[f"{name}.{key}"] = value
        return found

    def _vector(self, x: Tensor, mask: Tensor) -> Tensor:
        pooled = _pooled(x, mask, self.pooling.mode)
        return nn.functional.normalize(pooled, dim=-1) if self.pooling.normalise else pooled

    def _answer(self, task: Task[Any, Any], x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The task's outputs: of a vector a row, (B, ...), or of every position, (B, T, ...)."""
        B, T, _ = x.shape
        head = self.heads[f"{task.name}_head"]
        rows = torch.arange(B, device=x.device)
        if task.pools is not None:
            return task.outputs(head, Hidden(_pooled(x, mask, task.pools), None), _grid(rows, rows))
        owner = rows[:, None].expand(B, T).flatten()
        outputs = task.outputs(head, Hidden(x.flatten(0, 1), None), _grid(owner, rows))
        return {key: value.view(B, T, *value.shape[1:]) for key, value in outputs.items()}

    def _names(self, device: torch.device) -> list[str]:
        ids = torch.zeros(2, 3, dtype=torch.long, device=device)
        with torch.inference_mode():
            return list(self._compute(ids, torch.ones_like(ids), ids))


def pool(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of the hidden states (B, T, D) where the mask (B, T) is 1: (B, D)."""
    weight = mask[:, :, None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


def example(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Inputs to trace a graph with: two rows, of which one is padded."""
    ids = torch.ones(2, 5, dtype=torch.long, device=device)
    mask = ids.clone()
    mask[1, 3:] = 0
    return ids, mask, torch.zeros_like(ids)


def _pooled(x: Tensor, mask: Tensor, how: str) -> Tensor:
    return pool(x, mask) if how == "mean" else x[:, 0]


def _grid(owner: Tensor, rows: Tensor) -> Batch:
    """As much of a batch as heads look at: the sequence of each vector that they see."""
    nothing = rows[:0]
    return Batch(nothing, nothing, nothing, nothing, {}, nothing, owner, rows)
