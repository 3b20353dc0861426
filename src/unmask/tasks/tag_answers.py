"""What `tag` says of a text: entities and the tags of its words, and how right they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from unmask.batch import Example
from unmask.errors import UserError
from unmask.tasks.base import Answer
from unmask.tasks.spans_of_tags import OUTSIDE, Span, Tagset, spans_of


@dataclass(frozen=True)
class Truth:
    """What is known of a row: its spans in characters, and its words' tags."""

    spans: tuple[Span, ...]
    tags: tuple[str, ...]
    uneven: int  # spans that were widened to whole words, or fit none


@dataclass(frozen=True, kw_only=True)
class TagExample(Example):
    """An example that knows its words: their vectors are wanted in order, over all windows."""

    text: str
    words: np.ndarray  # (W, 2) characters
    read: np.ndarray  # (W,) bool: the tokenizer left something of the word
    gold: Truth | None = None


@dataclass(frozen=True)
class Entity:
    """A stretch of the text, in characters, and what it is."""

    label: str
    start: int
    end: int
    text: str
    probability: float  # of all its words' tags together


@dataclass(frozen=True)
class TagAnswer(Answer):
    """The entities of a text, and the tag of each of its words."""

    draw: ClassVar[str] = "spans"

    entities: tuple[Entity, ...]
    words: tuple[str, ...]
    tags: tuple[str, ...]
    probability: float  # of all tags together
    unread: int  # words of which the tokenizer leaves nothing: their tag is O
    gold: Truth | None = None  # where it is known
    loss: float = 0.0  # minus its log-probability

    @property
    def short(self) -> str:
        """Each entity with its label."""
        return listed((entity.label, entity.text) for entity in self.entities)

    def columns(self) -> dict[str, Any]:
        """The entities, in a line and as records; the words and their tags."""
        return {
            "prediction": self.short,
            "probability": self.probability,
            "entities": [asdict(entity) for entity in self.entities],
            "words": list(self.words),
            "word_tags": list(self.tags),
            "unread": self.unread,
            **super().columns(),
        }


def asked_words(
    task: str, example: TagExample, answer: TagAnswer, wanted: str | None
) -> tuple[TagAnswer, np.ndarray]:
    """The part of an answer that `wanted` names, and which of the words (W,) it is of.

    That is an entity by its text or label, or a word; without it all entities, or all words where
    there are none.
    """
    entities = answer.entities
    if wanted is not None:
        entities = tuple(e for e in entities if wanted in (e.text, e.label, f"{e.label}: {e.text}"))
    kept = np.zeros(len(example.words), dtype=bool)
    for entity in entities:
        kept |= (example.words[:, 0] >= entity.start) & (example.words[:, 1] <= entity.end)
    if not entities:
        kept[:] = [wanted is None or word == wanted for word in answer.words]
    kept &= example.read
    if not kept.any():
        if wanted is None:
            raise UserError(f"task {task}: the text has no words, so nothing is to be explained")
        raise UserError(
            f"task {task}: {wanted!r} is neither an entity that was found ({answer.short}) nor a "
            "word of the text"
        )
    places = np.flatnonzero(kept)
    own = replace(
        answer,
        entities=entities,
        words=tuple(answer.words[i] for i in places),
        tags=tuple(answer.tags[i] for i in places),
    )
    return own, kept


def listed(entities: Iterable[tuple[str, str]]) -> str:
    """Labels and texts in a line, for people."""
    return "; ".join(f"{label}: {text}" for label, text in entities) or "nothing"


def make_answer(example: TagExample, log_p: np.ndarray, tagset: Tagset) -> TagAnswer:
    """The answer by the log-probabilities (n, K) of the words that were read.

    Words are as if independent, so an entity's probability is the product of its words'.
    """
    text, ranges = example.text, example.words.tolist()
    places = np.flatnonzero(example.read)
    tags = [OUTSIDE] * len(ranges)
    chosen = np.zeros(len(ranges))  # log-probability of each word's tag
    # A word that was not read parts its neighbours, as any word outside of entities does.
    breaks = np.flatnonzero(np.diff(places) > 1) + 1
    for own, rows in zip(np.split(places, breaks), np.split(log_p, breaks), strict=True):
        best = tagset.best(rows)
        chosen[own] = rows[np.arange(len(rows)), best]
        for place, number in zip(own.tolist(), best.tolist(), strict=True):
            tags[place] = tagset.tags[number]
    entities = []
    for span in spans_of(tags):
        start, end = ranges[span.start][0], ranges[span.end - 1][1]
        p = float(np.exp(chosen[span.start : span.end].sum()))
        entities.append(Entity(span.label, start, end, text[start:end], p))
    truth = example.truth.get("tag")
    return TagAnswer(
        tokens=example.length,
        dropped=0,
        entities=tuple(entities),
        words=tuple(text[start:end] for start, end in ranges),
        tags=tuple(tags),
        probability=float(np.exp(chosen.sum())),
        unread=len(ranges) - len(places),
        gold=example.gold,
        loss=0.0 if truth is None else -float(log_p[np.arange(len(truth)), truth].sum()),
    )


def score_answers(answers: Sequence[TagAnswer]) -> dict[str, float]:
    """Entities by place and label, as seqeval counts them, and the words' tags.

    `widened` is the share of the truth's spans that were out of step with the words, and `unread`
    that of the words that the tokenizer drops: both only where they are not 0.
    """
    pairs = [(answer, answer.gold) for answer in answers if answer.gold is not None]
    gold = [set(truth.spans) for _, truth in pairs]
    guess = [{Span(e.start, e.end, e.label) for e in answer.entities} for answer, _ in pairs]
    hits = [a == b for answer, truth in pairs for a, b in zip(answer.tags, truth.tags, strict=True)]
    shares = {
        "widened": sum(truth.uneven for _, truth in pairs) / max(sum(map(len, gold)), 1),
        "unread": sum(answer.unread for answer, _ in pairs) / len(hits),
    }
    return {
        **entity_scores(gold, guess),
        "accuracy": sum(hits) / len(hits),
        **{name: share for name, share in shares.items() if share},
    }


def entity_scores(
    gold: Sequence[Collection[Span]], guess: Sequence[Collection[Span]]
) -> dict[str, float]:
    """Precision, recall and F1 over the spans of all texts; F1's mean over labels; whole texts.

    A span is right where its place and its label are; a text, where all its spans are.
    """
    true, said, right = (
        Counter(span.label for spans in side for span in spans)
        for side in (gold, guess, [set(a) & set(b) for a, b in zip(gold, guess, strict=True)])
    )
    # F1 is the harmonic mean of precision and recall; in counts:
    by_label = [2 * right[x] / (true[x] + said[x]) for x in true.keys() | said.keys()]
    return {
        "f1": 2 * right.total() / max(true.total() + said.total(), 1),
        "precision": right.total() / max(said.total(), 1),
        "recall": right.total() / max(true.total(), 1),
        "f1_macro": sum(sorted(by_label)) / max(len(by_label), 1),
        "exact_match": sum(set(a) == set(b) for a, b in zip(gold, guess, strict=True)) / len(gold),
    }
