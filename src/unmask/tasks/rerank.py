"""`rerank`: how well a document answers a query, the two read together (a cross-encoder)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.errors import UserError
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task, check_texts, placed, said_of
from unmask.tasks.imitation import towards, towards_each
from unmask.tasks.negatives import check_pairs, negatives_of
from unmask.tasks.pooled import PooledOptions, PooledTask

_TRIES = 10  # for each document of another row


class RerankOptions(PooledOptions):
    """A row is a query and a document that answers it; or, with `label`, how well it does."""

    reading: ClassVar[tuple[str, ...]] = (*PooledOptions.reading, "negatives")

    kind: Literal["rerank"] = "rerank"
    input: str | list[str] = Field(["query", "document"], description="the two text columns")
    label: str | None = Field(  # type: ignore[assignment]
        None, description="the column with 0 or 1, or a grade: how well the document answers"
    )
    negatives: str | None = Field(
        None, description="without `label`: the column of texts that do not answer the query"
    )
    random_negatives: int = Field(
        4, ge=0, description="documents of other rows, in place of negatives that a row lacks"
    )

    @model_validator(mode="after")
    def _one_way(self) -> RerankOptions:
        if len(self.inputs) != 2:
            raise ValueError("input: name two columns, of the query and of the document")
        if self.label and self.negatives:
            raise ValueError("negatives: with `label`, a wrong document is a row with label 0")
        return self


@dataclass(frozen=True)
class RelevanceAnswer(Answer):
    """The logit of a row's document, and behind it those of the documents it was set against."""

    draw: ClassVar[str] = "bars"

    logits: tuple[float, ...]

    @property
    def relevance(self) -> float:
        """The probability that the document answers the query."""
        return 1 / (1 + math.exp(-self.logits[0])) if self.logits[0] > -700 else 0.0

    @property
    def short(self) -> str:
        """The probability."""
        return f"{self.relevance:.4f}"

    def columns(self) -> dict[str, Any]:
        """The relevance and its logit."""
        return {"relevance": self.relevance, "logit": self.logits[0], **super().columns()}


