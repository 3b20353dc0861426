"""`span`: the stretch of a context that answers a question (SQuAD, arXiv:1606.05250)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.recipe import TaskOptions
from unmask.tasks.base import Draw, Outputs, Row, Runner, Task, placed, said_of, text_in
from unmask.tasks.candidates import Reading, SpanAnswer
from unmask.tasks.gold import Gold, read_gold, survey
from unmask.tasks.imitation import SOFTNESS
from unmask.tasks.overlap import exact, f1
from unmask.tasks.windows import best_threshold, draw_windows, grouped_logsumexp, mark


class SpanOptions(TaskOptions):
    """How long contexts are read, and what may be an answer."""

    reading: ClassVar[tuple[str, ...]] = (
        *TaskOptions.reading,
        "answers",
        "no_answer",
        "overlap",
        "max_answer",
    )

    kind: Literal["span"] = "span"
    input: str | list[str] = Field(
        ["question", "context"], description="the columns of the question and of its context"
    )
    answers: str = Field(
        "answers", description="the column with a list of {text, start}, empty for no answer"
    )
    no_answer: bool = Field(False, description="a context may hold no answer, as in SQuAD 2.0")
    overlap: int = Field(
        64, ge=0, description="tokens that neighbouring windows of a long context share"
    )
    max_answer: int = Field(30, gt=0, description="longest answer in tokens")
    windows: int = Field(
        16, gt=1, description="most windows of one context to learn from, drawn anew each epoch"
    )
    head: HeadConfig | None = Field(
        None, description="how logits are made (as the encoder's family makes them unless said)"
    )

    @field_validator("input")
    @classmethod
    def _two(cls, input: str | list[str]) -> str | list[str]:
        if isinstance(input, str) or len(input) != 2:
            raise ValueError("name two columns: that of the question, then that of its context")
        return input

    @field_validator("head")
    @classmethod
    def _each_position(cls, head: HeadConfig | None) -> HeadConfig | None:
        if head is not None and head.pooling != "none":
            raise ValueError("pooling: each token may begin or end an answer, so pool by none")
        return head

    @property
    def held_by(self) -> tuple[str, ...]:
        """The context, unless said: all questions on one stay on one side."""
        return (self.group or self.inputs[1],)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and that of the answers."""
        return (*super().needed, self.answers)


