"""`order`: do two parts of a text follow one another (BERT's NSP, ALBERT's SOP)?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from unmask.batch import Batch, Example
from unmask.encoder import HeadConfig
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks.base import Answer, Draw, Outputs, Row
from unmask.tasks.pooled import PooledTask
from unmask.tasks.tally import Choices, Tally

# The end of a sentence or of a line. A full stop counts before white space only ("3.14"); a
# Chinese one needs none.
# The quantifiers give nothing back, so that a line of dots takes no more time than another.
_END = re.compile(r"""(?<![.!?…؟।])[.!?…؟।]++["'”’)\]]*+(?=\s)|[。！？]++["'”’」』）]*+|[\r\n]++""")
_LABELS = ("in order", "not in order")
_TRIES = 10  # for a row with another text, as in BERT


class OrderOptions(TaskOptions):
    """What a text in its own order is told from."""

    kind: Literal["order"] = "order"
    contrast: Literal["sop", "nsp"] = Field(
        "sop",
        description="sop: the same two parts swapped (arXiv:1909.11942); nsp: a second part from "
        "another row (arXiv:1810.04805)",
    )


@dataclass(frozen=True)
class Sentence:
    """Where a sentence stands in its text, and how many tokens it has."""

    start: int
    end: int
    tokens: int


@dataclass(frozen=True)
class OrderAnswer(Answer):
    """The probability that the second part follows the first."""

    draw: ClassVar[str] = "bars"

    in_order: float
    truth: bool | None = None  # where it is known

    @property
    def short(self) -> str:
        """In order, or not."""
        return _LABELS[self.in_order < 0.5]

    def columns(self) -> dict[str, Any]:
        """The verdict, its probability, and that of the order holding."""
        return {
            "prediction": self.short,
            "probability": max(self.in_order, 1 - self.in_order),
            "in_order": self.in_order,
            **super().columns(),
        }


class Order(PooledTask[OrderOptions, OrderAnswer]):
    """Pairs of neighbouring parts, half of them put out of order.

    One text column is cut at its sentences and lines: a text longer than a sequence gives several
    pairs, and one without a second sentence none. Two columns are the two parts.
    """

    kind = "order"
    Options = OrderOptions
    headline = "accuracy"
    width = 2
    measure = "probability"

    @property
    def head(self) -> HeadConfig:
        """BERT's pooler."""
        return HeadConfig(activation="tanh")

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        if not draw.truth:
            yield self._to_judge(row)
            return
        for first, second in self._neighbours(row, draw):
            holds = bool(draw.rng.random() < 0.5)
            if holds:
                pair = (first, second)
            elif self.options.contrast == "sop":
                pair = (second, first)
            else:
                stranger = self._stranger(row, self.text.count(second), draw)
                if stranger is None:
                    continue
                pair = (first, stranger)
            encoded = self.text.encode(*pair, self.limit(draw))
            truth = {"label": np.array([0 if holds else 1])}  # as BERT numbers them
            yield Example((encoded.sequence(),), (np.zeros(1, dtype=np.int64),), truth)

    def _neighbours(self, row: Row, draw: Draw) -> Iterator[tuple[str, str]]:
        """Parts of the row that follow one another, short enough to be read together."""
        text, *pair = self.texts(row)
        if pair:
            if text.strip() and pair[0].strip():
                yield text, pair[0]
            return
        for chunk in self._chunks(text, self.limit(draw)):
            if len(chunk) > 1:
                yield _split(text, chunk, int(draw.rng.integers(1, len(chunk))))

    def _stranger(self, row: Row, tokens: int, draw: Draw) -> str | None:
        """A part of another row's text, about as long; None if no row has another text.

        It begins behind a first sentence where there are more, as a true second part does.
        """
        own, column = self.texts(row), self.options.inputs[-1]
        for _ in range(_TRIES if draw.others else 0):
            other = draw.others[int(draw.rng.integers(len(draw.others)))]
            text = self.text_of(other, column)
            found = list(_sentences(text))
            if text == own[-1] or not found:
                continue
            if len(own) == 2:
                return text
            start = int(draw.rng.integers(1, len(found))) if len(found) > 1 else 0
            end = found[start][1]
            for sentence in found[start:]:
                tokens -= self.text.count(text[slice(*sentence)])
                if tokens < 0:
                    break
                end = sentence[1]
            return text[found[start][0] : end]
        return None

    def _to_judge(self, row: Row) -> Example:
        """The row's pair, or its text cut near the middle, in the order given."""
        text, *pair = self.texts(row)
        beyond = 0
        if pair:
            parts = (text, pair[0])
        else:
            chunk, *rest = [*self._chunks(text, self.options.max_length)] or [[]]
            if len(chunk) < 2:
                raise UserError(
                    f"task {self.name}: the text {text[:40]!r} has one sentence, so there is no "
                    "order to judge; give it more sentences or lines, or drop the row"
                )
            beyond = sum(sentence.tokens for chunk in rest for sentence in chunk)
            middle = (chunk[0].start + chunk[-1].end) / 2
            cut = min(range(1, len(chunk)), key=lambda i: abs(chunk[i].start - middle))
            parts = _split(text, chunk, cut)
        sequence = self.text.encode(*parts, self.options.max_length).sequence()
        sequence = replace(sequence, dropped=sequence.dropped + beyond)
        return Example((sequence,), (np.zeros(1, dtype=np.int64),))

    def _chunks(self, text: str, limit: int | None) -> Iterator[list[Sentence]]:
        """Neighbouring sentences that fit a sequence; two at least, but for the last chunk."""
        special = self.text.tokenizer.num_special_tokens_to_add(is_pair=True)
        room = min(limit or self.text.max_length, self.text.max_length) - special
        chunk: list[Sentence] = []
        used = 0
        for start, end in _sentences(text):
            sentence = Sentence(start, end, self.text.count(text[start:end]))
            if len(chunk) > 1 and used + sentence.tokens > room:
                yield chunk
                chunk, used = [], 0
            chunk.append(sentence)
            used += sentence.tokens
        if chunk:
            yield chunk

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs["logits"].float(), batch.truth["label"], reduction="sum")

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[OrderAnswer]:
        chances = outputs["logits"].float().softmax(-1)[:, 0].tolist()
        return [
            OrderAnswer(
                tokens=example.length,
                dropped=example.sequences[0].dropped,
                in_order=p,
                truth=bool(example.truth["label"][0] == 0) if example.truth else None,
            )
            for p, example in zip(chances, examples, strict=True)
        ]

    def tally(self, answers: Sequence[OrderAnswer], rows: Sequence[Row]) -> Tally:
        """How often the likelier answer is right, and the mean loss in nats."""
        hits = [(answer.in_order >= 0.5) == answer.truth for answer in answers]
        losses = [self.surprise(answer, row) for answer, row in zip(answers, rows, strict=True)]
        return Tally.of_means(accuracy=hits, loss=losses)

    def choices(self, answers: Sequence[OrderAnswer], rows: Sequence[Row]) -> Choices:
        p = np.array([answer.in_order for answer in answers])
        truth = np.array([0 if answer.truth else 1 for answer in answers])
        return Choices(_LABELS, truth, np.where(p >= 0.5, 0, 1), np.stack([p, 1 - p], axis=1))

    def surprise(self, answer: OrderAnswer, row: Row) -> float:
        """Minus the log-probability of the truth."""
        p = answer.in_order if answer.truth else 1 - answer.in_order
        return -math.log(max(p, 1e-12))

    def truth(self, row: Row) -> str:
        return " | ".join(self.texts(row))

    def explain_target(self, outputs: Outputs, answer: OrderAnswer) -> Tensor:
        """The log-odds of what is answered."""
        logits = outputs["logits"].float()
        odds = (logits[:, 0] - logits[:, 1]).sum()
        return odds if answer.in_order >= 0.5 else -odds

    def explain_value(self, outputs: Outputs, answer: OrderAnswer) -> Tensor:
        """The probability of what is answered."""
        return self.explain_target(outputs, answer).sigmoid()


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences and lines of a text begin and end; blank ones are left out."""
    start = 0
    for found in [*_END.finditer(text), None]:
        end = len(text) if found is None else found.end()
        part = text[start:end]
        if part.strip():
            lead = len(part) - len(part.lstrip())
            yield start + lead, start + len(part.rstrip())
        start = end


def _split(text: str, chunk: Sequence[Sentence], cut: int) -> tuple[str, str]:
    """The text of the sentences before the cut, and of those behind it."""
    first = text[chunk[0].start : chunk[cut - 1].end]
    return first, text[chunk[cut].start : chunk[-1].end]
