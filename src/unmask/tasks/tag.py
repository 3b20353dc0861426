"""`tag`: which words of a text are entities, slots, or anything else that has a label."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks.base import Draw, Outputs, Row, Task, placed, said_of
from unmask.tasks.clashes import look_for_clashes
from unmask.tasks.entries import entries
from unmask.tasks.imitation import towards
from unmask.tasks.spans_of_tags import OUTSIDE, PLAIN, Span, Tagset, scheme
from unmask.tasks.tag_answers import (
    TagAnswer,
    TagExample,
    Truth,
    asked_words,
    listed,
    make_answer,
    score_answers,
)
from unmask.tasks.tag_rows import Input, read_input, read_spans, read_tags
from unmask.tasks.words import first_pieces, fitted, found, windows

log = logging.getLogger("unmask")


class TagOptions(TaskOptions):
    """A list of words with a list of tags, or a text with a list of spans: the values tell."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "label")

    kind: Literal["tag"] = "tag"
    label: str = Field("tags", description="the column with the words' tags or the text's spans")
    head: HeadConfig | None = Field(
        None, description="how logits are made (as the encoder's family makes them unless said)"
    )

    @model_validator(mode="after")
    def _one_text(self) -> TagOptions:
        if len(self.inputs) != 1:
            raise ValueError("input: words are tagged in one text; name 1 column")
        return self

    @field_validator("head")
    @classmethod
    def _each_word(cls, head: HeadConfig | None) -> HeadConfig | None:
        if head is not None and head.pooling != "none":
            if "pooling" in head.model_fields_set:
                raise ValueError("pooling: each word has a tag of its own, so nothing is pooled")
            return head.model_copy(update={"pooling": "none"})
        return head


