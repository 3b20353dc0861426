"""An update's tasks on the shared trunk: how far each pulls it, and where they pull it apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unmask.encoder import adapters_of
from unmask.model import Model
from unmask.training import parallel
from unmask.training.processes import Processes
from unmask.training.pull import Pull

REST = "rest"  # what a task is set against where the others are kept as one sum

Gradients = list[Tensor | None]


class Conflicts:
    """The gradients of an update's tasks on the trunk, taken one task after another.

    `measure` notes their cosines and adds them up as usual. `pcgrad` takes out of each what goes
    against another (Yu et al., arXiv:2001.06782): it keeps them all, and compares all pairs.
    `agem` keeps two whatever the number of tasks: the sum so far, and the new one. Where they go
    against each other each is projected on the other's normal plane, so of two tasks it makes what
    `pcgrad` makes; a sum for a reference is of A-GEM (Chaudhry et al., arXiv:1812.00420). With a
    `pull` each is brought to its length first; with nothing else the sum so far is kept.
    """

    def __init__(
        self,
        model: Model,
        how: str | None,
        processes: Processes,
        rng: np.random.Generator,
        pull: Pull | None = None,
    ) -> None:
        """`rng` must draw the same on all processes."""
        of_adapters = adapters_of(model.encoder)
        self.trunk = [
            p for p in model.encoder.parameters() if p.requires_grad and p not in of_adapters
        ]
        self.how, self.processes, self.rng, self.pull = how, processes, rng, pull
        self.lengths: dict[str, float] = {}  # of the tasks' gradients as they come
        self.cosines: dict[str, dict[str, float]] = {}
        self._kept: dict[str, Gradients] = {}

    def order(self, tasks: Iterable[str]) -> list[str]:
        """The tasks as they are to be taken: by chance, where it matters."""
        tasks = list(tasks)
        return [tasks[i] for i in self.rng.permutation(len(tasks))] if self.how == "agem" else tasks

    def take(self, task: str) -> None:
        """Put aside a task's gradient, which is all that the trunk's `.grad` holds now."""
        parallel.sum_gradients(self.trunk, self.processes)
        new: Gradients = [p.grad for p in self.trunk]
        for p in self.trunk:
            p.grad = None
        square = float(self._products([new])[0, 0])
        self.lengths[task] = math.sqrt(square) if square >= 0 else square  # not a number
        if self.pull is not None:
            new = _mixed([new], np.array([self.pull.factor(task, square)]))
        if self.how in ("measure", "pcgrad"):
            self._kept[task] = new
            return
        if self._kept:
            before, weights = self._kept.pop(REST), np.ones(2)
            if self.how == "agem":
                gram = self._products([before, new])
                self.cosines[task] = {REST: _cosine(gram, 0, 1)}
                weights = project(gram, self.rng)
            new = _mixed([before, new], weights)
        self._kept[REST] = new

    def join(self) -> None:
        """Give the trunk one gradient, made of those that were taken."""
        tasks, gradients = list(self._kept), list(self._kept.values())
        weights = np.ones(len(tasks))
        if len(tasks) > 1:
            gram = self._products(gradients)
            for i, task in enumerate(tasks):
                own = {tasks[j]: _cosine(gram, i, j) for j in range(i + 1, len(tasks))}
                self.cosines |= {task: own} if own else {}
            if self.how == "pcgrad":
                weights = project(gram, self.rng)
        for p, gradient in zip(self.trunk, _mixed(gradients, weights), strict=True):
            p.grad = gradient
        self._kept = {}

    def rest(self, model: Model) -> list[nn.Parameter]:
        """What is no part of the trunk: it belongs to one task, or to those of one adapter."""
        trunk = set(self.trunk)
        return [p for p in model.parameters() if p not in trunk]

    def _products(self, gradients: Sequence[Gradients]) -> np.ndarray:
        """All inner products: (n, n)."""
        n = len(gradients)
        sharded = any(isinstance(g, DTensor) for g in gradients[0])
        found = {
            f"{i} {j}": _product(gradients[i], gradients[j]) for i in range(n) for j in range(i, n)
        }
        if sharded:  # each process has a part of every gradient
            found = self.processes.total(found)
        gram = np.zeros((n, n))
        for i in range(n):
            for j in range(i, n):
                gram[i, j] = gram[j, i] = found[f"{i} {j}"]
        return gram


def project(gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each gradient is in the sum of all, once PCGrad has projected each: (n,).

    Of each, in turn, what points against another is taken out, the others in an order by chance.
    All that happens lies in the space of the n gradients, so their inner products (n, n) say it.
    """
    mix = np.eye(len(gram))  # each projected gradient, in terms of those there were
    for i in range(len(gram)):
        for j in rng.permutation(len(gram)):
            inner = mix[i] @ gram[:, j]
            if j != i and inner < 0:
                mix[i, j] -= inner / gram[j, j]
    return mix.sum(0)