class Span(Task[SpanOptions, SpanAnswer]):
    """Where an answer begins and where it ends, each a softmax over all windows of a context.

    A long context is read in overlapping windows with the question in each. They are one group,
    and normalised together (Clark & Gardner, arXiv:1710.10723): a window without the answer
    learns to be less sure than the one with it. Several gold answers, and one that stands in
    several windows, share the probability (the loss is that of their sum). Where there may be no
    answer, each window's first position, [CLS], stands for that (SQuAD 2.0, arXiv:1806.03822).
    """

    kind = "span"
    Options = SpanOptions
    headline = "f1"
    measure = "probability"

    @classmethod
    def study(cls, name: str, options: SpanOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """No facts; but what is wrong with the training rows is said."""
        if not _survey(name, options, rows, "train"):
            raise UserError(
                f"task {name}: in none of the training rows does the answer stand in the context; "
                "are the columns of `input` in the order question, context?"
            )
        return {}

    @property
    def head(self) -> HeadConfig:
        """How this task's logits are made."""
        return self.options.head or HeadConfig(pooling="none", dropout=0)

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows without an answer unless there may be none; say what else is wrong."""
        _survey(self.name, self.options, rows, split)

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        question, context = self.texts(row)
        options = self.options
        windows = list(self.text.windows(context, options.max_length, question, options.overlap))
        wanted = [self._candidates(window) for window in windows]
        offsets = [window.offsets[own] for window, own in zip(windows, wanted, strict=True)]
        truth = {}
        chosen = np.arange(len(windows))
        if draw.truth:
            gold = self._mark(_gold(self.name, options, row), context, offsets)
            if draw.learn and not any(own.any() for own in gold):
                return
            if draw.learn and len(windows) > options.windows:
                chosen = draw_windows(gold, options.windows, draw.rng)
            truth["gold"] = np.concatenate([gold[i] for i in chosen])  # (n, 2) bool: begin, end
        yield Example(
            tuple(windows[i].sequence() for i in chosen),
            tuple(wanted[i] for i in chosen),
            truth,
            Reading(context, tuple(offsets[i] for i in chosen), options.no_answer),
        )

    def _candidates(self, window: Encoded) -> np.ndarray:
        """The positions of the context; before them [CLS], where there may be no answer."""
        inside = np.flatnonzero(window.sides == 1)
        return np.concatenate(([0], inside)) if self.options.no_answer else inside

    def _mark(
        self, gold: Sequence[Gold], context: str, offsets: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Which candidates of each window begin (n, 2)[:, 0] and end [:, 1] a gold answer."""
        first = int(self.options.no_answer)
        marks = [np.zeros((len(own), 2), dtype=bool) for own in offsets]
        if not gold:
            for own in marks:
                own[:first] = True
        tokens = [own[first:] for own in offsets]
        for found in (answer.find(context) for answer in gold):
            if found is not None:
                mark([own[first:] for own in marks], tokens, *found)
        return marks

    def build(self, encoder: Encoder) -> nn.Module:
        return LabelHead(encoder.config, self.head, 2)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return {"logits": head(hidden.wanted, batch.wanted_owner, batch.sequences)}  # (N, 2)

    def targets(self, batch: Batch) -> int:
        return _examples(batch)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Minus the log-probability of all gold beginnings and of all gold ends, halved."""
        logits, gold = outputs["logits"].float(), batch.truth["gold"]  # (N, 2)
        group, groups = batch.group[batch.wanted_owner], _examples(batch)  # (N,)
        every = grouped_logsumexp(logits, group, groups)  # (E, 2)
        right = grouped_logsumexp(logits.masked_fill(~gold, -math.inf), group, groups)
        return (every - right).sum() / 2

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """Over all windows of a context, of beginnings and of ends, halved."""
        assert batch is not None
        group, groups = batch.group[batch.wanted_owner], _examples(batch)  # (N,)
        q, p = (
            logits - grouped_logsumexp(logits, group, groups)[group]
            for logits in (out["logits"].float() / SOFTNESS for out in (outputs, others))
        )  # (N, 2)
        return (p.exp() * (p - q)).sum() / 2 * SOFTNESS**2

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example], top: int = 1
    ) -> list[SpanAnswer]:
        logits = outputs["logits"].double().cpu().numpy()  # (N, 2)
        gold = batch.truth["gold"].cpu().numpy() if "gold" in batch.truth else None
        result, at = [], 0
        for example in examples:
            own = slice(at, at + sum(len(wanted) for wanted in example.wanted))
            at = own.stop
            best, null = example.notes.best(logits[own], self.options.max_answer, top)
            result.append(
                SpanAnswer(
                    tokens=example.length,
                    dropped=sum(s.dropped for s in example.sequences),
                    candidates=tuple(best),
                    null=null,
                    threshold=self.calibration.get("threshold", 0.0),
                    loss=None if gold is None else _loss(logits[own], gold[own]),
                )
            )
        return result

    def predict(
        self, run: Runner[SpanAnswer], examples: Iterable[Example], options: Mapping[str, Any]
    ) -> Iterator[SpanAnswer]:
        """Answers with the `top` best candidates (1 unless said)."""
        return run(examples, partial(self.answers, top=max(int(options.get("top", 1)), 1)))

    def fit(self, answers: Sequence[SpanAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """The threshold that gives the best F1, as SQuAD 2.0 chooses it.

        Nothing where the rows cannot tell: all of them have an answer, or none has.
        """
        gold = [self._texts_of_gold(row) for row in rows]
        if not self.options.no_answer or all(gold) or not any(gold):
            return {}
        best = [answer.candidates[0].text if answer.candidates else "" for answer in answers]
        gained = [f1(text, own) for text, own in zip(best, gold, strict=True)]
        silent = [float(not own) for own in gold]
        margins = [answer.margin for answer in answers]
        return {"threshold": best_threshold(margins, gained, silent)}

    def score(self, answers: Sequence[SpanAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """F1 and exact match; where there may be no answer, also of either kind of rows alone."""
        gold = [self._texts_of_gold(row) for row in rows]
        values = np.array(
            [[f1(a.text, g), exact(a.text, g)] for a, g in zip(answers, gold, strict=True)]
        )
        scores = {"f1": float(values[:, 0].mean()), "exact_match": float(values[:, 1].mean())}
        has = np.array([bool(own) for own in gold])
        if self.options.no_answer and has.any() and not has.all():
            scores["f1_answerable"] = float(values[has, 0].mean())
            scores["accuracy_unanswerable"] = float(values[~has, 1].mean())
        return scores

    def surprise(self, answer: SpanAnswer, row: Row) -> float:
        """Minus the log-probability of the truth."""
        assert answer.loss is not None
        return answer.loss

    def truth(self, row: Row) -> str:
        return " / ".join(dict.fromkeys(self._texts_of_gold(row))) or "(no answer)"

    def explained(
        self, example: Example, answer: SpanAnswer, wanted: str | None = None
    ) -> tuple[Example, SpanAnswer]:
        """Any stretch of the context may be named, of whole tokens, where it first stands."""
        if wanted is not None:
            found = example.notes.find(wanted)
            if found is None:
                raise UserError(
                    f"task {self.name}: {wanted!r} does not stand in the context, or not in whole "
                    "tokens; name a part of it"
                )
            return example, replace(answer, candidates=(found,), null=None)
        if answer.best is None and answer.null is None:
            raise UserError(f"task {self.name}: the context is empty: there is nothing to explain")
        return example, answer

    def explain_target(self, outputs: Outputs, answer: SpanAnswer) -> Tensor:
        """The score of the answer: the logits of its beginning and of its end."""
        return self._ends(outputs["logits"].float(), answer)

    def explain_value(self, outputs: Outputs, answer: SpanAnswer) -> Tensor:
        """The probability of its beginning and its end, over all windows."""
        return self._ends(outputs["logits"].float().log_softmax(0), answer).exp()

    def _ends(self, scores: Tensor, answer: SpanAnswer) -> Tensor:
        """The sum of what scores (N, 2) say of the answer's beginning and of its end."""
        chosen = answer.best or answer.null
        if chosen is None:  # of an empty context, which says nothing
            return scores.sum() * 0
        begin, end = chosen.places
        return scores[begin, 0] + scores[end, 1]

    def _texts_of_gold(self, row: Row) -> list[str]:
        return [answer.text for answer in _gold(self.name, self.options, row)]


def _gold(task: str, options: SpanOptions, row: Row) -> tuple[Gold, ...]:
    gold = read_gold(row.get(options.answers), f"task {task}: column {options.answers!r}")
    if not gold and not options.no_answer:
        raise UserError(
            f"task {task}: a row has no answer in column {options.answers!r} "
            f"({str(row.get(options.inputs[0]))[:80]!r}); set `no_answer: true`, or drop such rows"
        )
    return gold


def _survey(task: str, options: SpanOptions, rows: Iterable[Row], split: str) -> int:
    def read() -> Iterator[tuple[str, tuple[Gold, ...]]]:
        for where, row in placed(rows, split):
            with said_of(where):
                _, context = (text_in(task, row, column) for column in options.inputs)
                gold = _gold(task, options, row)
            yield context, gold

    return survey(task, split, read())


def _examples(batch: Batch) -> int:
    """E, how many examples there are in a batch."""
    return int(batch.group[-1]) + 1 if len(batch.group) else 0


def _loss(logits: np.ndarray, gold: np.ndarray) -> float:
    """Minus the log-probability of the gold beginnings and ends: (n, 2), (n, 2) bool."""
    every = np.logaddexp.reduce(logits, axis=0, initial=-math.inf)
    right = np.logaddexp.reduce(np.where(gold, logits, -math.inf), axis=0, initial=-math.inf)
    return min(float((every - right).mean()) if gold.any() else math.inf, -math.log(1e-12))
