"""What a frozen trunk makes of a text, computed once and then remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.batch import Example, collate
from unmask.encoder import Hidden
from unmask.model import ROW_TOKENS, Model
from unmask.tasks import Task

ROOM = 2 << 30  # bytes of hidden states; what does not fit is computed each time


class Features:
    """Hidden states of a trunk that does not learn, without dropout, by what they are of.

    They follow from the weights and the text alone, so that a run is the same with and without.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self._known: dict[tuple[Any, ...], Tensor] = {}
        self._bytes = 0

    def hidden(
        self, model: Model, task: Task[Any, Any], examples: Sequence[Example]
    ) -> Hidden | None:
        """What a head sees of these examples; None where the trunk must look for itself.

        It must where the task has an adapter, which learns, or draws anew what the trunk sees.
        """
        if task.options.adapter is not None or not task.one_pass or not self.room:
            return None
        keys = [
            tuple((s.content, w.tobytes()) for s, w in zip(e.sequences, e.wanted, strict=True))
            for e in examples
        ]
        new = {key: e for key, e in zip(keys, examples, strict=True) if key not in self._known}
        found = {key: self._known[key] for key in keys if key not in new}
        if new:
            found |= dict(zip(new, self._compute(model, [*new.values()]), strict=True))
        for key in new:
            if self._bytes + found[key].nbytes <= self.room:
                self._known[key] = found[key]
                self._bytes += found[key].nbytes
        return Hidden(torch.cat([found[key] for key in keys]), None)

    def _compute(self, model: Model, examples: Sequence[Example]) -> Sequence[Tensor]:
        """The hidden states at each example's wanted positions: (N, D) each."""
        training = model.encoder.training
        model.encoder.eval()
        with torch.no_grad(), model.autocast():
            batch = collate(examples, ROW_TOKENS).to(model.device)
            wanted = model.encoder(batch, narrow=True).wanted
        model.encoder.train(training)
        return torch.split(wanted, [sum(map(len, example.wanted)) for example in examples])
