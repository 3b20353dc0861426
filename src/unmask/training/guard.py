"""The guard over a run's updates: skips those that would harm it, and gives up what is lost."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from unmask.errors import UserError

log = logging.getLogger("unmask")

_SPIKE = 10.0  # times the usual norm
_MEMORY = 50  # norms that the usual one is taken from
_USUAL = 0.9  # the share of them that do not exceed it
_WINDOW = 100  # updates among which there may be
_BOUND = 20  # skipped ones


class Guard:
    """Judges each update by its losses and the norm of its gradient, before it is taken.

    Skipped are losses or norms that are not finite, and spikes: norms far over what nine in ten of
    the last were. Few rows that are nearly learnt give small norms and, where one is still wrong,
    large ones; so spikes count among the last norms too, and what comes often is none. Clipping
    tames a norm of up to some times `clip`: never a spike. Only what is not finite ends a run, or
    where a run is to `leave` it, the part of the task whose loss it is.
    """

    def __init__(self, clip: float, tasks: Iterable[str] = (), leave: bool = False) -> None:
        self.clip = clip
        self.tasks = list(tasks)
        self.leave = leave
        self.taken = 0
        self.norms: list[float] = []  # the last finite ones
        self.lost: list[tuple[int, list[str]]] = []  # steps that were not finite, and whose losses
        self.left: dict[str, int] = {}  # tasks given up, and when

    def judge(self, step: int, losses: Mapping[str, float], norm: float) -> bool:
        """Whether to take the update; each that is not is said, and too many end the run."""
        fault = self._not_finite(losses, norm)
        if fault is None:
            fault = self._spike(norm)
            self.norms = [*self.norms[1 - _MEMORY :], norm]
        else:
            self.lost = [one for one in self.lost if one[0] > step - _WINDOW]
            self.lost.append((step, _not_finite(losses)))
            if len(self.lost) >= _BOUND and not self._give_up(step):
                raise UserError(
                    f"{fault} at step {step}, as in {len(self.lost)} of the last {_WINDOW} "
                    "updates; lower train.learning_rate or set train.precision=fp32. What was "
                    "saved before stands in the run folder"
                )
        if fault is None:
            self.taken += 1
            return True
        log.warning("step %d skipped: %s", step, fault)
        return False

    def _give_up(self, step: int) -> bool:
        """Leave the tasks whose losses were not finite all the time, if the others can go on."""
        counts = Counter(name for _, names in self.lost for name in names)
        hopeless = [name for name, count in counts.items() if count >= _BOUND]
        if not (self.leave and hopeless) or len(self.left) + len(hopeless) >= len(self.tasks):
            return False
        for name in hopeless:
            log.warning(
                "task %s is left out from step %d on, and the others go on: its loss was not "
                "finite in %d of the last %d updates",
                name,
                step,
                counts[name],
                _WINDOW,
            )
            self.left[name] = step
        rest = ((step, [n for n in names if n not in hopeless]) for step, names in self.lost)
        self.lost = [(step, names) for step, names in rest if names]
        return True

    def end(self) -> None:
        """Refuse to call a run trained in which not one update could be taken."""
        if not self.taken and self.lost:
            raise UserError(
                f"none of the run's {len(self.lost)} updates could be taken: their losses or "
                "gradients are not finite; lower train.learning_rate or set train.precision=fp32"
            )

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly, as plain JSON."""
        return {
            "taken": self.taken,
            "norms": list(self.norms),
            "lost": [[step, names] for step, names in self.lost],
            "left": dict(self.left),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; one of before tasks could be left has but the steps in `lost`."""
        self.taken = state["taken"]
        self.norms = list(state["norms"])
        pairs = [(one, []) if isinstance(one, int) else tuple(one) for one in state["lost"]]
        self.lost = [(step, list(names)) for step, names in pairs]
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
