"""`transcribe`: what is said in a recording, by connectionist temporal classification."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, HeadConfig, Hidden, LabelHead
from unmask.errors import UserError
from unmask.recipe import Inputs, TaskOptions
from unmask.tasks import ctc
from unmask.tasks.base import Answer, Draw, Outputs, Row, Runner, Task, placed, said_of
from unmask.tasks.tally import Tally

log = logging.getLogger("unmask")

_LEAST = 27.6  # nats for a unit that could not be written at all: a chance of 1e-12


class TranscribeOptions(TaskOptions):
    """The column with the recording, and that with what is said in it."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "label", "beam")
    modalities: ClassVar[tuple[str, ...]] = ("audio",)

    kind: Literal["transcribe"] = "transcribe"
    input: str | list[str] | Inputs = Field(
        Inputs(audio="audio"), description="{audio: the column with the recording}"
    )
    label: str = Field("text", description="the column with what is said")
    units: Literal["character", "word"] = Field(
        "character", description="what is told apart; words, where there are few, as in commands"
    )
    beam: int = Field(
        1, ge=1, le=1000, description="texts kept at each position; 1 takes the likeliest path"
    )

    @model_validator(mode="after")
    def _sound(self) -> TranscribeOptions:
        if self.texts or set(self.others) != {"audio"}:
            raise ValueError("input: name the recording's column alone, as {audio: column}")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and that with the text."""
        return (*super().needed, self.label)


@dataclass(frozen=True)
class TranscriptAnswer(Answer):
    """The text, its log-probability, and the next best ones where a beam looked for them."""

    text: str
    log_probability: float  # of the text with a beam; of the likeliest path without
    others: tuple[tuple[str, float], ...] = ()
    loss: float | None = field(default=None, repr=False, compare=False)  # nats, of the truth

    @property
    def cut(self) -> bool:
        """Whether the end of the recording was not heard."""
        return self.dropped > 0

    @property
    def short(self) -> str:
        """The text."""
        return self.text

    def columns(self) -> dict[str, Any]:
        """The text, and whether the recording was cut."""
        own: dict[str, Any] = {
            "prediction": self.text,
            "log_probability": self.log_probability,
            "cut": self.cut,
        }
        if self.others:
            own["others"] = [{"text": text, "log_probability": p} for text, p in self.others]
        return {**own, **super().columns()}


class Transcribe(Task[TranscribeOptions, TranscriptAnswer]):
    """One distribution over the alphabet and a blank at each position of the recording."""

    kind = "transcribe"
    Options = TranscribeOptions
    headline = "word_accuracy"

    @classmethod
    def study(cls, name: str, options: TranscribeOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The alphabet: all units of the training rows' texts, sorted."""
        found: set[str] = set()
        for where, row in placed(rows, "train"):
            with said_of(where):
                found.update(_units(options, _text(name, options, row)))
        if not found:
            raise UserError(
                f"task {name}: the training rows have no text in column {options.label!r}, so "
                "there is nothing to learn"
            )
        return {"alphabet": sorted(found)}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows without a text to compare with, and say what no training row has."""
        odd: set[str] = set()
        for where, row in placed(rows, split):
            with said_of(where):
                text = _text(self.name, self.options, row)
            odd.update(u for u in _units(self.options, text) if u not in self._numbers)
        if odd:
            log.warning(
                "task %s: its %s rows have %d %s(s) that no training row has, such as %r: they "
                "cannot be written, and count as mistakes",
                self.name, split, len(odd), self.options.units, min(odd),
            )  # fmt: skip

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        sequence = self.sequence(row, draw)
        first = sum(len(s.values) for s in sequence.segments if s.modality != "audio")
        wanted = np.arange(first, sequence.length)  # the recording stands last
        truth: dict[str, np.ndarray] = {}
        if draw.truth:
            text = _text(self.name, self.options, row)
            known = [self._numbers.get(unit) for unit in _units(self.options, text)]
            units = np.array([u for u in known if u is not None], dtype=np.int64)
            if draw.learn and ctc.positions_needed(units) > len(wanted):
                return []  # so many units cannot be said in so short a time
            truth = {"units": units, "size": np.array([len(units)])}
        return [Example((sequence,), (wanted,), truth)]

    def build(self, encoder: Encoder) -> nn.Module:
        config = HeadConfig(pooling="none")
        return LabelHead(encoder.config, config, 1 + len(self.facts["alphabet"]))

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return {"logits": head(hidden.wanted, batch.wanted_owner, batch.sequences)}  # (N, C)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["units"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """CTC, summed over the texts: the loop divides by the number of their units."""
        return ctc.loss(outputs["logits"], _lengths(batch), *_texts(batch))

    def answers(
        self,
        outputs: Outputs,
        batch: Batch,
        examples: Sequence[Example],
        beam: int | None = None,
        top: int = 5,
    ) -> list[TranscriptAnswer]:
        lengths = _lengths(batch)
        losses: list[float | None] = [None] * len(examples)
        if "units" in batch.truth:
            units, sizes = _texts(batch)
            found = ctc.losses(outputs["logits"], lengths, units, sizes)
            losses = [*found.minimum(_LEAST * sizes.clamp(min=1)).tolist()]
        log_p = outputs["logits"].float().log_softmax(-1).cpu()
        tables = torch.split(log_p, lengths.tolist())
        answers = []
        for table, example, loss in zip(tables, examples, losses, strict=True):
            texts = self._decode(table.numpy().astype(float), beam or self.options.beam)
            answers.append(
                TranscriptAnswer(
                    tokens=example.length,
                    dropped=example.sequences[0].dropped,
                    text=texts[0][0],
                    log_probability=texts[0][1],
                    others=tuple(texts[1:top]),
                    loss=loss,
                )
            )
        return answers

    def predict(
        self, run: Runner[TranscriptAnswer], examples: Iterable[Example], options: Mapping[str, Any]
    ) -> Iterator[TranscriptAnswer]:
        """Answers with a `beam` of that width, the task's own unless said."""
        beam = max(int(options.get("beam", self.options.beam)), 1)
        return run(examples, partial(self.answers, beam=beam))

    def _decode(self, table: np.ndarray, beam: int) -> list[tuple[str, float]]:
        """Texts for (T, C) log-probabilities with theirs, best first."""
        found = [ctc.greedy(table)] if beam == 1 else ctc.beam_search(table, beam)
        between = " " if self.options.units == "word" else ""
        alphabet = self.facts["alphabet"]
        return [(between.join(alphabet[u - 1] for u in units), p) for units, p in found]

    def tally(self, answers: Sequence[TranscriptAnswer], rows: Sequence[Row]) -> Tally:
        """Word and character error rates over all rows together, and the share without mistake.

        Columns: wrong words, words, wrong characters, characters, rows without mistake, 1.
        """
        pairs = [(self.truth(row), answer.text) for answer, row in zip(answers, rows, strict=True)]
        counts = [(*_edits(*pair), pair[0] == pair[1], 1) for pair in pairs]

        def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
            wer = sums[..., 0] / np.maximum(sums[..., 1], 1)
            return {
                "word_accuracy": np.maximum(0, 1 - wer),
                "wer": wer,
                "cer": sums[..., 2] / np.maximum(sums[..., 3], 1),
                "exact_match": sums[..., 4] / sums[..., 5],
            }

        return Tally(np.array(counts, dtype=float), scores)

    def surprise(self, answer: TranscriptAnswer, row: Row) -> float:
        """Minus the log-probability of the truth."""
        return 0.0 if answer.loss is None else answer.loss

    def truth(self, row: Row) -> str:
        return _text(self.name, self.options, row)

    def explain_target(self, outputs: Outputs, answer: TranscriptAnswer) -> Tensor:
        """The log-probability of the likeliest path."""
        return outputs["logits"].float().log_softmax(-1).max(-1).values.sum()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {unit: i for i, unit in enumerate(self.facts["alphabet"], ctc.BLANK + 1)}