def summary(lines: Iterable[str]) -> dict[str, Any]:
    """Of the lines of a run's `metrics.jsonl`: how far tasks pulled, and how each pair got on.

    `lengths` holds for each task the root mean square of its gradient's length, updates without it
    counted as 0, and how many it was in. `pairs` holds for each the mean cosine of their gradients,
    the share of the updates with both in which it was below 0, and how many these were. Which of
    two comes first in an update is of no account.
    """
    found: dict[tuple[str, str], list[float]] = {}
    lengths: dict[str, list[float]] = {}
    updates = 0
    for line in lines:
        noted = json.loads(line)
        updates += "lengths" in noted
        for task, length in noted.get("lengths", {}).items():
            if length is not None:
                lengths.setdefault(task, []).append(length)
        for task, others in noted.get("cosines", {}).items():
            for other, cosine in others.items():
                if cosine is not None:
                    pair = (other, task) if (other, task) in found else (task, other)
                    found.setdefault(pair, []).append(cosine)
    return {
        "lengths": [
            {
                "task": task,
                "length": math.sqrt(sum(one**2 for one in own) / updates),
                "updates": len(own),
            }
            for task, own in lengths.items()
        ],
        "pairs": [
            {
                "tasks": list(pair),
                "cosine": float(np.mean(cosines)),
                "against": float(np.mean([cosine < 0 for cosine in cosines])),
                "updates": len(cosines),
            }
            for pair, cosines in found.items()
        ],
    }


def said(found: Mapping[str, Any]) -> list[str]:
    """The summary in lines for people."""
    return [
        f"{own['task']}: length {own['length']:.3g} over all updates, of which it was in "
        f"{own['updates']}"
        for own in found["lengths"]
    ] + [
        f"{' and '.join(pair['tasks'])}: cosine {pair['cosine']:+.3f} in the mean, below 0 in "
        f"{pair['against']:.0%} of {pair['updates']} updates"
        for pair in found["pairs"]
    ]


def _product(a: Gradients, b: Gradients) -> float:
    """The inner product of what this process has of two gradients."""
    parts = [
        torch.dot(_local(x).flatten(), _local(y).flatten())
        for x, y in zip(a, b, strict=True)
        if x is not None and y is not None
    ]
    return float(torch.stack(parts).double().sum()) if parts else 0.0


def _local(gradient: Tensor) -> Tensor:
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _mixed(gradients: Sequence[Gradients], weights: np.ndarray) -> Gradients:
    """Their weighted sum, in the place of the first that is there."""
    mixed: Gradients = []
    for own in zip(*gradients, strict=True):
        total = None
        for gradient, weight in zip(own, weights.tolist(), strict=True):
            if gradient is not None:
                total = (
                    gradient.mul_(weight) if total is None else total.add_(gradient, alpha=weight)
                )
        mixed.append(total)
    return mixed


def _cosine(gram: np.ndarray, i: int, j: int) -> float:
    return float(gram[i, j] / max(np.sqrt(gram[i, i] * gram[j, j]), 1e-30))
