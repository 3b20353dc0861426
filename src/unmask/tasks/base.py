"""What a task is: the contract that every kind keeps, one file a kind."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.batch import Sequence as Positions
from unmask.data.rows import Rows
from unmask.encoder import Encoder, Hidden, Pooling
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.inputs.text import TextInput
from unmask.recipe import TaskOptions
from unmask.tasks.cells import Row, check_texts, described, mixed, said_of, text_in
from unmask.tasks.known import Known
from unmask.tasks.promises import Promise
from unmask.tasks.tally import Choices, Tally
from unmask.tokens import Tokens

# What kinds need to look into rows is theirs to import from here.
__all__ = [
    "Answer",
    "AnyAnswer",
    "AnyOptions",
    "Draw",
    "Outputs",
    "Row",
    "Runner",
    "Task",
    "check_texts",
    "disagreement",
    "placed",
    "row_rng",
    "said_of",
    "text_in",
]

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Answer:
    """What a task says of one row. `tokens` were read and `dropped` were cut, never silently.

    `known` says whether the row is like those learnt from, where validation rows taught the task to
    tell; `promise` is there where one was asked for.
    """

    draw: ClassVar[str] = "text"  # how a page should draw it

    tokens: int
    dropped: int
    known: Known | None = field(default=None, kw_only=True)
    promise: Promise | None = field(default=None, kw_only=True)

    @property
    def short(self) -> str:
        """The answer in a word or a line, for people."""
        return ""

    @property
    def marks(self) -> list[str]:
        """What a reader of the answer should know, a line each."""
        return []

    def columns(self) -> dict[str, Any]:
        """The answer as plain columns, for CSV and JSON."""
        return {
            **(self.promise.columns() if self.promise else {}),
            **(self.known.columns() if self.known else {}),
            "tokens": self.tokens,
            "dropped": self.dropped,
        }


@dataclass(frozen=True)
class Draw:
    """What an example is made with, beside its row."""

    rng: np.random.Generator
    truth: bool = True  # False: the row is only to be predicted, and needs no label
    learn: bool = True  # False: nothing is learnt from it, so nothing of it is left out
    progress: float = 1.0  # how much of the run is over, for what changes in its course
    longest: int | None = None  # tokens of a sequence at this stage of the run; None: no limit
    apart: bool = (
        False  # to learn from: a row that is read in windows may give one example for each
    )
    others: Sequence[Row] = ()  # the rows of the split, for kinds that set a text against another


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
AnyOptions = TypeVar("AnyOptions", bound=TaskOptions)


class Runner(Protocol[AnyAnswer]):
    """Runs examples through encoder and head, some at a time; answers come in their order."""

    def __call__(
        self,
        examples: Iterable[Example],
        finish: Callable[[Outputs, Batch, Sequence[Example]], list[AnyAnswer]],
    ) -> Iterator[AnyAnswer]:
        """One pass; `finish` turns each batch's outputs into answers."""

    def steps(
        self,
        examples: Iterable[Example],
        work: Callable[[Encoder, nn.Module, Sequence[Example]], list[AnyAnswer]],
        tokens: int,
    ) -> Iterator[AnyAnswer]:
        """As many passes as `work` needs, over examples of at most `tokens` positions at once."""