def _lengths(batch: Batch) -> Tensor:
    """How many positions each sequence has that the head sees: (S,)."""
    return torch.bincount(batch.wanted_owner, minlength=batch.sequences)


def _texts(batch: Batch) -> tuple[Tensor, Tensor]:
    """The units of all texts (U,), and how many each has (S,)."""
    return batch.truth["units"], batch.truth["size"]


def _text(task: str, options: TranscribeOptions, row: Row) -> str:
    """What is said in a row: one Unicode form, single spaces; a number is its digits."""
    value = row.get(options.label)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(
            f"task {task}: column {options.label!r} holds {value!r} and no text; write down what "
            "is said ('' for silence), or drop the row"
        )
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def _units(options: TranscribeOptions, text: str) -> list[str]:
    return text.split() if options.units == "word" else list(text)


def _edits(truth: str, text: str) -> tuple[int, int, int, int]:
    """Wrong words, words, wrong characters and characters, as `jiwer` counts them."""
    try:
        import jiwer
    except ImportError:
        raise UserError(
            "scores of transcripts need the extra `audio`: pip install 'unmask[audio]'"
        ) from None
    words, letters = jiwer.process_words(truth, text), jiwer.process_characters(truth, text)
    wrong = [o.substitutions + o.deletions + o.insertions for o in (words, letters)]
    return wrong[0], len(truth.split()), wrong[1], len(truth)
