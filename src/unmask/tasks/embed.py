"""`embed`: one vector a text, near those of the texts that belong with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from unmask.batch import Batch, Example
from unmask.encoder import Encoder, Hidden, Pooling
from unmask.errors import UserError
from unmask.recipe import TaskOptions
from unmask.tasks.base import (
    Answer,
    Draw,
    Outputs,
    Row,
    Task,
    check_texts,
    placed,
    said_of,
    text_in,
)
from unmask.tasks.contrast import Contrast, info_nce
from unmask.tasks.fellows import Fellows
from unmask.tasks.imitation import towards_likeness
from unmask.tasks.negatives import check_pairs, negatives_of
from unmask.tasks.search import nearest, numbered, ranks
from unmask.tasks.tally import Tally


class EmbedOptions(TaskOptions):
    """Two columns are a query and its document; texts of one column belong together by label."""

    reading: ClassVar[tuple[str, ...]] = (*TaskOptions.reading, "label", "negatives")
    modalities: ClassVar[tuple[str, ...]] = ("text", "image", "audio")

    kind: Literal["embed"] = "embed"
    label: str | None = Field(
        None, description="with one text column: texts of the same label belong together"
    )
    negatives: str | None = Field(
        None, description="with two: the column of texts that are near the query, and wrong"
    )
    temperature: float = Field(0.05, gt=0, description="what cosines are divided by")
    widths: list[int] | None = Field(
        None, min_length=1, description="learn these first parts of the vector too (Matryoshka)"
    )
    pooling: Literal["mean", "cls"] | None = Field(
        None, description="how a text's vector is made (as the start has it unless said)"
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_label(cls, values: Any) -> Any:
        if isinstance(values, dict) and "label" not in values:
            columns = values.get("input", "text")
            if not (isinstance(columns, list | tuple) and len(columns) > 1):
                return {**values, "label": "label"}
        return values

    @model_validator(mode="after")
    def _one_way(self) -> EmbedOptions:
        if self.pairs == (self.label is not None):
            raise ValueError(
                "label: what belongs together is said by two `input` columns, or by one and a label"
            )
        if self.others and len(self.texts) > 1:
            raise ValueError("input: beside a picture or a recording there is one text at most")
        if self.label and self.negatives:
            raise ValueError("negatives: they belong to a query, so name two `input` columns")
        if self.widths and min(self.widths) < 1:
            raise ValueError("widths: a vector is at least 1 wide")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and the label's."""
        return (*super().needed, *((self.label,) if self.label else ()))

    @property
    def pairs(self) -> bool:
        """Whether a row is a query and its document; a text and its picture are one thing."""
        return len(self.texts) == 2 and not self.others


@dataclass(frozen=True, eq=False)
class VectorAnswer(Answer):
    """The normalised vectors of a text, or of a query and its document: (1 or 2, D)."""

    draw: ClassVar[str] = "vector"

    vectors: np.ndarray

    @property
    def relevance(self) -> float:
        """The cosine of the two vectors."""
        return float(self.vectors[0] @ self.vectors[-1])

    @property
    def short(self) -> str:
        """The cosine of a pair; of a text, how wide its vector is."""
        if len(self.vectors) == 2:
            return f"cosine {self.relevance:.4f}"
        return f"a vector of {self.vectors.shape[1]}"

    def columns(self) -> dict[str, Any]:
        """The vector, or those of a pair with their cosine."""
        if len(self.vectors) == 2:
            own = {"cosine": self.relevance, "vectors": self.vectors.tolist()}
        else:
            own = {"vector": self.vectors[0].tolist()}
        return {**own, **super().columns()}