class Task(ABC, Generic[AnyOptions, AnyAnswer]):
    """One thing to learn on the shared encoder.

    `facts` is what must be known before the first step and is saved in the bundle, such as the
    labels; `study` finds it in the training rows. `calibration` is what validation rows teach once
    the weights stand; `fit` and `promises` find it. `tensors` are what of it is too large for JSON.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[TaskOptions]]
    headline: ClassVar[str]  # the score, from 0 to 1, that the best checkpoint is chosen by
    reads_rows: ClassVar[bool] = False  # as they stand, each with one example: nothing is drawn
    many_passes: ClassVar[bool] = False  # an answer takes several, which compiled forms have not
    inward: ClassVar[bool] = False  # it compares the encoder's layers with a teacher's, no truth
    undefined: ClassVar[Mapping[str, str]] = {}  # why a score may be NaN, by metric
    measure: ClassVar[str] = "score"  # what `explain_value` is, such as a probability
    explained_apart: ClassVar[bool] = False  # each sequence, while the others stay as they are

    def __init__(
        self,
        name: str,
        options: AnyOptions,
        text: TextInput,
        facts: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.text = text
        self.facts = dict(facts or {})
        self.calibration = dict(calibration or {})
        self.tensors = dict(tensors or {})

    @property
    def meaning(self) -> Mapping[str, Any]:
        """The facts without which the weights of a head mean nothing."""
        return self.facts

    @property
    def pooling(self) -> Pooling | None:
        """How vectors of texts are made, where a task trains that; None by default."""
        return None

    @property
    def pools(self) -> Literal["mean", "cls"] | None:
        """What its head sees of each sequence, where that is one vector: the mean, or the first."""
        return None

    @property
    def chooses(self) -> bool:
        """Whether the best checkpoint is chosen by this task's score, among others."""
        return True

    @property
    def one_pass(self) -> bool:
        """Whether an answer is one pass over the examples as they are, which tasks can share."""
        own = type(self)
        return own.prepare is Task.prepare and own.predict is Task.predict

    @classmethod
    def study(cls, name: str, options: AnyOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The facts that the training rows hold; none by default."""
        return {}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows that contradict the facts; called before training starts."""

    def look_over(self, rows: Sequence[Row]) -> None:
        """Say what is wrong with the training rows, which the tokenizer can read now."""

    def take_over(self, head: nn.Module, others: Iterable[nn.Module]) -> bool:
        """Begin a new head with what the start's other heads know; whether it did."""
        return False

    @abstractmethod
    def examples(self, row: Row, draw: Draw) -> Iterable[Example]:
        """The examples of one row, corruption and truth drawn together from `draw.rng`."""

    @abstractmethod
    def build(self, encoder: Encoder) -> nn.Module:
        """A new head for this encoder."""

    def prepare(self, batch: Batch, head: nn.Module) -> Batch:
        """Change a batch before the encoder sees it; usually there is nothing to do."""
        return batch

    @abstractmethod
    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        """What the head makes of the hidden states: tensors only, so that it can be traced."""

    @abstractmethod
    def targets(self, batch: Batch) -> int:
        """How many targets a batch holds."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The loss summed over targets; only the loop divides, by those of the whole update."""

    def divergence(self, outputs: Outputs, others: Outputs) -> Tensor:
        """How far two passes over a batch disagree, in nats, summed over targets (R-Drop).

        Only kinds whose outputs are distributions have it.
        """
        raise NotImplementedError

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """How far outputs are from those of a teacher, summed over targets (distillation).

        The teacher is a task of the same kind, with the same labels. There is no `batch` where
        examples of several are compared. Only kinds that can be taught so have it.
        """
        raise NotImplementedError

    @abstractmethod
    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[AnyAnswer]:
        """One answer for each example of the batch."""

    def predict(
        self, run: Runner[AnyAnswer], examples: Iterable[Example], options: Mapping[str, Any]
    ) -> Iterator[AnyAnswer]:
        """Answers in the order of the examples: one pass, unless a kind needs more."""
        return run(examples, self.answers)

    def fit(self, answers: Sequence[AnyAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """The calibration that these answers of an uncalibrated task ask for; none by default."""
        return {}

    def promises(self, answers: Sequence[AnyAnswer], rows: Sequence[Row]) -> dict[str, Any]:
        """What these answers of an uncalibrated task promise of others; nothing by default."""
        return {}

    def hedged(
        self, answers: Sequence[AnyAnswer], asked: Mapping[str, float], form: str
    ) -> list[AnyAnswer]:
        """The answers with the promises that are `asked` for, from a model of this form."""
        raise UserError(
            f"task {self.name}: {' and '.join(asked)} is asked for, and kind {self.kind} makes no "
            "such promise; `classify` with one label and `regress` do"
        )

    def holds(self, answer: AnyAnswer, row: Row) -> bool:
        """Whether the truth is in the set or interval that an answer promised."""
        raise NotImplementedError

    def tally(self, answers: Sequence[AnyAnswer], rows: Sequence[Row]) -> Tally | None:
        """What the scores are made of, where they follow from sums over answers.

        Their intervals are then quick to have; without it `score` is asked a few hundred times.
        """
        return None

    def score(self, answers: Sequence[AnyAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """Scores of the answers against the rows' truth: those of the tally unless overridden.

        A score that these rows cannot give is NaN; `undefined` says why.
        """
        tally = self.tally(answers, rows)
        if tally is None:
            raise NotImplementedError(f"kind {self.kind}: write `tally` or `score`")
        return tally.total()

    def choices(self, answers: Sequence[AnyAnswer], rows: Sequence[Row]) -> Choices | None:
        """What was chosen and the truth, of a kind that chooses one of several labels."""
        return None

    @abstractmethod
    def surprise(self, answer: AnyAnswer, row: Row) -> float:
        """How far an answer is from the row's truth, in nats; the worst errors lead a list."""

    @abstractmethod
    def truth(self, row: Row) -> str:
        """The row's truth, for people."""

    def explained(
        self, example: Example, answer: AnyAnswer, wanted: str | None = None
    ) -> tuple[Example, AnyAnswer]:
        """What an explanation is of: the answer, or what `wanted` names in place of it.

        The example wants no more than that answer needs. A UserError says what may be named.
        """
        if wanted is not None:
            raise UserError(
                f"task {self.name}: kind {self.kind} says one thing of a row, and that is what is "
                "explained; leave the answer out"
            )
        return example, answer

    @abstractmethod
    def explain_target(self, outputs: Outputs, answer: AnyAnswer) -> Tensor:
        """The scalar that an explanation differentiates; of what `explained` gives."""

    def explain_value(self, outputs: Outputs, answer: AnyAnswer) -> Tensor:
        """The same in the unit that people know, `measure`: how faithful it is is told in that."""
        return self.explain_target(outputs, answer)

    def shown(self, row: Row) -> str:
        """The row's input, for people."""
        said = [self._shown(row.get(column)) for column in self.options.texts]
        said += [described(row.get(column)) for column in self.options.others.values()]
        return " | ".join(filter(None, said))

    def _shown(self, cell: Any) -> str:
        if cell is None and self.options.others:
            return ""
        return self.text.decode(cell.ids.tolist()) if isinstance(cell, Tokens) else str(cell)

    def limit(self, draw: Draw) -> int | None:
        """The most tokens of a sequence: the task's own limit, or the run's of now if shorter."""
        return min(filter(None, (self.options.max_length, draw.longest)), default=None)

    def texts(self, row: Row) -> tuple[str, ...]:
        """The row's text columns: a text, or a pair."""
        return tuple(self.text_of(row, column) for column in self.options.texts)

    def encode(self, row: Row, limit: int | None = None) -> Encoded:
        """The row's text columns as tokens; a UserError says which column is not text."""
        return self._pair(self.texts(row), limit or self.options.max_length)

    def sequence(self, row: Row, draw: Draw) -> Positions:
        """All the row's input columns as one sequence."""
        if not self.options.others:
            return self.encode(row).sequence()
        rng = draw.rng if draw.learn else None
        return mixed(self.name, self.options, self.text, row, rng)

    def windows(self, row: Row, texts: Sequence[str], draw: Draw) -> Iterator[Encoded]:
        """The row's text as windows that lose none of its tokens; none where there are none.

        A pair is one sequence, cut where it is too long; no `texts`: the row holds tokens.
        """
        limit = self.limit(draw)
        parts: Iterable[Encoded]
        if not texts:
            parts = self.text.windows_of(row[self.options.texts[0]], limit)
        elif len(texts) == 1:
            parts = self.text.windows(texts[0], limit)
        else:
            parts = [self._pair(texts, limit)]
        return (part for part in parts if not part.special.all())

    def written(self, row: Row) -> tuple[str, ...]:
        """The texts of the row; none where it is of a corpus, which holds tokens."""
        if len(self.options.texts) == 1 and isinstance(row.get(self.options.texts[0]), Tokens):
            return ()
        return self.texts(row)

    def _pair(self, texts: Sequence[str], limit: int | None) -> Encoded:
        return self.text.encode(texts[0], texts[1] if len(texts) > 1 else None, limit)

    def text_of(self, row: Row, column: str) -> str:
        """What stands in a column, which must be text; tokens are put back into one."""
        tokens = row.get(column)
        if isinstance(tokens, Tokens):
            self.text.refuse_strangers(tokens)
            return self.text.decode(tokens.ids.tolist())
        return text_in(self.name, row, column)


def placed(rows: Iterable[Row], split: str) -> Iterator[tuple[str, Row]]:
    """Each row behind what a mistake in it is said of: its number, and that in its source.

    The two differ where a share was held out.
    """
    ids, origin = (rows.ids, rows.origin) if isinstance(rows, Rows) else (None, "")
    for i, row in enumerate(rows):
        place = i if ids is None else int(ids[i])
        elsewhere = f" (row {place + 1} of {origin})" if place != i else ""
        yield f"{split} row {i + 1}{elsewhere}", row


def row_rng(seed: int, task: str, epoch: int, row: int, again: int = 0) -> np.random.Generator:
    """The randomness of one row in one epoch; of the epoch's order for row -1.

    It depends on nothing else, so that order, workers and resuming cannot change it. `again` is how
    often the row came in this epoch before.
    """
    key = (seed, zlib.crc32(task.encode()), epoch, row + 1)
    return np.random.default_rng((*key, again) if again else key)


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """The mean of both Kullback-Leibler divergences between softmaxes (…, C), summed over rows."""
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    return ((p.exp() - q.exp()) * (p - q)).sum() / 2
