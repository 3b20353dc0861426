"""How far each task moves the trunk: by its loss and its tokens, or every task as far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unmask.recipe import TrainOptions
from unmask.tasks import Task

_KEPT = 0.98  # of the mean at each update: it looks back on some fifty of them
_SPIKE = 100.0  # times the mean square: what is more is tamed, and not remembered


class Pull:
    """Brings what each task adds to the trunk's gradient to one length, its weight, over time.

    A loss of ten gives a longer gradient than one of a half, and a task that has most of the tokens
    has most of the sum: an optimiser that looks at the sum alone hardly moves for the others. So
    each part is divided by the root of its mean squared length, in which updates without the task
    count as 0: a rare task pulls the more when it comes, up to seven times. Bringing the gradients
    of tasks to one length by a running mean is of Lin et al. (arXiv:2308.12029); that the mean is
    of squares is Adam's way with single weights.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """`weights` are the tasks, and how far each is to pull beside the others."""
        whole = sum(weights.values())
        self.wanted = {task: weight / whole for task, weight in weights.items()}
        self.updates = 0
        self.squares = dict.fromkeys(weights, 0.0)  # running means, from 0 on

    @classmethod
    def of(cls, tasks: Mapping[str, Task[Any, Any]], options: TrainOptions) -> Pull | None:
        """That of a run, if it is to have one; what is unlearnt pulls as far as its `reverse`."""
        if options.pull == "tokens":
            return None
        own = {name: task.options for name, task in tasks.items()}
        return cls({n: o.weight * (getattr(o, "reverse", 0) or 1) for n, o in own.items()})

    def begin(self) -> None:
        """An update: it is without a task unless that one comes."""
        self.updates += 1
        for task in self.squares:
            self.squares[task] *= _KEPT

    def factor(self, task: str, square: float) -> float:
        """What a part of this squared length is to be multiplied by; each task once an update."""
        if not math.isfinite(square):  # the guard will skip the update
            return 1.0
        new, before = (1 - _KEPT) * square, self.squares[task]
        whole = 1 - _KEPT**self.updates  # of the weights of a mean that began at 0
        usual = before / (whole - (1 - _KEPT)) if self.updates > 1 else 0.0
        self.squares[task] += min(new, (1 - _KEPT) * _SPIKE * usual) if usual else new
        mean = (before + new) / whole
        return self.wanted[task] / math.sqrt(mean) if mean else 1.0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "squares": dict(self.squares)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as a checkpoint has it."""
        self.updates, self.squares = state["updates"], dict(state["squares"])
