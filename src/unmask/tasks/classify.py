"""`classify`: which label, or which labels, a text or a pair of texts has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task
from unmask.tasks.tally import Choices, Tally


class ClassifyOptions(TaskOptions):
    """Single-label unless `multi_label`: then a row's label is a list, and may be empty."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "label", "separator")

    kind: Literal["classify"] = "classify"
    label: str = Field("label", description="the column with the label or the list of labels")
    multi_label: bool = False
    separator: str | None = Field(None, description="between the labels of one cell, as in a CSV")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of truth given to all")
    head: HeadConfig | None = Field(
        None, description="how logits are made (as the encoder's family makes them unless said)"
    )

    @field_validator("head")
    @classmethod
    def _pooled(cls, head: HeadConfig | None) -> HeadConfig | None:
        if head is not None and head.pooling == "none":
            raise ValueError("pooling: a text has one label, so pool by cls or mean")
        return head


@dataclass(frozen=True)
class LabelAnswer(Answer):
    """The labels' probabilities, and the label (or labels) that follow from them."""

    draw: ClassVar[str] = "bars"

    probabilities: dict[str, float]
    labels: tuple[str, ...]

    @property
    def short(self) -> str:
        """The label, or all of them."""
        return ", ".join(self.labels)

    def columns(self) -> dict[str, Any]:
        """Label, its probability, and every label's."""
        return {
            "prediction": self.short,
            "probability": max(self.probabilities.values()),
            "probabilities": self.probabilities,
            **super().columns(),
        }


