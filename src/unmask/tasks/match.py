"""`match`: one space in which what a row holds of one thing, in any modality, lies together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, Hidden, Pooling
from unmask.errors import UserError
from unmask.recipe import Inputs, TaskOptions
from unmask.tasks.base import Answer, Draw, Outputs, Row, placed, said_of
from unmask.tasks.cells import mixed
from unmask.tasks.contrast import Contrast
from unmask.tasks.recall import Seen, tally_of
from unmask.tasks.tally import Tally
from unmask.tasks.views import View, views_of


class MatchOptions(TaskOptions):
    """Each input column is a view; a text column may hold texts of several languages."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "same")
    modalities: ClassVar[tuple[str, ...]] = ("text", "image", "audio")

    kind: Literal["match"] = "match"
    input: str | list[str] | Inputs = Field(
        Inputs(text="text", image="image"),
        description="{text: …, image: …, audio: …}: two columns or more; or one text column that "
        "holds {language: text}",
    )
    same: str | None = Field(
        None, description="column whose equal values mark the same thing: never told apart"
    )
    temperature: float = Field(0.07, gt=0, description="what cosines are divided by")
    pooling: Literal["mean", "cls"] | None = Field(
        None, description="how a view's vector is made (as the start has it unless said)"
    )

    @model_validator(mode="after")
    def _several(self) -> MatchOptions:
        if self.others and len(self.inputs) < 2:
            raise ValueError("input: to be matched there must be two columns")
        return self

    @property
    def fewest(self) -> int:
        """A row may have one view, to be looked for or found."""
        return 1

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and that which marks the same thing."""
        return (*super().needed, *((self.same,) if self.same else ()))


@dataclass(frozen=True, eq=False)
class MatchAnswer(Answer):
    """A normalised vector (D,) for each view of the row, by name: a modality or a language."""

    draw: ClassVar[str] = "vector"

    vectors: Mapping[str, np.ndarray]
    seen: Mapping[str, Seen] = field(default_factory=dict, repr=False)

    @property
    def relevance(self) -> float:
        """The cosine of the first and the last view."""
        first, *_, last = [*self.vectors.values()] * 2
        return float(first @ last)

    @property
    def short(self) -> str:
        """The views; of two, their cosine."""
        if len(self.vectors) == 2:
            return f"{' and '.join(self.vectors)}: cosine {self.relevance:.4f}"
        return ", ".join(self.vectors)

    def columns(self) -> dict[str, Any]:
        """The vectors by view."""
        return {
            "vectors": {name: vector.tolist() for name, vector in self.vectors.items()},
            **super().columns(),
        }


class Match(Contrast[MatchOptions, MatchAnswer]):
    """Contrast across modalities and languages (CLIP, Radford et al., arXiv:2103.00020).

    Of each row one view of each side is drawn (of texts, one language), or two languages where
    there is nothing else. Each pair of sides is contrasted both ways with all rows of the update
    that have both. There are no weights beside the encoder's, so modalities share all of it.
    """

    kind = "match"
    Options = MatchOptions
    headline = "recall_at_1"
    undefined: ClassVar = {"recall_at_1": "no two rows have the same two views"}

    @property
    def pooling(self) -> Pooling:
        """How a view's vector is made of its hidden states."""
        return Pooling(mode=self.options.pooling or "mean")

    @classmethod
    def study(cls, name: str, options: MatchOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The languages of the texts; refuses rows that cannot be learnt from."""
        languages: set[str] = set()
        pairs = 0
        for where, row in placed(rows, "train"):
            with said_of(where):
                views = list(views_of(name, options, row))
            languages.update(view.name for view in views if view.name != view.side)
            pairs += len(views) > 1
        if pairs < 2:
            raise UserError(
                f"task {name}: {pairs} of the training rows have two views or more (something in "
                f"two of {', '.join(options.inputs)}, or texts of two languages); two are the least"
            )
        return {"languages": sorted(languages)}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows that hold something else."""
        for where, row in placed(rows, split):
            with said_of(where):
                list(views_of(self.name, self.options, row))

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        views = list(views_of(self.name, self.options, row))
        if draw.learn:
            views = _drawn(views, draw.rng)
        if len(views) < (2 if draw.truth else 1):
            if draw.truth:
                return []
            columns = ", ".join(self.options.inputs)
            raise UserError(f"task {self.name}: nothing stands in {columns}; mend or drop the row")
        rng = draw.rng if draw.learn else None
        sequences = tuple(
            mixed(self.name, view.options(self.options), self.text, {view.column: view.cell}, rng)
            for view in views
        )
        keys = [_number(sequence.content) for sequence in sequences]
        kin = _number(str(row.get(self.options.same))) if self.options.same else None
        seen = {
            view.name: Seen(view.side, key, key if kin is None else kin)
            for view, key in zip(views, keys, strict=True)
        }
        truth = {
            "size": np.array([len(views)]),
            "kin": np.array([one.kin for one in seen.values()]),
            "same": np.array(keys),
            "seat": np.array(_seats(self.options, views)),
        }
        wanted = tuple(self.pooling.wanted(sequence.length) for sequence in sequences)
        return [Example(sequences, wanted, truth, seen)]

    def build(self, encoder: Encoder) -> nn.Module:
        """No weights of its own."""
        return nn.Identity()

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        pooled = self.pooling.pool(hidden.wanted, batch.wanted_owner, batch.sequences)
        return {"vector": F.normalize(pooled, dim=-1)}  # (S, D)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["size"])

    def contrast(self, outputs: Outputs, truth: Mapping[str, Tensor]) -> Tensor:
        """InfoNCE both ways (arXiv:1807.03748), the mean over an example's pairs of sides."""
        vectors, size, seat = outputs["vector"].float(), truth["size"], truth["seat"]
        E = len(size)
        example = torch.arange(E, device=seat.device).repeat_interleave(size)  # (S,)
        seats = int(seat.max()) + 1
        place = torch.full((E, seats), -1, device=seat.device)
        place[example, seat] = torch.arange(len(seat), device=seat.device)
        total = vectors.sum() * 0  # of examples that are alone there is nothing to tell
        for a, b in combinations(range(seats), 2):
            both = ((place[:, a] >= 0) & (place[:, b] >= 0)).nonzero()[:, 0]  # (n,)
            x, y = place[both, a], place[both, b]
            scores = vectors[x] @ vectors[y].T / self.options.temperature  # (n, n)
            alike = _equal(truth["same"][x]) | _equal(truth["same"][y])
            alike |= _equal(truth["kin"][x])
            alike.fill_diagonal_(False)
            scores = scores.masked_fill(alike, -torch.inf)
            own = torch.arange(len(both), device=seat.device)
            there = F.cross_entropy(scores, own, reduction="none")
            back = F.cross_entropy(scores.T, own, reduction="none")
            pairs = size[both] * (size[both] - 1) / 2
            total = total + ((there + back) / 2 / pairs).sum()
        return total

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[MatchAnswer]:
        vectors = outputs["vector"].float().cpu()
        own = torch.split(vectors, [len(example.sequences) for example in examples])
        return [
            MatchAnswer(
                tokens=example.length,
                dropped=sum(s.dropped for s in example.sequences),
                vectors=dict(zip(example.notes, some.numpy().copy(), strict=True)),
                seen=example.notes,
            )
            for example, some in zip(examples, own, strict=True)
        ]

    def tally(self, answers: Sequence[MatchAnswer], rows: Sequence[Row]) -> Tally:
        """Recall at 1, 5 and 10 from each side to each other, and by language."""
        return tally_of([(answer.vectors, answer.seen) for answer in answers])

    def surprise(self, answer: MatchAnswer, row: Row) -> float:
        """How far apart its first and last view are: minus log((1 + cosine) / 2)."""
        return -math.log(max((1 + answer.relevance) / 2, 1e-12))

    def truth(self, row: Row) -> str:
        """Its texts."""
        views = views_of(self.name, self.options, row)
        return " | ".join(view.cell for view in views if view.modality == "text")

    def explain_target(self, outputs: Outputs, answer: MatchAnswer) -> Tensor:
        """The cosine of the first and last view; of one, how far it reaches where it points."""
        vectors = outputs["vector"].float()
        if len(answer.vectors) > 1:
            return vectors[0] @ vectors[len(answer.vectors) - 1]
        (own,) = answer.vectors.values()
        return vectors[0] @ torch.from_numpy(own).to(vectors.device)


def _drawn(views: Sequence[View], rng: np.random.Generator) -> list[View]:
    """One view of each side, or two of a side that is alone."""
    sides: dict[str, list[View]] = {}
    for view in views:
        sides.setdefault(view.side, []).append(view)
    count = 2 if len(sides) == 1 else 1
    return [
        own[i] for own in sides.values() for i in sorted(rng.permutation(len(own))[:count].tolist())
    ]


def _seats(options: MatchOptions, views: Sequence[View]) -> list[int]:
    """A number for each view, the same for what is contrasted: its side, in the recipe's order.

    A second text of one side has the seat behind all sides.
    """
    order = ["text", *options.texts, *options.others]
    taken: dict[str, int] = {}
    found = []
    for view in views:
        again = taken.get(view.side, 0)
        taken[view.side] = again + 1
        found.append(len(order) + again - 1 if again else order.index(view.side))
    return found


def _equal(numbers: Tensor) -> Tensor:
    """Which of (n,) numbers are the same: (n, n)."""
    return numbers[:, None] == numbers[None]


def _number(content: Any) -> int:
    """A number of 63 bits: the same for the same content, on every machine."""
    digest = blake2b(repr(content).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
