"""The guard over a run's updates: skips those that would harm it, and gives up what is lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from unmask.errors import UserError

log = logging.getLogger("unmask")


class LostError(UserError):
    """A run that has no finite losses or gradients to learn from."""


_SPIKE = 10.0  # times the usual norm
_MEMORY = 50  # norms that the usual one is taken from
_USUAL = 0.9  # the share of them that do not exceed it
_WINDOW = 100  # updates, of the run or of those with one task, among which there may be
_BOUND = 20  # skipped ones


class Guard:
    """Judges each update by its losses and the norm of its gradient, before it is taken.

    Skipped are losses or norms that are not finite, and spikes: norms far over what nine in ten of
    the last were. Few rows that are nearly learnt give small norms and, where one is still wrong,
    large ones; so spikes count among the last norms too, and what comes often is none. Clipping
    tames a norm of up to some times `clip`: never a spike. Only what is not finite ends a run, or
    where a run is to `leave` it, the part of the task whose loss it is. A task is judged by the
    updates that it is in, so a rare one is found out too.
    """

    def __init__(self, clip: float, tasks: Iterable[str] = (), leave: bool = False) -> None:
        self.clip = clip
        self.tasks = list(tasks)
        self.leave = leave
        self.taken = 0
        self.norms: list[float] = []  # the last finite ones
        self.lost: list[int] = []  # the last steps that were not finite
        self.finite: dict[str, list[bool]] = {}  # of each task's last losses, whether they were
        self.left: dict[str, int] = {}  # tasks given up, and when

    def judge(self, step: int, losses: Mapping[str, float], norm: float) -> bool:
        """Whether to take the update; each that is not is said, and too many end the run."""
        for name, loss in losses.items():
            own = self.finite.get(name, [])
            self.finite[name] = [*own[1 - _WINDOW :], math.isfinite(loss)]
        fault = self._not_finite(losses, norm)
        if fault is None:
            fault = self._spike(norm)
            self.norms = [*self.norms[1 - _MEMORY :], norm]
        elif not self._leave_hopeless(step):
            # A loss is its task's, and counted there, where the task alone can be left.
            if not (self.leave and _not_finite(losses)):
                self.lost = [*(one for one in self.lost if one > step - _WINDOW), step]
            self._bear(step, fault)
        if fault is None:
            self.taken += 1
            return True
        log.warning("step %d skipped: %s", step, fault)
        return False

    def _bear(self, step: int, fault: str) -> None:
        """End the run where too many of its updates, or of those with one task, are lost."""
        hopeless = self._hopeless()
        if len(self.lost) < _BOUND and not hopeless:
            return
        where = f"{len(self.lost)} of the last {_WINDOW} updates"
        if len(self.lost) < _BOUND:
            where = f"{_BOUND} of the last {len(self.finite[hopeless[0]])} updates with it"
        raise LostError(
            f"{fault} at step {step}, as in {where}; lower train.learning_rate or set "
            "train.precision=fp32. What was saved before stands in the run folder"
        )

    def _hopeless(self) -> list[str]:
        """The tasks whose losses are too often not finite."""
        there = {name: own for name, own in self.finite.items() if name not in self.left}
        return [name for name, own in there.items() if own.count(False) >= _BOUND]

    def _leave_hopeless(self, step: int) -> bool:
        """Leave such tasks, if the others can go on; whether any was."""
        hopeless = self._hopeless()
        if not (self.leave and hopeless) or len(self.left) + len(hopeless) >= len(self.tasks):
            return False
        for name in hopeless:
            log.warning(
                "task %s is left out from step %d on, and the others go on: its loss was not "
                "finite in %d of its last %d updates",
                name,
                step,
                self.finite[name].count(False),
                len(self.finite[name]),
            )
            self.left[name] = step
        return True

    def end(self, step: int) -> None:
        """Refuse to call a run trained in which no update could be taken; say what was lost."""
        never = [n for n, own in self.finite.items() if not any(own) and n not in self.left]
        if not self.taken and self.finite:
            lost = f"the loss of task {', '.join(never)} is" if never else "their gradients are"
            raise LostError(
                f"none of the run's updates could be taken: {lost} not finite; lower "
                "train.learning_rate or set train.precision=fp32"
            )
        for name in never:
            log.warning("task %s: its loss was never finite, so it has learnt nothing", name)
            self.left[name] = step

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly, as plain JSON."""
        return {
            "taken": self.taken,
            "norms": list(self.norms),
            "lost": list(self.lost),
            "finite": {name: list(own) for name, own in self.finite.items()},
            "left": dict(self.left),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; an older one has other counts of what was lost, which are left."""
        self.taken = state["taken"]
        self.norms = list(state["norms"])
        self.lost = [one for one in state["lost"] if isinstance(one, int)]
        self.finite = {name: list(own) for name, own in state.get("finite", {}).items()}
        self.left = dict(state.get("left", {}))

    def _not_finite(self, losses: Mapping[str, float], norm: float) -> str | None:
        bad = _not_finite(losses)
        if bad:
            return f"task {', '.join(bad)}: the loss is not finite"
        if not math.isfinite(norm):
            return f"task {', '.join(losses)}: the gradient is not finite"
        return None

    def _spike(self, norm: float) -> str | None:
        if len(self.norms) < _MEMORY:
            return None
        usual = sorted(self.norms)[round(_USUAL * (_MEMORY - 1))]
        if norm > _SPIKE * max(usual, self.clip):
            return f"the gradient's norm {norm:.3g} is a spike over the usual {usual:.3g}"
        return None


def _not_finite(losses: Mapping[str, float]) -> list[str]:
    return [name for name, loss in losses.items() if not math.isfinite(loss)]