class Classify(Task[ClassifyOptions, LabelAnswer]):
    """Softmax over labels, or an independent sigmoid for each when a row may have several."""

    kind = "classify"
    Options = ClassifyOptions

    @property
    def headline(self) -> str:  # type: ignore[override]
        """Accuracy, or micro-averaged F1 where a row may have several labels."""
        return "f1_micro" if self.options.multi_label else "accuracy"

    @classmethod
    def study(cls, name: str, options: ClassifyOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The labels of the training rows, sorted."""
        found: set[str] = set()
        for row in rows:
            found.update(_labels(name, options, row))
        if len(found) < (1 if options.multi_label else 2):
            raise UserError(
                f"task {name}: the training rows have {len(found)} label(s) in column "
                f"{options.label!r}; classification needs at least two"
            )
        return {"labels": sorted(found)}

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the logits."""
        return list(self.facts["labels"])

    @property
    def head(self) -> HeadConfig:
        """How this task's logits are made."""
        return self.options.head or HeadConfig()

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse labels that the training rows lack."""
        for number, row in enumerate(rows, 1):
            try:
                for label in _labels(self.name, self.options, row):
                    self._number(label)
            except UserError as error:
                raise UserError(f"{split} row {number}: {error}") from None

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        encoded = self.encode(row)
        cls = self.head.pooling == "cls"
        wanted = np.zeros(1, dtype=np.int64) if cls else np.arange(len(encoded.ids))
        targets: dict[str, np.ndarray] = {}
        if draw.truth:
            numbers = [self._number(label) for label in _labels(self.name, self.options, row)]
            if self.options.multi_label:
                hot = np.zeros((1, len(self.labels)), dtype=np.float32)
                hot[0, numbers] = 1.0
                targets["label"] = hot  # (1, C)
            else:
                targets["label"] = np.array(numbers, dtype=np.int64)  # (1,)
        return [Example((encoded.sequence(),), (wanted,), targets)]

    def build(self, encoder: Encoder) -> nn.Module:
        return LabelHead(encoder.config, self.head, len(self.labels))

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        x = hidden.wanted  # (N, D)
        return {"logits": head(x, batch.wanted_owner, batch.sequences)}  # (S, C)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["label"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits, label = outputs["logits"].float(), batch.truth["label"]
        if self.options.multi_label:  # the mean over labels, so that a row counts once
            loss = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
            return loss.mean(1).sum()
        smoothing = self.options.label_smoothing
        return F.cross_entropy(logits, label, reduction="sum", label_smoothing=smoothing)

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[LabelAnswer]:
        logits = outputs["logits"].float()
        several = self.options.multi_label
        table = (torch.sigmoid(logits) if several else logits.softmax(-1)).cpu().numpy()
        result = []
        for p, example in zip(table, examples, strict=True):
            best = np.flatnonzero(p > 0.5) if several else [int(p.argmax())]
            result.append(
                LabelAnswer(
                    tokens=example.length,
                    dropped=sum(s.dropped for s in example.sequences),
                    probabilities={name: float(x) for name, x in zip(self.labels, p, strict=True)},
                    labels=tuple(self.labels[i] for i in best),
                )
            )
        return result

    def tally(self, answers: Sequence[LabelAnswer], rows: Sequence[Row]) -> Tally:
        """Accuracy and macro F1; for several labels micro and macro F1 and the exact matches.

        Columns: for each label hits, guesses and truths; then exact matches, and 1.
        """
        from scipy.sparse import csr_array

        C, N = len(self.labels), len(answers)
        cells: list[tuple[int, int]] = []
        for i, (answer, row) in enumerate(zip(answers, rows, strict=True)):
            guess = {self._number(x) for x in answer.labels}
            truth = {self._number(x) for x in _labels(self.name, self.options, row)}
            cells += [(i, c) for c in guess & truth]
            cells += [(i, C + c) for c in guess]
            cells += [(i, 2 * C + c) for c in truth]
            cells += [(i, 3 * C)] * (guess == truth) + [(i, 3 * C + 1)]
        places = np.array(cells).reshape(-1, 2).T
        counts = csr_array((np.ones(len(cells)), (places[0], places[1])), shape=(N, 3 * C + 2))
        return Tally(counts, self._scores)

    def _scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Scores from the sums of a tally, (..., 3 C + 2), as scikit-learn defines them."""
        hits, guesses, truths = np.split(sums[..., :-2], 3, axis=-1)  # (..., C) each
        met = guesses + truths
        f1 = 2 * hits / np.maximum(met, 1)
        exact = sums[..., -2] / sums[..., -1]
        if self.options.multi_label:
            micro = 2 * hits.sum(-1) / np.maximum(met.sum(-1), 1)
            return {"f1_micro": micro, "f1_macro": f1.mean(-1), "exact_match": exact}
        # A label that these rows lack, and nobody guessed, has no F1.
        return {"accuracy": exact, "f1_macro": f1.sum(-1) / (met > 0).sum(-1)}

    def choices(self, answers: Sequence[LabelAnswer], rows: Sequence[Row]) -> Choices | None:
        if self.options.multi_label:
            return None
        truth = [self._number(_labels(self.name, self.options, row)[0]) for row in rows]
        table = np.array([[*answer.probabilities.values()] for answer in answers])  # (N, C)
        chosen = [self._number(answer.labels[0]) for answer in answers]
        return Choices(self.labels, np.array(truth), np.array(chosen), table)

    def surprise(self, answer: LabelAnswer, row: Row) -> float:
        """Minus the log-probability of the truth; over all labels where there may be several."""
        truth = set(_labels(self.name, self.options, row))
        p = answer.probabilities
        if self.options.multi_label:
            return -sum(math.log(max(p[x] if x in truth else 1 - p[x], 1e-12)) for x in p)
        return -math.log(max(p[truth.pop()], 1e-12))

    def truth(self, row: Row) -> str:
        return ", ".join(_labels(self.name, self.options, row))

    def explain_target(self, outputs: Outputs, answer: LabelAnswer) -> Tensor:
        """The logits of the answer's labels (of the likeliest where there is none), summed."""
        chosen = answer.labels or (max(answer.probabilities, key=answer.probabilities.__getitem__),)
        return outputs["logits"][..., [self._number(label) for label in chosen]].sum()

    def _number(self, label: str) -> int:
        numbers: Mapping[str, int] = self.__dict__.setdefault(
            "_numbers", {name: i for i, name in enumerate(self.labels)}
        )
        if label not in numbers:
            raise UserError(
                f"task {self.name}: label {label!r} was not among the {len(numbers)} labels of "
                "the training rows; mend or drop the rows that have it, or train with some"
            )
        return numbers[label]


def _labels(task: str, options: ClassifyOptions, row: Row) -> list[str]:
    value = row.get(options.label)
    if options.multi_label:
        if isinstance(value, str):
            value = value.split(options.separator) if options.separator else [value]
        if value is not None and not isinstance(value, list | tuple):
            raise UserError(
                f"task {task}: column {options.label!r} holds {value!r} and no list of labels; "
                "with one label a row, leave `multi_label` out"
            )
        return [str(item).strip() for item in value or [] if str(item).strip()]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError(
            f"task {task}: a row has no label in column {options.label!r} "
            f"({dict(list(row.items())[:3])!r}); label it or drop it"
        )
    if isinstance(value, list | dict) or value != value:  # only NaN is not itself
        raise UserError(
            f"task {task}: column {options.label!r} holds {value!r} and no single label; set "
            "`multi_label: true` for lists, or mend the row"
        )
    return [str(value).strip()]