class Embed(Contrast[EmbedOptions, VectorAnswer]):
    """Contrastive learning: what belongs together is told from all else in the update.

    Pairs as in dense retrieval (arXiv:2004.04906), labels as in SupCon (arXiv:2004.11362). A text
    that is alone with its label is its own positive, since under dropout it is not the same twice
    (SimCSE, arXiv:2104.08821). There are no weights beside the encoder's, and `Model.encode` gives
    the vectors that were trained.
    """

    kind = "embed"
    measure = "cosine"
    explained_apart = True  # two blank texts are alike, so both at once would tell nothing
    Options = EmbedOptions
    undefined: ClassVar = {"accuracy": "no two of these rows have the same label"}

    @property
    def headline(self) -> str:  # type: ignore[override]
        """How often the nearest text is the right one."""
        return "accuracy" if self.options.label else "recall_at_1"

    @property
    def pooling(self) -> Pooling:
        """How a text's vector is made of its hidden states."""
        return Pooling(mode=self.options.pooling or "mean")

    @property
    def pools(self) -> Literal["mean", "cls"]:
        return self.pooling.mode

    @classmethod
    def study(cls, name: str, options: EmbedOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """Nothing to keep; refuses rows without labels, or with one alone, and wrong negatives."""
        if options.label:
            found = {label for label, _ in _labelled(name, options, rows, "train")}
            if len(found) < 2:
                raise UserError(
                    f"task {name}: the training rows have {len(found)} label(s) in column "
                    f"{options.label!r}; to tell texts apart there must be two at least"
                )
        else:
            check_pairs(name, options, options.negatives, rows, "train")
        return {}

    def check(self, rows: Iterable[Row], split: str) -> None:
        """Refuse rows of which no two have the same label: there would be nothing to find."""
        if not self.options.label:
            check_pairs(self.name, self.options, self.options.negatives, rows, split)
            return
        labelled = _labelled(self.name, self.options, rows, split)
        counts = Counter(label for label, filled in labelled if filled)
        if max(counts.values(), default=0) < 2:
            raise UserError(
                f"task {self.name}: no two rows of its {split} split have the same label in column "
                f"{self.options.label!r}, so it cannot be scored; hold out more rows"
            )

    def examples(self, row: Row, draw: Draw) -> list[Example]:
        same: list[str] = []
        if self.options.label:
            rows = [row]
            if draw.truth:
                if not self._content(row).strip():
                    return []
                rows.append(self._fellow(row, draw))
                same = [self._label(row)] * 2
            sequences = [self.sequence(one, draw) for one in rows]
        else:
            texts = list(self.texts(row))
            if draw.truth:
                if not all(text.strip() for text in texts):
                    return []
                texts += negatives_of(self.name, self.options.negatives, row)
                same = texts
            limit = self.options.max_length
            sequences = [self.text.encode(text, max_length=limit).sequence() for text in texts]
        truth: dict[str, np.ndarray] = {}
        if same:
            truth = {"size": np.array([len(same)]), "same": np.array([_number(x) for x in same])}
        wanted = tuple(self.pooling.wanted(sequence.length) for sequence in sequences)
        return [Example(tuple(sequences), wanted, truth)]

    def _content(self, row: Row) -> str:
        """What tells a row's text, or all that it holds, from others'; blank where that is."""
        if not self.options.others:
            return self.texts(row)[0]
        cells = [row.get(column) for column in self.options.inputs]
        return blake2b(repr(cells).encode(errors="surrogatepass"), digest_size=12).hexdigest()

    def _fellow(self, row: Row, draw: Draw) -> Row:
        """Another row of the label, or the row itself if there is none."""
        rows = draw.others
        if self._known[0] is not rows:  # kept until others come
            labelled = [(self._label(one), self._content(one)) for one in rows]
            places = {content: i for i, (_, content) in enumerate(labelled) if content.strip()}
            self._known = rows, Fellows(pair for pair in labelled if pair[1] in places), places
        _, fellows, places = self._known
        drawn = fellows.draw(self._content(row), self._label(row), draw.rng)
        return rows[places[drawn]] if drawn in places else row

    @cached_property
    def _known(self) -> tuple[Sequence[Row], Fellows, dict[str, int]]:
        return (), Fellows(()), {}

    def build(self, encoder: Encoder) -> nn.Module:
        """No weights of its own; refuses widths that the encoder does not have."""
        width = encoder.config.hidden_size
        if max(self.options.widths or [0]) > width:
            raise UserError(
                f"task {self.name}: widths {self.options.widths} go beyond the encoder's {width}"
            )
        return nn.Identity()

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        pooled = self.pooling.pool(hidden.wanted, batch.wanted_owner, batch.sequences)
        return {"vector": pooled}  # (S, D), not normalised: what is cut to a width is, later

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["size"])

    def contrast(self, outputs: Outputs, truth: Mapping[str, Tensor]) -> Tensor:
        """InfoNCE; the mean over `widths` where there are some (arXiv:2205.13147)."""
        vectors = outputs["vector"].float()
        losses = [
            info_nce(
                F.normalize(vectors[:, :width], dim=-1),
                truth["size"],
                truth["same"],
                self.options.temperature,
            )
            for width in self.options.widths or [vectors.shape[1]]
        ]
        return torch.stack(losses).mean()

    def imitate(
        self, outputs: Outputs, teacher: Task[Any, Any], others: Outputs, batch: Batch | None
    ) -> Tensor:
        """What is like what, among all texts of the update; the mean over `widths`.

        Halved, as in the loss, since an example has a query and a document.
        """
        ours, theirs = outputs["vector"].float(), others["vector"].float()
        widths = self.options.widths or [ours.shape[1]]
        far = [towards_likeness(ours[:, :w], theirs, self.options.temperature) for w in widths]
        return torch.stack(far).mean() / 2

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[VectorAnswer]:
        vectors = F.normalize(outputs["vector"].float(), dim=-1).cpu()
        own = torch.split(vectors, [len(example.sequences) for example in examples])
        return [
            VectorAnswer(
                tokens=example.length,
                dropped=sum(s.dropped for s in example.sequences),
                vectors=some[:2].numpy().copy(),  # without the negatives
            )
            for example, some in zip(examples, own, strict=True)
        ]

    def tally(self, answers: Sequence[VectorAnswer], rows: Sequence[Row]) -> Tally:
        """Pairs: each query among all different documents. Labels: the nearest other text's.

        Resampled rows look among the same documents and texts: among those that a sample has, which
        are fewer, everything would be easier to find.
        """
        queries = torch.from_numpy(np.stack([answer.vectors[0] for answer in answers]))
        if self.options.label:
            return self._tally_labels(queries, rows)
        texts = [(query, document) for query, document in map(self.texts, rows)]
        documents, right = numbered(texts)
        vectors = {d: answer.vectors[1] for (_, d), answer in zip(texts, answers, strict=True)}
        own = [documents[document] for _, document in texts]
        rank = ranks(
            queries,
            torch.from_numpy(np.stack([*vectors.values()])),
            torch.tensor(own),
            [[*right[query] - {place}] for (query, _), place in zip(texts, own, strict=True)],
        ).numpy()
        return Tally.of_means(recall_at_1=rank <= 1, recall_at_10=rank <= 10, mrr=1 / rank)

    def _tally_labels(self, vectors: Tensor, rows: Sequence[Row]) -> Tally:
        """Of the texts that have a fellow: how often the nearest other text is one."""
        labels = [self._label(row) for row in rows]
        texts = [self._content(row) for row in rows]
        places: dict[str, list[int]] = {}
        for i, text in enumerate(texts):
            places.setdefault(text, []).append(i)
        found = nearest(vectors, vectors, 1, [places[text] for text in texts])
        counts = Counter(labels)
        judged = np.array([counts[label] > 1 for label in labels])
        hits = [
            bool(best) and labels[best[0]] == label
            for best, label in zip(found, labels, strict=True)
        ]

        def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
            hit, of = sums[..., 0], sums[..., 1]
            return {"accuracy": np.where(of > 0, hit / np.maximum(of, 1), np.nan)}

        return Tally(np.stack((hits & judged, judged), axis=1).astype(float), scores)

    def surprise(self, answer: VectorAnswer, row: Row) -> float:
        """How far apart two vectors are that belong together: minus log((1 + cosine) / 2)."""
        return -math.log(max((1 + answer.relevance) / 2, 1e-12))

    def truth(self, row: Row) -> str:
        """The document, or the label."""
        if self.options.label:
            return self._label(row)
        return self.texts(row)[1]

    def explain_target(self, outputs: Outputs, answer: VectorAnswer) -> Tensor:
        """A pair's cosine; of one text, that with the vector that it has whole."""
        vectors = outputs["vector"].float()
        if len(answer.vectors) == 2:
            return F.cosine_similarity(vectors[0], vectors[1], dim=0)
        own = torch.from_numpy(answer.vectors[0]).to(vectors.device)
        return F.cosine_similarity(vectors[0], own, dim=0)

    def _label(self, row: Row) -> str:
        return _label(self.name, self.options.label or "", row)


def _number(text: str) -> int:
    """A number of 64 bits for a text: the same for the same text, on every machine."""
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _labelled(
    task: str, options: EmbedOptions, rows: Iterable[Row], split: str
) -> Iterator[tuple[str, bool]]:
    """Labels of rows, which are refused without one or a text, and whether that is not blank."""
    for where, row in placed(rows, split):
        with said_of(where):
            label, filled = _label(task, options.label or "", row), True
            if options.others:
                check_texts(task, options, row)
            else:
                filled = bool(text_in(task, row, options.texts[0]).strip())
            yield label, filled


def _label(task: str, column: str, row: Row) -> str:
    value = row.get(column)
    found = "" if value is None or isinstance(value, list | dict) else str(value).strip()
    if not found or value != value:  # only NaN is not itself
        raise UserError(
            f"task {task}: column {column!r} holds {value!r} and no label; label the row or drop "
            "it, or name two columns in `input`: a text, and one that belongs with it"
        )
    return found
