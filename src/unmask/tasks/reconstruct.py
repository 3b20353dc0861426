"""`reconstruct`: guess the hidden patches of a picture, or the hidden frames of a recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example, Segment
from unmask.encoder import Encoder, Hidden
from unmask.encoder.bricks import initialise
from unmask.errors import UserError
from unmask.recipe import Inputs, TaskOptions
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task
from unmask.tasks.tally import Tally


class ReconstructOptions(TaskOptions):
    """How much is hidden, and in pieces of what size."""

    modalities: ClassVar[tuple[str, ...]] = ("text", "image", "audio")

    kind: Literal["reconstruct"] = "reconstruct"
    input: str | list[str] | Inputs = Field(
        Inputs(image="image"), description="{image: column} or {audio: column}, or both"
    )
    rate: float = Field(0.6, gt=0, lt=1, description="share of patches and frames to guess")
    block: int = Field(2, gt=0, description="side of what is hidden of a picture, in patches")
    span: int = Field(5, gt=0, description="length of what is hidden of sound, in positions")

    @model_validator(mode="after")
    def _there(self) -> ReconstructOptions:
        if not self.others:
            raise ValueError("input: name a picture or a recording; hidden words are kind `mlm`")
        return self


@dataclass(frozen=True)
class ReconstructAnswer(Answer):
    """How well the hidden values were guessed, and the values with the guesses in their place."""

    hidden: int  # positions
    error: float  # mean absolute error, in the deviations to which values are normalised
    values: Mapping[str, np.ndarray] = field(repr=False, compare=False)  # modality: (n, P)
    sums: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @property
    def short(self) -> str:
        """The error."""
        return f"{self.hidden} hidden, mean error {self.error:.3f}"

    def columns(self) -> dict[str, Any]:
        """How many positions were hidden, and the error."""
        return {"hidden": self.hidden, "error": self.error, **super().columns()}


class Reconstruct(Task[ReconstructOptions, ReconstructAnswer]):
    """Masked modelling of pictures and sound, with all positions in the encoder.

    What is hidden is set to zero, the mean of normalised values, so that the stem's bias stands
    there as a learnt mask. One linear layer guesses the values themselves, by their absolute error
    (SimMIM, Xie et al., arXiv:2111.09886; MAE, arXiv:2111.06377, leaves the hidden out instead).
    Neighbours are hidden together, since next to them is nearly the answer: blocks of a picture,
    spans of sound (wav2vec 2.0, arXiv:2006.11477). Text beside them stays, and may help.
    """

    kind = "reconstruct"
    Options = ReconstructOptions
    headline = "explained"

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        # Not augmented: the truth is what is there.
        whole = self.sequence(row, replace(draw, learn=False))
        segments, wanted, which, at = [], [], [], 0
        truth: dict[str, list[np.ndarray]] = {name: [] for name in self._names}
        for part in whole.segments:
            if part.modality in truth:
                hidden = self._choose(part, draw.rng)
                values = part.values.copy()
                values[hidden] = 0
                truth[part.modality].append(part.values[hidden])
                wanted.append(at + hidden)
                which.append(np.full(len(hidden), self._names.index(part.modality)))
                segments.append(replace(part, values=values))
            else:
                segments.append(part)
            at += len(part.values)
        if not wanted:
            if draw.truth:
                return []
            raise UserError(
                f"task {self.name}: the row has neither picture nor recording, so nothing to guess"
            )
        empty = {name: np.zeros((0, self.text.beside[name].width), np.float32) for name in truth}
        guess = {name: np.concatenate([empty[name], *parts]) for name, parts in truth.items()}
        guess["modality"] = np.concatenate(which)
        sequence = replace(whole, segments=tuple(segments))
        return [Example((sequence,), (np.concatenate(wanted),), guess)]

    def _choose(self, part: Segment, rng: np.random.Generator) -> np.ndarray:
        """The positions of a segment to hide, in order: (k,)."""
        n = len(part.values)
        if part.place is None:
            unit = (np.arange(n) + rng.integers(self.options.span)) // self.options.span
        else:
            side = self.options.block
            row, column = ((part.place + rng.integers(side, size=2)) // side).T
            unit = row * (column.max(initial=0) + 1) + column
        return hide(unit, self.options.rate, rng)

    @property
    def _names(self) -> list[str]:
        return [*self.options.others]

    def build(self, encoder: Encoder) -> nn.Module:
        widths = {}
        for name in self._names:
            options = getattr(encoder.config, name)
            if options is None:
                raise UserError(
                    f"task {self.name}: this encoder reads no {name}; give it a way with "
                    f"`encoder: {{{name}: {{…}}}}`"
                )
            widths[name] = options.width
        return Guess(encoder, widths)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return head(hidden.wanted)  # modality: (N, P), at positions of other modalities too

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["modality"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The mean absolute error of each hidden position's values, summed over positions."""
        parts = self._guesses(outputs, batch)
        return torch.stack([(guess - true).abs().mean(-1).sum() for guess, true in parts]).sum()

    def _guesses(self, outputs: Outputs, batch: Batch) -> Iterable[tuple[Tensor, Tensor]]:
        for number, name in enumerate(self._names):
            own = (batch.truth["modality"] == number).nonzero()[:, 0]
            yield outputs[name].float()[own], batch.truth[name]

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[ReconstructAnswer]:
        tables = {name: outputs[name].float().cpu().numpy() for name in self._names}
        found, start = [], 0
        for example in examples:
            (sequence,), (wanted,) = example.sequences, example.wanted
            stop, at = start + len(wanted), 0
            values, errors, truths = {}, [], []
            for part in sequence.segments:
                inside = (wanted >= at) & (wanted < at + len(part.values))
                if part.modality in tables:
                    filled = part.values.copy()
                    guess = tables[part.modality][start:stop][inside]
                    filled[wanted[inside] - at] = guess
                    values[part.modality] = filled
                    truths.append(example.truth[part.modality].ravel())
                    errors.append(guess.ravel() - truths[-1])
                at += len(part.values)
            error, true = np.concatenate(errors), np.concatenate(truths)
            sums = (np.abs(error).sum(), (error**2).sum(), true.sum(), (true**2).sum(), true.size)
            found.append(
                ReconstructAnswer(
                    tokens=sequence.length,
                    dropped=sequence.dropped,
                    hidden=len(wanted),
                    error=float(np.abs(error).mean()),
                    values=values,
                    sums=tuple(float(x) for x in sums),
                )
            )
            start = stop
        return found

    def tally(self, answers: Sequence[ReconstructAnswer], rows: Sequence[Row]) -> Tally:
        """The share of the hidden values' variance that is explained (0 if below), and the error.

        Guessing the mean of all hidden values of these rows explains nothing.
        """

        def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
            wrong, squares, total, power, count = np.moveaxis(sums, -1, 0)
            variance = np.maximum(power - total**2 / count, 1e-12)
            return {"explained": np.clip(1 - squares / variance, 0, 1), "mae": wrong / count}

        return Tally(np.array([answer.sums for answer in answers]), scores)

    def surprise(self, answer: ReconstructAnswer, row: Row) -> float:
        """The mean absolute error: under Laplace's law, nats but for a constant."""
        return answer.error

    def truth(self, row: Row) -> str:
        return self.shown(row)

    def explain_target(self, outputs: Outputs, answer: ReconstructAnswer) -> Tensor:
        """How much is drawn or sounds in what was guessed: half the sum of its squares."""
        return torch.stack([table.float().square().sum() for table in outputs.values()]).sum() / 2


class Guess(nn.Module):
    """A linear layer for each modality, from hidden states to values."""

    def __init__(self, encoder: Encoder, widths: Mapping[str, int]) -> None:
        super().__init__()
        size = encoder.config.hidden_size
        self.layers = nn.ModuleDict({name: nn.Linear(size, n) for name, n in widths.items()})
        initialise(self, encoder.config.initializer_range)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, D) -> (N, P) for each modality."""
        return {name: layer(x) for name, layer in self.layers.items()}


def hide(unit: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Places (k,), in order, of `round(rate * n)` of n: whole units in an order of chance.

    `unit` (n,) numbers the unit that each place is in; the last one taken may be hidden in part. At
    least one place is hidden, and where there are two or more, one is not.
    """
    n = len(unit)
    count = min(max(1, round(rate * n)), max(1, n - 1))
    chance = rng.permutation(unit.max() + 1)
    found: np.ndarray = np.sort(np.argsort(chance[unit], kind="stable")[:count])
    return found