class Rerank(PooledTask[RerankOptions, RelevanceAnswer]):
    """One logit for a pair (Nogueira & Cho, arXiv:1901.04085).

    Without labels, a softmax over the row's document and its negatives, which are one group; with
    labels, each row by itself.
    """

    kind = "rerank"
    Options = RerankOptions
    width = 1
    measure = "probability"

    @property
    def headline(self) -> str:  # type: ignore[override]
        """The mean reciprocal rank within the group, or the accuracy."""
        return "accuracy" if self.options.label else "mrr"

    @classmethod
    def study(cls, name: str, options: RerankOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The highest grade, where there are grades: it stands for certain relevance."""
        if not options.label:
            check_pairs(name, options, options.negatives, rows, "train")
            return {}
        grades = set()
        for where, row in placed(rows, "train"):
            with said_of(where):
                grades.add(_grade(name, options.label, row))
                check_texts(name, options, row)
        if len(grades) < 2:
            raise UserError(
                f"task {name}: the training rows have {len(grades)} label(s) in column "
                f"{options.label!r}; there must be good and bad documents"
            )
        return {"highest": max(1.0, *grades)}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows without text, and labels that are no grades or higher than in training."""
        if not self.options.label:
            check_pairs(self.name, self.options, self.options.negatives, rows, split)
            return
        for where, row in placed(rows, split):
            with said_of(where):
                self._relevance(row)
                check_texts(self.name, self.options, row)

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        query, document = self.texts(row)
        documents = [document]
        truth: dict[str, np.ndarray] = {}
        if draw.truth:
            if not query.strip() or not document.strip():
                return []
            if self.options.label:
                truth = {"label": np.array([self._relevance(row)], dtype=np.float32)}
            else:
                documents += negatives_of(
                    self.name, self.options.negatives, row
                ) or self._strangers(query, document, draw)
                if len(documents) == 1:
                    return []  # nothing to tell it from
                truth = {"size": np.array([len(documents)])}
        limit = self.options.max_length
        sequences = [self.text.encode(query, one, limit).sequence() for one in documents]
        return [Example(tuple(sequences), tuple(map(self.wanted, sequences)), truth)]

    def _strangers(self, query: str, document: str, draw: Draw) -> list[str]:
        """Documents of other queries, no two the same; fewer where there are not enough."""
        found: list[str] = []
        count = self.options.random_negatives
        for _ in range(_TRIES * count if draw.others else 0):
            if len(found) == count:
                break
            other, text = self.texts(draw.others[int(draw.rng.integers(len(draw.others)))])
            if other != query and text != document and text not in found and text.strip():
                found.append(text)
        return found

    def targets(self, batch: Batch) -> int:
        return len(next(iter(batch.truth.values())))

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits = outputs["logits"].float()[:, 0]  # (S,)
        if self.options.label:
            truth = batch.truth["label"]
            return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        groups = torch.split(logits, batch.truth["size"].tolist())
        table = nn.utils.rnn.pad_sequence([*groups], batch_first=True, padding_value=-torch.inf)
        right = table.new_zeros(len(table), dtype=torch.long)  # a group's first
        return F.cross_entropy(table, right, reduction="sum")

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """Over the documents of a group, or of each row by itself where there are labels."""
        assert batch is not None
        ours, theirs = (out["logits"].float()[:, 0] for out in (outputs, others))  # (S,)
        if self.options.label:
            return towards_each(ours, theirs)
        sizes = batch.truth["size"].tolist()
        pairs = zip(torch.split(ours, sizes), torch.split(theirs, sizes), strict=True)
        return torch.stack([towards(a, b) for a, b in pairs]).sum()

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[RelevanceAnswer]:
        sizes = [len(example.sequences) for example in examples]
        groups = torch.split(outputs["logits"].float()[:, 0].cpu(), sizes)
        return [
            RelevanceAnswer(
                tokens=example.length,
                dropped=sum(s.dropped for s in example.sequences),
                logits=tuple(group.tolist()),
            )
            for example, group in zip(examples, groups, strict=True)
        ]

    def score(self, answers: Sequence[RelevanceAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """The place of the row's document in its group; accuracy and ROC-AUC with labels.

        A grade of at least half the highest counts as relevant.
        """
        if not self.options.label:
            # What is as high as the document stands before it: the same logit for all finds none.
            places = np.array([sum(not x < a.logits[0] for x in a.logits) for a in answers])
            return {"mrr": float((1 / places).mean()), "recall_at_1": float((places == 1).mean())}
        from sklearn.metrics import roc_auc_score

        truth = np.array([self._relevance(row) >= 0.5 for row in rows])
        relevance = np.array([answer.relevance for answer in answers])
        found = {"accuracy": float(((relevance >= 0.5) == truth).mean())}
        if truth.any() and not truth.all():
            found["roc_auc"] = float(roc_auc_score(truth, relevance))
        return found

    def surprise(self, answer: RelevanceAnswer, row: Row) -> float:
        """Minus the log-probability of the truth: of the document in its group, or of the label."""
        if self.options.label:
            truth, p = self._relevance(row), min(max(answer.relevance, 1e-12), 1 - 1e-12)
            return -truth * math.log(p) - (1 - truth) * math.log1p(-p)
        logits = np.array(answer.logits)
        return float(np.logaddexp.reduce(logits) - logits[0])

    def truth(self, row: Row) -> str:
        """The label, or the document."""
        return str(row[self.options.label]) if self.options.label else self.texts(row)[1]

    def explain_target(self, outputs: Outputs, answer: RelevanceAnswer) -> Tensor:
        """The logit of the row's document."""
        return outputs["logits"].float()[0, 0]

    def explain_value(self, outputs: Outputs, answer: RelevanceAnswer) -> Tensor:
        """The probability that the document answers the query."""
        return self.explain_target(outputs, answer).sigmoid()

    def _relevance(self, row: Row) -> float:
        """The row's label as a share of the highest in training."""
        grade, highest = _grade(self.name, self.options.label or "", row), self.facts["highest"]
        if grade > highest:
            raise UserError(
                f"task {self.name}: label {grade:g} is over {highest:g}, the highest in the "
                "training rows; mend the row, or train with some like it"
            )
        return float(grade / highest)


def _grade(task: str, column: str, row: Row) -> float:
    value = row.get(column)
    try:
        grade = float(value if isinstance(value, str) else value + 0)  # type: ignore[operator]
    except (TypeError, ValueError):
        grade = math.nan
    if not 0 <= grade < math.inf:
        raise UserError(
            f"task {task}: column {column!r} holds {value!r} and no grade; labels are 0 and 1, or "
            "any numbers from 0 on: the higher, the better the document answers"
        )
    return grade
