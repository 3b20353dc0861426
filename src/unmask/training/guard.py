"""The guard over a run's updates: skips those that would harm it, and stops a run that is lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from unmask.errors import UserError

log = logging.getLogger("unmask")

_SPIKE = 10.0  # times the usual norm
_MEMORY = 50  # updates that the usual norm is learnt from, and remembers
_WINDOW = 100  # updates among which there may be
_BOUND = 20  # skipped ones


class Guard:
    """Judges each update by its losses and the norm of its gradient, before it is taken.

    Skipped are losses or norms that are not finite, and spikes: norms far over the running
    geometric mean of those taken. Clipping tames a norm of up to some times `clip`, so that is
    never a spike: where a model has learnt its rows, norms are tiny but for the rows it gets wrong.
    """

    def __init__(self, clip: float) -> None:
        self.clip = clip
        self.taken = 0
        self.mean = 0.0  # of the norms' logarithms
        self.skipped: list[int] = []  # steps, within the window

    def judge(self, step: int, losses: Mapping[str, float], norm: float) -> bool:
        """Whether to take the update; each that is not is said, and too many end the run."""
        fault = self._fault(losses, norm)
        if fault is None:
            if norm > 0:
                self.taken += 1
                self.mean += (math.log(norm) - self.mean) / min(self.taken, _MEMORY)
            return True
        self.skipped = [s for s in self.skipped if s > step - _WINDOW] + [step]
        if len(self.skipped) >= _BOUND:
            raise UserError(
                f"{fault} at step {step}, and {len(self.skipped)} of the last {_WINDOW} updates "
                "had to be skipped; lower train.learning_rate or set train.precision=fp32. What "
                "was saved before stands in the run folder"
            )
        log.warning("step %d skipped: %s", step, fault)
        return False

    def end(self) -> None:
        """Refuse to call a run trained in which not one update could be taken."""
        if not self.taken and self.skipped:
            raise UserError(
                f"none of the run's {len(self.skipped)} updates could be taken: their losses or "
                "gradients are not finite; lower train.learning_rate or set train.precision=fp32"
            )

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on exactly, as plain JSON."""
        return {"taken": self.taken, "mean": self.mean, "skipped": list(self.skipped)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.taken, self.mean = state["taken"], state["mean"]
        self.skipped = list(state["skipped"])

    def _fault(self, losses: Mapping[str, float], norm: float) -> str | None:
        bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
        if bad:
            return f"task {', '.join(bad)}: the loss is not finite"
        if not math.isfinite(norm):
            return f"task {', '.join(losses)}: the gradient is not finite"
        usual = math.exp(self.mean)
        if self.taken >= _MEMORY and norm > _SPIKE * max(usual, self.clip):
            return f"the gradient's norm {norm:.3g} is a spike over the usual {usual:.3g}"
        return None