class Tag(Task[TagOptions, TagAnswer]):
    """A tag for each word from the vector of its first piece (Devlin et al., arXiv:1810.04805).

    The answer is the likeliest row of tags that makes sense. A text longer than a sequence is
    read in windows that overlap, so that each word is seen in its context and none is lost.
    """

    kind = "tag"
    Options = TagOptions
    reads_rows = True
    headline = "f1"
    measure = "probability"
    _told = False  # that some spans of the rows are out of step with the words

    @classmethod
    def study(cls, name: str, options: TagOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The tags to tell apart: BIO of the training rows' labels, or labels without prefixes."""
        tags: dict[str, str] = {}  # and the row where each was first
        labels: set[str] = set()
        for where, row in placed(rows, "training"):
            with said_of(f"{where}: task {name}"):
                source = read_input(row.get(options.inputs[0]), options.inputs[0])
                value = row.get(options.label)
                labels.update(s.label for s in read_spans(value, source, options.label))
                if source.words is not None and value is not None:
                    for tag in read_tags(value, options.label):
                        tags.setdefault(tag, where)
        try:
            written = scheme(tags)
        except ValueError as error:
            raise UserError(f"{_odd(tags, error)}: task {name}: {error}; mend the tags") from None
        plain = written == PLAIN and bool(tags)
        if tags:
            log.info("task %s: its tags are %s", name, "labels alone" if plain else written)
        outside = [] if plain and OUTSIDE not in tags else [OUTSIDE]
        if len(labels) + len(outside) < 2:
            raise UserError(
                f"task {name}: all words of the training rows have the same label in column "
                f"{options.label!r}, or none; label some"
            )
        prefixes = [""] if plain else ["B-", "I-"]
        own = [prefix + label for label in sorted(labels) for prefix in prefixes]
        return {"tags": [*outside, *own], "strict": True}

    @cached_property
    def tagset(self) -> Tagset:
        """The tags, and which may follow which."""
        return Tagset(tuple(self.facts["tags"]), bool(self.facts["strict"]))

    @property
    def labels(self) -> list[str]:
        """The tags, in the order of the logits."""
        return list(self.tagset.tags)

    @property
    def head(self) -> HeadConfig:
        """How this task's logits are made."""
        return self.options.head or HeadConfig(pooling="none")

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows that cannot be read, and labels that the training rows lack."""
        for where, row in placed(rows, split):
            with said_of(f"{where}: task {self.name}"):
                self._gold(row, self._source(row))

    def look_over(self, rows: Sequence[Row]) -> None:
        """Say where languages have labels that may be the same by other names."""
        look_for_clashes(
            self.name,
            self.options,
            rows,
            lambda row: {span.label for span in self._gold(row, self._source(row))},
        )

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        with said_of(f"task {self.name}"):
            source = self._source(row)
            gold = self._gold(row, source) if draw.truth else []
        whole = self.text.whole(source.text)
        words = found(source.text, whole) if source.words is None else source.words
        first = first_pieces(source.text, words, whole)
        read = first >= 0
        truth, numbers = None, {}
        if draw.truth:
            if not read.any():
                return  # nothing to learn from, and nothing to score
            truth = self._truth(source.text, gold, words)
            own = [self.tagset.numbers[tag] for tag in np.array(truth.tags)[read].tolist()]
            numbers["tag"] = np.array(own, dtype=np.int64)  # (n,)
        limit = min(self.limit(draw) or self.text.max_length, self.text.max_length)
        parts = list(windows(whole, first[read], limit))
        if draw.apart:  # nobody asks for the answer, so a long text need not be learnt at once
            start = 0
            for part in parts:
                end = start + len(part.wanted)
                tags = {"tag": numbers["tag"][start:end]}
                yield Example((part.encoded.sequence(),), (part.wanted,), tags)
                start = end
            return
        yield TagExample(
            sequences=tuple(part.encoded.sequence() for part in parts),
            wanted=tuple(part.wanted for part in parts),
            truth=numbers,
            text=source.text,
            words=words,
            read=read,
            gold=truth,
        )

    def build(self, encoder: Encoder) -> nn.Module:
        return LabelHead(encoder.config, self.head, len(self.labels))

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return {"logits": head(hidden.wanted, batch.wanted_owner, batch.sequences)}  # (N, K)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["tag"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs["logits"].float(), batch.truth["tag"], reduction="sum")

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        return towards(outputs["logits"].float(), others["logits"].float())

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[TagAnswer]:
        log_p = outputs["logits"].float().log_softmax(-1).cpu().numpy()  # (N, K)
        result, start = [], 0
        for example in examples:
            assert isinstance(example, TagExample)
            end = start + sum(map(len, example.wanted))
            result.append(make_answer(example, log_p[start:end], self.tagset))
            start = end
        return result

    def score(self, answers: Sequence[TagAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """Entities by place and label, as seqeval counts them, and the words' tags."""
        return score_answers(answers)

    def surprise(self, answer: TagAnswer, row: Row) -> float:
        """Minus the log-probability of the true tags together."""
        return answer.loss

    def truth(self, row: Row) -> str:
        source = self._source(row)
        gold = self._gold(row, source)
        return listed((span.label, source.text[span.start : span.end]) for span in gold)

    def shown(self, row: Row) -> str:
        """The row's text, made of its words where it has those."""
        return self._source(row).text

    def explained(
        self, example: Example, answer: TagAnswer, wanted: str | None = None
    ) -> tuple[Example, TagAnswer]:
        """An entity may be named by its text or label, or any word; else it is all entities.

        Where there are none, it is the tags of all words.
        """
        assert isinstance(example, TagExample)
        chosen, kept = asked_words(self.name, example, answer, wanted)
        sizes = np.cumsum([len(own) for own in example.wanted])[:-1]
        parts = np.split(kept[example.read], sizes)
        narrowed = [
            (sequence, own[part])
            for sequence, own, part in zip(example.sequences, example.wanted, parts, strict=True)
            if part.any()
        ]
        sequences, places = zip(*narrowed, strict=True)
        return replace(example, sequences=sequences, wanted=places, truth={}), chosen

    def explain_target(self, outputs: Outputs, answer: TagAnswer) -> Tensor:
        """The logit of each word's tag, summed."""
        return self._own(outputs["logits"].float(), answer).sum()

    def explain_value(self, outputs: Outputs, answer: TagAnswer) -> Tensor:
        """The probability of all these tags together."""
        return self._own(outputs["logits"].float().log_softmax(-1), answer).sum().exp()

    def _own(self, scores: Tensor, answer: TagAnswer) -> Tensor:
        """What scores (n, K) say of the answer's tags, one a word: (n,)."""
        numbers = [self.tagset.numbers[tag] for tag in answer.tags]
        return entries(scores, numbers)

    def _source(self, row: Row) -> Input:
        column = self.options.inputs[0]
        return read_input(row.get(column), column)

    def _gold(self, row: Row, source: Input) -> list[Span]:
        """The row's true spans, in characters."""
        column = self.options.label
        spans = read_spans(row.get(column), source, column)
        for span in spans:
            if span.label not in self.tagset.labels:
                raise UserError(
                    f"label {span.label!r} was not among the {len(self.tagset.labels)} labels of "
                    "the training rows; mend or drop the rows that have it, or train with some"
                )
        if OUTSIDE not in self.tagset.numbers and OUTSIDE in (row.get(column) or ()):
            raise UserError(
                f"column {column!r} has the tag {OUTSIDE}, which no training row has; label the "
                "word, or drop the row"
            )
        return spans

    def _truth(self, text: str, gold: Sequence[Span], words: np.ndarray) -> Truth:
        """The truth on whole words."""
        by_word, by_character, uneven = fitted(gold, words)
        if uneven and not self._told:
            self._told = True
            was, now = next((a, b) for a, b in zip(gold, by_character, strict=True) if a != b)
            log.warning(
                "task %s: some spans end within a word and are widened to whole words, as %r to %r",
                self.name, text[was.start : was.end], text[now.start : now.end],
            )  # fmt: skip
        tags = self.tagset.write(by_word, len(words))
        return Truth(tuple(by_character), tuple(tags), uneven)


def _odd(tags: Mapping[str, str], error: ValueError) -> str:
    """The row, of those where each tag was first, with the tag that belongs to no scheme.

    Where the mistake names none, it is the first that does not go with those before it.
    """
    named = next((where for tag, where in tags.items() if repr(tag) in str(error)), None)
    if named is not None:
        return named
    before: list[str] = []
    for tag in tags:
        before.append(tag)
        try:
            scheme(before)
        except ValueError:
            break
    return tags[before[-1]]
