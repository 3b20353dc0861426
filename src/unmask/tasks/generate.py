"""`generate`: write a text for a source, or go on with a text (UniLM, arXiv:1905.03197)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmask.batch import Batch, Example, collate
from unmask.encoder import Encoder, Hidden, MaskedHead, cross_entropy
from unmask.errors import UserError
from unmask.tasks.base import Draw, Outputs, Row, Runner, Task, disagreement
from unmask.tasks.entries import entries
from unmask.tasks.generation.answer import Reading, TextAnswer, Written, asked_pieces
from unmask.tasks.generation.head import WritingHead
from unmask.tasks.generation.learning import Lesson, Lessons, survey
from unmask.tasks.generation.options import DecodeOptions, GenerateOptions
from unmask.tasks.generation.prompt import Pieces
from unmask.tasks.generation.rows import Pen
from unmask.tasks.generation.scores import distinct, rouge_scorer, tally
from unmask.tasks.generation.writer import Writer
from unmask.tasks.tally import Tally


class Generate(Task[GenerateOptions, TextAnswer]):
    """One encoder reads and writes: there is no decoder beside it.

    From left to right the source sees itself both ways, and each piece of the target the source and
    its own past; it foresees the next piece. In parallel, masked pieces of the target see all of
    both. The source sees the same in both modes, never the target; so it is computed once.
    """

    kind = "generate"
    many_passes = True
    Options = GenerateOptions
    measure = "probability"

    @property
    def headline(self) -> str:  # type: ignore[override]
        """BLEU, ROUGE-L where it is asked for, and accuracy where there is no target."""
        if self.options.target is None:
            return "accuracy"
        return "rouge_l" if self.options.rouge else "bleu"

    @classmethod
    def study(cls, name: str, options: GenerateOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """No facts; but what scoring needs must be there before hours of training."""
        if options.rouge:
            rouge_scorer()
        return {}

    @cached_property
    def pieces(self) -> Pieces:
        """The vocabulary."""
        return Pieces(self.text)

    @cached_property
    def lessons(self) -> Lessons:
        """How rows become prompts and examples."""
        return Lessons(self.name, self.options, self.pieces)

    @cached_property
    def writer(self) -> Writer:
        """What writes answers."""
        return Writer(self.lessons, self.pieces)

    def look_over(self, rows: Sequence[Row]) -> None:
        """Say what of the training rows cannot be learnt from, and refuse a prefix without room."""
        decode = self.decoding({})
        self._check_longest(decode)
        self.lessons.begin(self.lessons.prompt(rows[0], self.options.max_length), decode)
        survey(self.lessons, rows)

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        if not draw.truth:
            prompt = self.lessons.prompt(row, self.options.max_length)
            sequence = prompt.sequence(prompt.begun, self.pieces.kind)
            yield Example((sequence,), (np.array([sequence.length - 1]),), notes=prompt)
            return
        for lesson in self.lessons.of(row, self.limit(draw), draw.learn):
            yield self._example(lesson, draw)

    def _example(self, lesson: Lesson, draw: Draw) -> Example:
        """A lesson in one of the task's ways of writing."""
        mode = self.options.mode
        if mode == "both":
            # Scores are of one way, so that they can be compared.
            mode = "parallel" if draw.learn and draw.rng.random() < 0.5 else "left_to_right"
        prompt, truth = lesson.prompt, lesson.truth  # (n,): the target, and perhaps its end
        n, first = len(truth), prompt.prefix
        if mode == "left_to_right":
            wanted, of_length = np.arange(first - 1, first - 1 + n), np.zeros(n, dtype=bool)
            sequence = prompt.sequence(truth[:-1], self.pieces.kind)
        else:
            words = max(n - lesson.ended, 1)
            hidden = draw.rng.choice(words, int(draw.rng.integers(1, words + 1)), replace=False)
            hidden = np.sort(hidden)
            ids = truth.copy()
            ids[hidden] = self.text.mask_id
            sequence = prompt.sequence(ids, self.pieces.kind, causal=False)
            wanted, truth = first + hidden, truth[hidden]
            of_length = np.zeros(len(wanted), dtype=bool)
            if lesson.ended:
                wanted, truth = np.append(0, wanted), np.append(words, truth)
                of_length = np.append(True, of_length)
        return Example((sequence,), (wanted,), {"piece": truth, "of_length": of_length}, prompt)

    def build(self, encoder: Encoder) -> nn.Module:
        parallel_too = self.options.mode != "left_to_right"
        return WritingHead(encoder, self.options.target_length + 1 if parallel_too else 0)

    def take_over(self, head: nn.Module, others: Iterable[nn.Module]) -> bool:
        """A new head begins with the masked-language head of the start, where there is one."""
        assert isinstance(head, WritingHead)
        for other in others:
            words = other.words if isinstance(other, WritingHead) else other
            if isinstance(words, MaskedHead):
                own = head.words.state_dict()
                theirs = words.state_dict()
                if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in theirs.items()}:
                    head.words.load_state_dict(theirs)
                    return True
        return False

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        x = hidden.wanted
        if head.lengths is None or "of_length" not in batch.truth:
            return {"logits": head(x)}  # (N, V)
        first = batch.truth["of_length"]
        assert isinstance(head, WritingHead)
        return {"logits": head(x[~first]), "lengths": head.guess_lengths(x[first])}

    def targets(self, batch: Batch) -> int:
        return int((~batch.truth["of_length"]).sum())

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Of the pieces, and where lengths are guessed of those too."""
        truth, first = batch.truth["piece"], batch.truth["of_length"]
        loss = cross_entropy(outputs["logits"], truth[~first], self.options.label_smoothing)
        if "lengths" in outputs:
            loss = loss + cross_entropy(outputs["lengths"], truth[first])
        return loss

    def divergence(self, outputs: Outputs, others: Outputs) -> Tensor:
        return disagreement(outputs["logits"].float(), others["logits"].float())

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[TextAnswer]:
        """How well the truth of each example is foreseen; nothing is written."""
        logits = outputs["logits"].float()
        truth = batch.truth["piece"][~batch.truth["of_length"]]
        loss = (logits.logsumexp(-1) - logits.gather(1, truth[:, None])[:, 0]).cpu()
        hit = (logits.argmax(-1) == truth).cpu()
        sizes = [int((~e.truth["of_length"]).sum()) for e in examples]
        parts = zip(examples, torch.split(loss, sizes), torch.split(hit, sizes), sizes, strict=True)
        return [
            self._answer(example, Reading(float(own.sum()), int(hits.sum()), size))
            for example, own, hits, size in parts
        ]

    def _answer(
        self, example: Example, reading: Reading | None, texts: tuple[Written, ...] = ()
    ) -> TextAnswer:
        return TextAnswer(
            tokens=example.length,
            dropped=sum(s.dropped for s in example.sequences),
            texts=texts,
            reading=reading,
            unknown=self.pieces.strange(example.notes),
        )

    def predict(
        self, run: Runner[TextAnswer], examples: Iterable[Example], options: Mapping[str, Any]
    ) -> Iterator[TextAnswer]:
        """Texts, written as these options of decoding say; what is known to be true is also read.

        Without a target, rows whose truth is known are only read.
        """
        decode = self.decoding(options)
        wide = max(decode.beams, decode.top if decode.temperature else 1)
        return run.steps(examples, partial(self._write, decode), 4096 // min(wide, 16))

    def decoding(self, options: Mapping[str, Any]) -> DecodeOptions:
        """The recipe's way to write, with these changes; checked against what was learnt."""
        decode = self.options.decode.changed(self.name, options)
        if "longest" in options:
            self._check_longest(decode)
        try:
            return decode.settled(self.options.mode)
        except ValueError as error:
            raise UserError(f"task {self.name}: {error}") from None

    def _check_longest(self, decode: DecodeOptions) -> None:
        """Refuse to promise longer texts than a task with a target learns to write."""
        most = self.options.target_length
        if self.options.target is not None and decode.longest is not None and decode.longest > most:
            raise UserError(
                f"task {self.name}: longest {decode.longest}: it writes {most} pieces at most; "
                "train with a larger target_length"
            )

    def _write(
        self, decode: DecodeOptions, encoder: Encoder, head: nn.Module, own: Sequence[Example]
    ) -> list[TextAnswer]:
        readings: list[Reading | None] = [None] * len(own)
        if own[0].truth:
            batch = collate(own, 64).to(next(head.parameters()).device)
            hidden: Hidden = encoder(batch, narrow=True, adapter=self.options.adapter)
            outputs = self.outputs(head, hidden, batch)
            readings = [answer.reading for answer in self.answers(outputs, batch, own)]
            if self.options.target is None:
                return [self._answer(e, r) for e, r in zip(own, readings, strict=True)]
        prompts = [example.notes for example in own]
        texts = self.writer.texts(self._pen(encoder, head), prompts, decode)
        return [self._answer(*each) for each in zip(own, readings, texts, strict=True)]

    def stream(
        self, encoder: Encoder, head: nn.Module, example: Example, options: Mapping[str, Any]
    ) -> Generator[str, None, TextAnswer]:
        """The text for one prompt in parts, as it is written; what is returned is the answer."""
        if options.get("top", 1) != 1:
            raise UserError(f"task {self.name}: top is for `predict`: a stream shows one text")
        decode = self.decoding({**options, "top": 1})
        text = yield from self.writer.stream(self._pen(encoder, head), example.notes, decode)
        return self._answer(example, None, (text,))

    def _pen(self, encoder: Encoder, head: nn.Module) -> Pen:
        assert isinstance(head, WritingHead)
        return Pen(encoder, head, self.pieces.kind, self.options.adapter)

    def tally(self, answers: Sequence[TextAnswer], rows: Sequence[Row]) -> Tally:
        """Loss and accuracy of the truth's pieces; with a target scores of texts too."""
        if self.options.target is None:
            return tally(answers)
        truth = [self.truth(row) for row in rows]
        return tally(answers, truth, self.options.bleu, self.options.rouge)

    def score(self, answers: Sequence[TextAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """The tally's scores, and how many of the words' pairs are different ones."""
        found = super().score(answers, rows)
        if self.options.target is not None:
            found["distinct_2"] = distinct([answer.short for answer in answers])
        return found

    def surprise(self, answer: TextAnswer, row: Row) -> float:
        """The mean loss of the truth's pieces."""
        assert answer.reading is not None
        return answer.reading.loss / max(answer.reading.count, 1)

    def truth(self, row: Row) -> str:
        return self.text_of(row, self.options.target or self.options.inputs[0])

    def explained(
        self, example: Example, answer: TextAnswer, wanted: str | None = None
    ) -> tuple[Example, TextAnswer]:
        """All pieces of the best text, or the one that `wanted` names by its number or itself.

        From left to right a piece is foreseen from what stands before it; in parallel from all
        other pieces.
        """
        prompt = example.notes
        pieces = answer.texts[0].pieces if answer.texts else ()
        first = len(prompt.begun)
        asked = asked_pieces(self.name, pieces, first, wanted)
        ids = np.array([self.text.tokenizer.token_to_id(piece) for piece in pieces])
        if self.options.mode == "parallel":
            truth = ids[asked]
            ids[asked] = self.text.mask_id
            sequence = prompt.sequence(ids, self.pieces.kind, causal=False)
            places = prompt.prefix + asked
        else:
            truth = ids[asked]
            sequence = prompt.sequence(ids[: asked[-1]], self.pieces.kind)
            places = prompt.prefix - 1 + asked
        chosen = tuple(truth.tolist())
        return Example((sequence,), (places,), notes=prompt), replace(answer, asked=chosen)

    def explain_target(self, outputs: Outputs, answer: TextAnswer) -> Tensor:
        """The log-probability of each piece, summed."""
        log_p = outputs["logits"].float().log_softmax(-1)
        return entries(log_p, answer.asked).sum()

    def explain_value(self, outputs: Outputs, answer: TextAnswer) -> Tensor:
        """The mean probability of a piece, geometrically: long texts have a small product."""
        return (self.explain_target(outputs, answer) / len(answer.asked)).exp()
