"""`regress`: a number for a text or a pair, or an ordered class by its place on a scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from unmask.batch import Batch, Example
from unmask.errors import UserError
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task, check_texts, placed, said_of
from unmask.tasks.pooled import PooledOptions, PooledTask
from unmask.tasks.promises import Promise, bound, check_fitted, ladder


class RegressOptions(PooledOptions):
    """The column with the number; `values` where it holds names of places on a scale."""

    reading: ClassVar[tuple[str, ...]] = (*PooledOptions.reading, "values")

    kind: Literal["regress"] = "regress"
    values: dict[str, float] | None = Field(
        None, description="numbers of named classes, as {negative: 0, neutral: 1, positive: 2}"
    )
    known: Literal["mahalanobis", "neighbours"] | None = Field(
        None, description="the score by which answers say whether a text is like those learnt"
    )


@dataclass(frozen=True)
class NumberAnswer(Answer):
    """The number, and the named class nearest to it where classes have names."""

    value: float
    name: str | None = None

    @property
    def short(self) -> str:
        """The class, or else the number."""
        return self.name if self.name is not None else f"{self.value:.4g}"

    def columns(self) -> dict[str, Any]:
        """The prediction, and its number."""
        said = self.value if self.name is None else self.name
        return {"prediction": said, "value": self.value, **super().columns()}


class Regress(PooledTask[RegressOptions, NumberAnswer]):
    """Least squares on numbers brought to mean 0 and deviation 1 over the training rows."""

    kind = "regress"
    Options = RegressOptions
    reads_rows = True
    measure = "number"
    width = 1
    undefined: ClassVar = dict.fromkeys(
        ("spearman", "pearson"), "the rows' numbers, or the answers, are all the same"
    )

    @property
    def headline(self) -> str:  # type: ignore[override]
        """Accuracy of named classes, else the rank correlation, which may be below 0."""
        return "accuracy" if self.options.values else "spearman"

    @classmethod
    def study(cls, name: str, options: RegressOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """Mean and deviation of the training rows' numbers."""
        numbers = np.array([*_numbers(name, options, rows, "train")])
        if len(numbers) == 0 or np.ptp(numbers) == 0:
            raise UserError(
                f"task {name}: column {options.label!r} holds the same number in all "
                f"{len(numbers)} training rows, so there is nothing to learn"
            )
        return {"mean": float(numbers.mean()), "deviation": float(numbers.std())}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows without text or without a number."""
        for _ in _numbers(self.name, self.options, rows, split):
            pass

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        sequence = self.encode(row).sequence()
        truth = {}
        if draw.truth:
            number = _number(self.name, self.options, row)
            scaled = (number - self.facts["mean"]) / self.facts["deviation"]
            truth["label"] = np.array([scaled], dtype=np.float32)
        return [Example((sequence,), (self.wanted(sequence),), truth)]

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Half the squared error: minus the log-likelihood under unit noise, but for a constant."""
        return (outputs["logits"].float()[:, 0] - batch.truth["label"]).square().sum() / 2

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """Half the squared difference of the numbers, in deviations of this task's rows."""
        numbers = others["logits"].float()[:, 0] * teacher.facts["deviation"]
        scaled = (numbers + teacher.facts["mean"] - self.facts["mean"]) / self.facts["deviation"]
        return (outputs["logits"].float()[:, 0] - scaled).square().sum() / 2

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[NumberAnswer]:
        scaled = outputs["logits"].float()[:, 0].cpu().numpy().astype(np.float64)
        numbers = scaled * self.facts["deviation"] + self.facts["mean"]
        return [
            NumberAnswer(
                tokens=example.length,
                dropped=sum(s.dropped for s in example.sequences),
                value=float(number),
                name=self._nearest(number),
                known=known,
            )
            for number, known, example in zip(
                numbers, self.known_of(outputs), examples, strict=True
            )
        ]

    @property
    def known_by(self) -> Literal["mahalanobis", "neighbours"] | None:
        """As the options say."""
        return self.options.known

    def promises(self, answers: Sequence[NumberAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """How far these answers were from the rows' numbers."""
        truth = np.array([_number(self.name, self.options, row) for row in rows])
        away = np.abs(np.array([answer.value for answer in answers]) - truth)
        return {"rows": len(rows), "coverage": ladder(away)}

    def hedged(
        self, answers: Sequence[NumberAnswer], asked: Mapping[str, float], form: str
    ) -> list[NumberAnswer]:
        """Intervals of one width around the numbers."""
        if "risk" in asked:
            raise UserError(
                f"task {self.name}: risk is for kinds that are right or wrong; a number has an "
                "interval: ask for coverage"
            )
        record = check_fitted(self.name, self.calibration.get("promises"), form)
        away = bound(record["coverage"], record["rows"], asked["coverage"])
        return [
            replace(
                answer,
                promise=Promise(
                    record["rows"],
                    asked["coverage"],
                    interval=(answer.value - away, answer.value + away),
                ),
            )
            for answer in answers
        ]

    def holds(self, answer: NumberAnswer, row: Row) -> bool:
        if answer.promise is None or answer.promise.interval is None:
            return False
        low, high = answer.promise.interval
        return low <= _number(self.name, self.options, row) <= high

    def _nearest(self, number: float) -> str | None:
        values = self.options.values
        return min(values, key=lambda name: abs(values[name] - number)) if values else None

    def score(self, answers: Sequence[NumberAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """Correlations, NaN where either side never varies; errors; of classes as `classify`."""
        from scipy.stats import pearsonr, spearmanr
        from sklearn.metrics import accuracy_score, f1_score

        truth = np.array([_number(self.name, self.options, row) for row in rows])
        guess = np.array([answer.value for answer in answers])
        varies = len(rows) > 1 and np.ptp(truth) > 0 and np.ptp(guess) > 0
        found = {
            "spearman": float(spearmanr(truth, guess).statistic) if varies else math.nan,
            "pearson": float(pearsonr(truth, guess).statistic) if varies else math.nan,
            "mae": float(np.abs(truth - guess).mean()),
            "rmse": float(np.sqrt(np.square(truth - guess).mean())),
        }
        if self.options.values:
            names = [self.truth(row) for row in rows]
            guessed = [answer.name for answer in answers]
            found["accuracy"] = float(accuracy_score(names, guessed))
            found["f1_macro"] = float(f1_score(names, guessed, average="macro", zero_division=0))
        return found

    def surprise(self, answer: NumberAnswer, row: Row) -> float:
        """Half the squared error in deviations."""
        error = answer.value - _number(self.name, self.options, row)
        return (error / self.facts["deviation"]) ** 2 / 2

    def truth(self, row: Row) -> str:
        return str(row[self.options.label]).strip()

    def explain_target(self, outputs: Outputs, answer: NumberAnswer) -> Tensor:
        """The number itself, in deviations."""
        return outputs["logits"].float().sum()

    def explain_value(self, outputs: Outputs, answer: NumberAnswer) -> Tensor:
        """The number in the rows' own unit."""
        scaled = self.explain_target(outputs, answer)
        return scaled * self.facts["deviation"] + self.facts["mean"]


def _numbers(
    task: str, options: RegressOptions, rows: Iterable[Row], split: str
) -> Iterator[float]:
    """The numbers of rows, which are refused where they lack that or a text."""
    for where, row in placed(rows, split):
        with said_of(where):
            check_texts(task, options, row)
            yield _number(task, options, row)


def _number(task: str, options: RegressOptions, row: Row) -> float:
    value = row.get(options.label)
    if options.values is not None:
        name = str(value).strip()
        if name not in options.values:
            raise UserError(
                f"task {task}: column {options.label!r} holds {value!r}, which `values` does not "
                f"name; it names {', '.join(options.values)}"
            )
        return options.values[name]
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, Mapping | list) or not math.isfinite(number):
        raise UserError(
            f"task {task}: column {options.label!r} holds {value!r} and no number; mend the row, "
            "or give the numbers of named classes in `values`"
        )
    return number
