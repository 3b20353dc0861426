"""`classify`: which label, or which labels, a text or a pair of texts has."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Hidden
from unmask.errors import UserError
from unmask.tasks.base import (
    Answer,
    Draw,
    Outputs,
    Row,
    Task,
    check_texts,
    disagreement,
    placed,
    said_of,
)
from unmask.tasks.calibration import calibrated, fit_temperature, fit_vector
from unmask.tasks.clashes import look_for_clashes
from unmask.tasks.imitation import towards, towards_each
from unmask.tasks.known import Score
from unmask.tasks.label_cells import asked_label, labels_of
from unmask.tasks.label_promises import hedges, label_promises
from unmask.tasks.label_tally import label_tally
from unmask.tasks.pooled import PooledOptions, PooledTask
from unmask.tasks.promises import check_fitted
from unmask.tasks.reversal import reversed_gradient
from unmask.tasks.tally import Choices, Tally

log = logging.getLogger("unmask")


class ClassifyOptions(PooledOptions):
    """Single-label unless `multi_label`: then a row's label is a list, and may be empty."""

    reading: ClassVar[tuple[str, ...]] = (*PooledOptions.reading, "separator")
    modalities: ClassVar[tuple[str, ...]] = ("text", "image", "audio")

    kind: Literal["classify"] = "classify"
    label: str = Field("label", description="the column with the label or the list of labels")
    labels: list[str] | None = Field(
        None,
        description="all labels, where training rows may lack some (those of the training rows "
        "unless said)",
    )
    multi_label: bool = Field(
        False, description="a row has any number of labels, as a list, and not just one"
    )
    separator: str | None = Field(None, description="between the labels of one cell, as in a CSV")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of truth given to all")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description="of a label's rows in the loss: by rarity, or as {label: weight, …}",
    )
    known: Score | Literal["auto"] | None = Field(
        "auto",
        description="the score by which answers say whether a text is like those learnt (`joint`, "
        "or `neighbours` with several labels, unless said)",
    )
    reverse: float = Field(
        0.0,
        ge=0,
        description="the encoder unlearns what tells these labels apart, this much: its gradient "
        "is turned round (domains, languages)",
    )
    calibrate: Literal["temperature", "vector"] | None = Field(
        "temperature", description="how probabilities are fitted to the validation rows at the end"
    )

    @model_validator(mode="after")
    def _one_label(self) -> ClassifyOptions:
        if self.multi_label and (self.class_weights or self.calibrate == "vector"):
            raise ValueError("class_weights and `calibrate: vector` are for one label a row")
        if self.multi_label and self.known in ("softmax", "energy", "joint"):
            raise ValueError(f"`known: {self.known}` is for one label a row; `neighbours` is not")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> ClassifyOptions:
        if self.labels is not None and len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError("labels: name two or more, each once")
        return self


@dataclass(frozen=True)
class LabelAnswer(Answer):
    """The labels' probabilities, and the label (or labels) that follow from them."""

    draw: ClassVar[str] = "bars"

    probabilities: dict[str, float]
    labels: tuple[str, ...]
    logits: tuple[float, ...] = field(default=(), repr=False, compare=False)  # not calibrated

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


