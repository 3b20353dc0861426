"""Question answering beside transformers: the answers of its usual post-processing, and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import unmask
from unmask.saving import save_as
from unmask.tasks.candidates import SpanAnswer
from unmask.tasks.span import Span

LENGTH, OVERLAP, LONGEST = 48, 12, 9
QUESTION = "who said hello?"


def context(seed: int, words: int) -> str:
    rng = np.random.default_rng(seed)
    letters = list("abcdefgh")
    made = ["".join(rng.choice(letters, rng.integers(1, 6))) for _ in range(words)]
    return "  ".join(f"{word}{'.' if i % 7 == 6 else ''}" for i, word in enumerate(made))


class Theirs:
    """The usual way with transformers: features with overflow, then the n best of all of them."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()

    def answer(
        self, question: str, text: str, n_best: int = 10_000
    ) -> tuple[list[tuple[float, int, int]], float, int]:
        """Spans as (score, start, end), best first; the score of none; how many features."""
        features = self.tokenizer(
            question,
            text,
            truncation="only_second",
            max_length=LENGTH,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length",
        )
        names = [n for n in self.tokenizer.model_input_names if n in features]
        with torch.no_grad():
            out = self.model(**{name: torch.tensor(features[name]) for name in names})
        found: list[tuple[float, int, int]] = []
        nulls = []
        for i in range(len(features["input_ids"])):
            start, end = (x[i].numpy() for x in (out.start_logits, out.end_logits))
            cls = features["input_ids"][i].index(self.tokenizer.cls_token_id)
            nulls.append(float(start[cls] + end[cls]))
            chars = [
                pair if side == 1 else None
                for pair, side in zip(
                    features["offset_mapping"][i], features.sequence_ids(i), strict=True
                )
            ]
            for s in np.argsort(start)[::-1][:n_best]:
                for e in np.argsort(end)[::-1][:n_best]:
                    if chars[s] is None or chars[e] is None or e < s or e - s + 1 > LONGEST:
                        continue
                    found.append((float(start[s] + end[e]), chars[s][0], chars[e][1]))
        return sorted(found, reverse=True), min(nulls), len(nulls)


def merged(spans: list[tuple[float, int, int]], text: str) -> dict[tuple[int, int], float]:
    """Best first; each stretch of characters once, without white space around it."""
    best: dict[tuple[int, int], float] = {}
    for score, start, end in spans:
        stretch = text[start:end]
        place = (end - len(stretch.lstrip()), start + len(stretch.rstrip()))
        if stretch.strip():
            best.setdefault(place, score)
    return best


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "electra", "roberta", "xlm-roberta", "modernbert"]
)
def test_the_same_answers(family: str, make: Any) -> None:
    folder = make(family, "span").path
    theirs, model = Theirs(folder), unmask.load(folder)
    task = model.task("span")
    assert isinstance(task, Span)
    changes = {"max_length": LENGTH, "overlap": OVERLAP, "max_answer": LONGEST, "no_answer": True}
    model.tasks["span"] = Span("span", task.options.model_copy(update=changes), task.text)
    texts = [context(seed, words) for seed, words in enumerate([1, 4, 9, 20, 40, 80, 160])]
    answers: list[SpanAnswer] = model.predict("span", [(QUESTION, t) for t in texts], top=20)
    windows = []
    for text, answer in zip(texts, answers, strict=True):
        spans, null, features = theirs.answer(QUESTION, text)
        windows.append(features)
        expected = merged(spans, text)
        assert answer.null is not None
        assert answer.null.score == pytest.approx(null, abs=1e-4)
        given = [(c.start, c.end) for c in answer.candidates]
        assert given == list(expected)[:20]
        for candidate in answer.candidates:
            place = (candidate.start, candidate.end)
            assert candidate.text == text[slice(*place)]
            assert candidate.score == pytest.approx(expected[place], abs=1e-4)
        silent = null > spans[0][0]
        assert answer.text == ("" if silent else text[slice(*given[0])])
        usual = merged(theirs.answer(QUESTION, text, n_best=20)[0], text)  # looks at fewer pairs
        assert max(usual.values(), default=-np.inf) <= answer.candidates[0].score + 1e-4
    assert windows[0] == 1
    assert windows[-1] > 5
    assert windows == [len(e.sequences) for e in _examples(model, texts)]


def _examples(model: Any, texts: list[str]) -> list[Any]:
    from unmask.tasks import Draw, row_rng

    unseen = Draw(row_rng(0, "", 0, 0), truth=False)
    rows = [{"question": QUESTION, "context": text} for text in texts]
    return [e for row in rows for e in model.task("span").examples(row, unseen)]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_loaded_saved_and_exported(family: str, make: Any, tmp_path: Path) -> None:
    made = make(family, "span")
    model = unmask.load(made.path)
    save_as(model, tmp_path / "out", "huggingface")
    again = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    state = made.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    assert type(again) is type(made.model)
    (first,) = model.predict("span", [(QUESTION, context(0, 30))])
    (second,) = unmask.load(tmp_path / "out").predict("span", [(QUESTION, context(0, 30))])
    assert first == second
