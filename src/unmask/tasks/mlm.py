"""`mlm`: guess the hidden tokens of a text (Devlin et al., arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example, Segment
from unmask.encoder import Encoder, Hidden, MaskedHead, cross_entropy
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.tasks.base import Draw, Outputs, Row, Runner, Task
from unmask.tasks.entries import entries
from unmask.tasks.filling import FillAnswer, Guess, best_first
from unmask.tasks.imitation import towards
from unmask.tasks.masking import MaskingOptions, choose
from unmask.tasks.tally import Tally
from unmask.tasks.translations import Translations


class MlmOptions(MaskingOptions):
    """How much is hidden, in what units, and behind what."""

    kind: Literal["mlm"] = "mlm"
    hide: Literal["mask", "bert"] = Field(
        "mask",
        description="mask: always [MASK]; bert: [MASK] 80 %, a random token 10 %, itself 10 %",
    )
    translations: bool | str = Field(
        False,
        description="read two translations of one text together: true, of the input columns; or "
        "the column whose value a row shares with its translations (arXiv:1901.07291)",
    )
    reading: ClassVar = (*MaskingOptions.reading, "translations")

    @model_validator(mode="after")
    def _languages(self) -> MlmOptions:
        if self.translations is True and len(self.inputs) < 2:
            raise ValueError("translations: true is for two input columns or more, one a language")
        if self.joined_by and len(self.inputs) > 1:
            raise ValueError("translations: a column joins rows of one input column; name one")
        return self

    @property
    def joined_by(self) -> str | None:
        """The column that translations share, where they are rows of their own."""
        return self.translations if isinstance(self.translations, str) else None

    @property
    def most(self) -> int:
        """As many as there are languages."""
        return len(self.inputs) if self.translations is True else super().most

    @property
    def fewest(self) -> int:
        """Of languages, some may be missing."""
        return 1 if self.translations is True else super().fewest

    @property
    def held_by(self) -> tuple[str, ...]:
        """Translations stay on one side."""
        return (self.joined_by,) if self.joined_by and not self.group else super().held_by

    @property
    def needed(self) -> tuple[str, ...]:
        """And the column by which rows are joined."""
        return (*super().needed, *filter(None, [self.joined_by]))


class Mlm(Task[MlmOptions, FillAnswer]):
    """Masked-language modelling whose head runs only where something is hidden.

    A text longer than a sequence gives several, none of its tokens lost. Two translations make a
    pair with tokens hidden on both sides, so that one can help to guess the other.
    """

    kind = "mlm"
    Options = MlmOptions
    headline = "accuracy"
    measure = "probability"

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        if not draw.truth:
            yield self._to_fill(self.encode(row))
            return
        texts = self._together(row, draw)
        for part in self.windows(row, texts, draw):
            yield self._corrupt(part, choose(part, texts, self.options, draw), draw.rng)

    def texts(self, row: Row) -> tuple[str, ...]:
        """The row's input columns; where they are languages, the different texts there are."""
        if self.options.translations is not True:
            return super().texts(row)
        there = [column for column in self.options.inputs if row.get(column) is not None]
        found = (self.text_of(row, column) for column in there)
        return tuple(dict.fromkeys(text for text in found if text.strip())) or ("",)

    def _together(self, row: Row, draw: Draw) -> tuple[str, ...]:
        """The texts to be read together: of translations two, in an order of chance, if it can."""
        if not self.options.translations:
            return self.written(row)
        texts = self.texts(row)
        if self.options.joined_by:
            joined = self._joined(draw.others, self.options.joined_by)
            other = joined.draw(row, texts[0], draw.rng)
            texts = texts if other is None else (*texts, other)
        return tuple(texts[i] for i in draw.rng.permutation(len(texts))[:2])

    def _joined(self, rows: Sequence[Row], column: str) -> Translations:
        """The rows by the column that translations share; kept for two splits."""
        found = next((one for one in self._known if one.rows is rows), None)
        if found is None:
            text = partial(self.text_of, column=self.options.inputs[0])
            found = Translations(rows, column, text)
            self._known[:] = [found, *self._known[:1]]
        return found

    @cached_property
    def _known(self) -> list[Translations]:
        return []

    def _corrupt(self, encoded: Encoded, hidden: np.ndarray, rng: np.random.Generator) -> Example:
        ids, truth = encoded.ids.copy(), encoded.ids[hidden]
        if self.options.hide == "bert":
            fate = rng.random(len(hidden))
            ids[hidden[fate < 0.8]] = self.text.mask_id
            swapped = hidden[fate >= 0.9]
            ids[swapped] = rng.integers(0, self.text.vocab_size, len(swapped))
        else:
            ids[hidden] = self.text.mask_id
        sequence = replace(encoded.sequence(), segments=(Segment(ids, encoded.kinds),))
        return Example((sequence,), (hidden,), {"token": truth})

    def _to_fill(self, encoded: Encoded) -> Example:
        masked = np.flatnonzero(encoded.ids == self.text.mask_id)
        return Example((encoded.sequence(),), (masked,))

    def build(self, encoder: Encoder) -> nn.Module:
        return MaskedHead(encoder.config, encoder.embeddings.token)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return {"logits": head(hidden.wanted)}  # (N, V)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["token"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(outputs["logits"], batch.truth["token"])

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """Over the tokens: an encoder may have more vectors, and another encoder other ones."""
        n = self.text.vocab_size
        return towards(outputs["logits"][:, :n].float(), others["logits"][:, :n].float())

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example], top: int = 5
    ) -> list[FillAnswer]:
        log_p = outputs["logits"].float().log_softmax(-1)  # (N, V)
        known: dict[str, list[Any]] = {}
        if "token" in batch.truth:
            truth = batch.truth["token"]
            known["loss"] = (-log_p.gather(1, truth[:, None])[:, 0]).tolist()
            known["hit"] = (log_p.argmax(-1) == truth).tolist()
        # What is no word of a text; tables can be larger than vocabularies.
        log_p[:, self.text.vocab_size :] = -torch.inf
        log_p[:, sorted(self.text.special_ids)] = -torch.inf
        most = max(self.text.vocab_size - len(self.text.special_ids), 1)
        best = log_p.topk(min(top, most), dim=-1)
        names = [[self._name(i) for i in row] for row in best.indices.tolist()]
        values = best.values.exp().tolist()
        guesses = [
            Guess(position=0, candidates=tuple(zip(name, value, strict=True)), token=token)
            for name, value, token in zip(names, values, best.indices[:, 0].tolist(), strict=True)
        ]
        guesses = [
            replace(guess, **{what: own[i] for what, own in known.items()})
            for i, guess in enumerate(guesses)
        ]
        result, start = [], 0
        for example in examples:
            (sequence,), (wanted,) = example.sequences, example.wanted
            own = guesses[start : start + len(wanted)]
            chosen = best.indices[start : start + len(wanted), 0].cpu().numpy()
            start += len(wanted)
            ids = sequence.segments[0].values.copy()
            ids[wanted] = chosen
            result.append(
                FillAnswer(
                    tokens=sequence.length,
                    dropped=sequence.dropped,
                    guesses=tuple(
                        replace(guess, position=int(p))
                        for guess, p in zip(own, wanted, strict=True)
                    ),
                    filled=self.text.decode(ids.tolist()),
                )
            )
        return result

    def predict(
        self, run: Runner[FillAnswer], examples: Iterable[Example], options: Mapping[str, Any]
    ) -> Iterator[FillAnswer]:
        """Answers with the `top` likeliest candidates for each hidden token (5 unless said).

        With `jointly`, hidden tokens are filled one after the other, the surest first.
        """
        answers = partial(self.answers, top=max(int(options.get("top", 5)), 1))
        if options.get("jointly"):
            return best_first(lambda some: run(some, answers), examples)
        return run(examples, answers)

    def tally(self, answers: Sequence[FillAnswer], rows: Sequence[Row]) -> Tally:
        """How often the best guess is the truth, and mean loss in nats a hidden token."""
        counts = [
            (
                sum(bool(guess.hit) for guess in answer.guesses),
                sum(guess.loss or 0.0 for guess in answer.guesses),
                len(answer.guesses),
            )
            for answer in answers
        ]

        def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
            tokens = sums[..., 2]
            return {"accuracy": sums[..., 0] / tokens, "loss": sums[..., 1] / tokens}

        return Tally(np.array(counts, dtype=float), scores)

    def surprise(self, answer: FillAnswer, row: Row) -> float:
        """Mean loss of its hidden tokens."""
        return float(np.mean([guess.loss for guess in answer.guesses if guess.loss is not None]))

    def truth(self, row: Row) -> str:
        return " | ".join(self.texts(row))

    def explained(
        self, example: Example, answer: FillAnswer, wanted: str | None = None
    ) -> tuple[Example, FillAnswer]:
        """The best guesses together; `2` names the second hidden token, and `2:cat` a guess there.

        `cat` alone is a guess for the first.
        """
        guesses = answer.guesses
        if not guesses:
            raise UserError(
                f"task {self.name}: the text has no {self.text.mask_token}, so there is no guess "
                "to explain"
            )
        if wanted is not None:
            number, colon, token = wanted.partition(":")
            if not colon and not number.isdecimal():
                number, token = "1", wanted
            if not number.isdecimal() or not 1 <= int(number) <= len(guesses):
                raise UserError(
                    f"task {self.name}: {wanted!r} names none of the text's {len(guesses)} hidden "
                    "token(s); write 1, or 1:WORD"
                )
            guesses = (guesses[int(number) - 1],)
            if token:
                guesses = (replace(guesses[0], token=self._token(token)),)
        places = np.array([guess.position for guess in guesses])
        return replace(example, wanted=(places,), truth={}), replace(answer, guesses=guesses)

    def explain_target(self, outputs: Outputs, answer: FillAnswer) -> Tensor:
        """The log-probability of each guess, summed."""
        tokens = [guess.token for guess in answer.guesses]
        return entries(outputs["logits"].float().log_softmax(-1), tokens).sum()

    def explain_value(self, outputs: Outputs, answer: FillAnswer) -> Tensor:
        """The probability of all these guesses together."""
        return self.explain_target(outputs, answer).exp()

    def _token(self, word: str) -> int:
        """The id of a word that is one token."""
        found = self.text.tokenizer.encode(word, add_special_tokens=False).ids
        if len(found) != 1 or found[0] == self.text.special_id("unknown"):
            raise UserError(
                f"task {self.name}: {word!r} is not one token of the vocabulary; name one that is"
            )
        return int(found[0])

    def _name(self, token: int) -> str:
        return str(self.text.tokenizer.decode([token], skip_special_tokens=False)).strip()