class Classify(PooledTask[ClassifyOptions, LabelAnswer]):
    """Softmax over labels, or an independent sigmoid for each when a row may have several."""

    kind = "classify"
    Options = ClassifyOptions
    reads_rows = True
    measure = "probability"

    @property
    def headline(self) -> str:  # type: ignore[override]
        """Accuracy, or micro-averaged F1 where a row may have several labels."""
        return "f1_micro" if self.options.multi_label else "accuracy"

    @classmethod
    def study(cls, name: str, options: ClassifyOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The labels that the recipe names, or else those of the training rows; sorted."""
        found: Counter[str] = Counter()
        for where, row in placed(rows, "train"):
            with said_of(where):
                check_texts(name, options, row)
                found.update(_labels(name, options, row))
        if len(found) < (1 if options.multi_label else 2):
            raise UserError(
                f"task {name}: the training rows have {len(found)} label(s) in column "
                f"{options.label!r}; classification needs at least two"
            )
        labels = sorted(options.labels or found)
        odd = sorted(found.keys() - set(labels))
        if odd:
            raise UserError(
                f"task {name}: the training rows have {odd[0]!r}, which is not among `labels`; "
                "name it there, or mend the rows"
            )
        lacking = [label for label in labels if not found[label]]
        if lacking:
            log.warning(
                "task %s: %d label(s) have no training row, such as %r",
                name,
                len(lacking),
                lacking[0],
            )
        once = [label for label in labels if found[label] == 1]
        if once:
            log.warning(
                "task %s: %d label(s) have one training row only, such as %r",
                name,
                len(once),
                once[0],
            )
        weights = options.class_weights
        if weights == "balanced":  # as scikit-learn has it: 1 on average over the rows
            each = found.total() / len(found)
            return {"labels": labels, "weights": [each / max(found[x], 1) for x in labels]}
        if weights is not None:
            unknown = sorted(weights.keys() - set(labels))
            if unknown:
                raise UserError(
                    f"task {name}: class_weights names {unknown[0]!r}, which is no label; "
                    f"the labels are {', '.join(labels)}"
                )
            return {"labels": labels, "weights": [weights.get(label, 1.0) for label in labels]}
        return {"labels": labels}

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the logits."""
        return list(self.facts["labels"])

    @property
    def meaning(self) -> Mapping[str, Any]:
        """The labels."""
        return {"labels": self.labels}

    @property
    def width(self) -> int:  # type: ignore[override]
        """As many logits as labels."""
        return len(self.labels)

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows without text, and labels that the training rows lack."""
        for where, row in placed(rows, split):
            with said_of(where):
                check_texts(self.name, self.options, row)
                for label in _labels(self.name, self.options, row):
                    self._number(label)

    def look_over(self, rows: Sequence[Row]) -> None:
        """Say where languages have labels that may be the same by other names."""
        look_for_clashes(
            self.name, self.options, rows, lambda row: _labels(self.name, self.options, row)
        )

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        sequence = self.sequence(row, draw)
        targets: dict[str, np.ndarray] = {}
        if draw.truth:
            if self.options.multi_label:
                targets["label"] = self._hot(row)[None]  # (1, C)
            else:
                targets["label"] = np.array([self._number(self.truth(row))])  # (1,)
        return [Example((sequence,), (self.wanted(sequence),), targets)]

    @property
    def chooses(self) -> bool:
        """Not where the encoder is to make the labels hard to tell."""
        return not self.options.reverse

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        if self.options.reverse and hidden.wanted.requires_grad:
            turned = reversed_gradient(hidden.wanted, self.options.reverse)
            hidden = Hidden(turned, hidden.last)
        return super().outputs(head, hidden, batch)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits, label = outputs["logits"].float(), batch.truth["label"]
        if self.options.multi_label:  # the mean over labels, so that a row counts once
            loss = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
            return loss.mean(1).sum()
        smoothing = self.options.label_smoothing
        loss = F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
        if "weights" in self.facts:
            loss = loss * loss.new_tensor(self.facts["weights"])[label]
        return loss.sum()

    def divergence(self, outputs: Outputs, others: Outputs) -> Tensor:
        """Over all labels; where there may be several, the mean over them, as in the loss."""
        a, b = outputs["logits"].float(), others["logits"].float()
        if self.options.multi_label:
            pair = (torch.stack((torch.zeros_like(x), x), -1) for x in (a, b))  # (S, C, 2)
            return disagreement(*pair) / self.width
        return disagreement(a, b)

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        ours, theirs = outputs["logits"].float(), others["logits"].float()
        if self.options.multi_label:
            return towards_each(ours, theirs) / self.width
        return towards(ours, theirs)

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[LabelAnswer]:
        several = self.options.multi_label
        raw = outputs["logits"].float()
        logits = calibrated(raw, self.calibration)
        table = (torch.sigmoid(logits) if several else logits.softmax(-1)).cpu().numpy()
        known = self.known_of(outputs)
        result = []
        for p, z, own, example in zip(table, raw.tolist(), known, examples, strict=True):
            best = np.flatnonzero(p > 0.5) if several else [int(p.argmax())]
            result.append(
                LabelAnswer(
                    tokens=example.length,
                    dropped=sum(s.dropped for s in example.sequences),
                    probabilities={name: float(x) for name, x in zip(self.labels, p, strict=True)},
                    labels=tuple(self.labels[i] for i in best),
                    logits=tuple(z),
                    known=own,
                )
            )
        return result

    def fit(self, answers: Sequence[LabelAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """A temperature, or a scale and shift for each label, that make the rows likeliest."""
        if self.options.calibrate is None:
            return {}
        # Log-probabilities would not do: a scale for each label does not leave them what they are.
        logits = np.array([answer.logits for answer in answers])  # (n, C)
        if self.options.multi_label:  # each label on its own is a choice of two
            truth = np.stack([self._hot(row) for row in rows]).astype(int)
            pairs = np.stack((0 * logits, logits), -1).reshape(-1, 2)
            return fit_temperature(pairs, truth.ravel())
        truth = np.array([self._number(self.truth(row)) for row in rows])
        fit = fit_vector if self.options.calibrate == "vector" else fit_temperature
        return fit(logits, truth)

    def promises(self, answers: Sequence[LabelAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """Of one label a row: what `label_promises` finds."""
        if self.options.multi_label:
            return {}
        logits = np.array([answer.logits for answer in answers])  # (n, C)
        truth = np.array([self._number(self.truth(row)) for row in rows])
        return label_promises(logits, truth, self.options.calibrate == "vector")

    def hedged(
        self, answers: Sequence[LabelAnswer], asked: Mapping[str, float], form: str
    ) -> list[LabelAnswer]:
        if self.options.multi_label:
            return super().hedged(answers, asked, form)
        record = check_fitted(self.name, self.calibration.get("promises"), form)
        found = hedges([answer.logits for answer in answers], self.labels, record, asked)
        return [replace(a, promise=own) for a, own in zip(answers, found, strict=True)]

    def holds(self, answer: LabelAnswer, row: Row) -> bool:
        promised = answer.promise.labels if answer.promise else None
        return promised is not None and self.truth(row) in promised

    @property
    def known_by(self) -> Score | None:
        """As the options say; not where the encoder unlearns what the labels are told by."""
        if self.options.reverse:
            return None
        if self.options.known == "auto":
            return "neighbours" if self.options.multi_label else "joint"
        return self.options.known

    def groups(self, rows: Sequence[Row]) -> np.ndarray:
        if self.options.multi_label:  # no one label has a row to itself
            return super().groups(rows)
        return np.array([self._number(self.truth(row)) for row in rows])

    def tally(self, answers: Sequence[LabelAnswer], rows: Sequence[Row]) -> Tally:
        """Accuracy and macro F1; for several labels micro and macro F1 and the exact matches."""
        pairs = (
            (
                {self._number(x) for x in answer.labels},
                {self._number(x) for x in _labels(self.name, self.options, row)},
            )
            for answer, row in zip(answers, rows, strict=True)
        )
        return label_tally(pairs, self.width, self.options.multi_label)

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

    def explained(
        self, example: Example, answer: LabelAnswer, wanted: str | None = None
    ) -> tuple[Example, LabelAnswer]:
        """Any label may be named. Where the answer has none, it is the likeliest."""
        if wanted is None:
            likeliest = max(answer.probabilities, key=answer.probabilities.__getitem__)
            return example, replace(answer, labels=answer.labels or (likeliest,))
        return example, replace(answer, labels=(asked_label(self.name, wanted, self.labels),))

    def explain_target(self, outputs: Outputs, answer: LabelAnswer) -> Tensor:
        """The logits of the answer's labels, summed."""
        return outputs["logits"].float()[..., [self._number(x) for x in answer.labels]].sum()

    def explain_value(self, outputs: Outputs, answer: LabelAnswer) -> Tensor:
        """The probability of the answer's labels together."""
        logits = calibrated(outputs["logits"].float(), self.calibration)
        p = logits.sigmoid() if self.options.multi_label else logits.softmax(-1)
        return p[..., [self._number(label) for label in answer.labels]].prod()

    def _hot(self, row: Row) -> np.ndarray:
        """1 for each of the row's labels, and 0 for the others: (C,)."""
        hot = np.zeros(len(self.labels), dtype=np.float32)
        hot[[self._number(label) for label in _labels(self.name, self.options, row)]] = 1
        return hot

    def _number(self, label: str) -> int:
        numbers: Mapping[str, int] = self.__dict__.setdefault(
            "_numbers", {name: i for i, name in enumerate(self.labels)}
        )
        if label not in numbers:
            known = f"{', '.join(self.labels[:10])}{', …' * (len(numbers) > 10)}"
            raise UserError(
                f"task {self.name}: label {label!r} was not among the {len(numbers)} labels of "
                f"the training rows ({known}); mend or drop the rows that have it, train with "
                "some, or name it in `labels`"
            )
        return numbers[label]


def _labels(task: str, options: ClassifyOptions, row: Row) -> list[str]:
    return labels_of(task, row, options.label, options.multi_label, options.separator)
