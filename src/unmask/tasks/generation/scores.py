"""Scores of written texts, as functions of sums: BLEU, chrF, ROUGE, exact matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from unmask.errors import UserError
from unmask.tasks.generation.answer import Reading, TextAnswer
from unmask.tasks.tally import Tally

Formula = Callable[[np.ndarray], np.ndarray]  # sums (..., k) -> (...)

_GRAMS = 6  # characters of chrF's longest n-gram
_BETA = 2  # recall counts so many times as much as precision


def tally(
    answers: Sequence[TextAnswer],
    truth: Sequence[str] | None = None,
    tokenizer: str = "13a",
    rouge: bool = False,
) -> Tally:
    """How well the truth was foreseen, and where the truth is given how near to it was written."""
    read = [answer.reading or Reading(0.0, 0, 0) for answer in answers]
    columns = {"loss": np.array([(r.loss, r.count) for r in read], dtype=float)}
    columns["accuracy"] = np.array([(r.hits, r.count) for r in read], dtype=float)
    formulas: dict[str, Formula] = dict.fromkeys(columns, _ratio)
    if truth is not None:
        written = [answer.short for answer in answers]
        columns["bleu"] = bleu_counts(written, truth, tokenizer)
        columns["chrf"] = chrf_counts(written, truth)
        formulas |= {"bleu": bleu, "chrf": chrf}
        means: dict[str, Any] = {
            "exact_match": [w.strip() == t.strip() for w, t in zip(written, truth, strict=True)],
            "unfinished": [answer.unfinished for answer in answers],
            **(rouge_values(written, truth) if rouge else {}),
        }
        for name, values in means.items():
            columns[name] = np.stack([values, np.ones(len(answers))], axis=1)
            formulas[name] = _ratio
    ends = np.cumsum([column.shape[1] for column in columns.values()])

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(sums, ends[:-1], axis=-1)
        return {name: formulas[name](own) for name, own in zip(columns, parts, strict=True)}

    return Tally(np.concatenate([*columns.values()], axis=1), scores)


def bleu_counts(written: Sequence[str], truth: Sequence[str], tokenizer: str) -> np.ndarray:
    """What each text adds to BLEU (Papineni et al., 2002), by sacrebleu: (N, 10).

    Hits and totals of 1- to 4-grams, and the lengths of text and truth.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize=tokenizer, effective_order=True)
    rows = []
    for one, other in zip(written, truth, strict=True):
        found = bleu.sentence_score(one, [other])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.array(rows, dtype=float).reshape(-1, 10)


def bleu(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU from 0 to 1: (..., 10) -> (...), as sacrebleu has it (arXiv:1804.08771).

    Where no text is as long as four words, it is that of the longest there are.
    """
    from sacrebleu.metrics.bleu import BLEU

    def of(row: np.ndarray) -> float:
        hits, totals = row[:4].astype(int).tolist(), row[4:8].astype(int).tolist()
        lengths = int(row[8]), int(row[9])
        found = BLEU.compute_bleu(hits, totals, *lengths, smooth_method="exp", effective_order=True)
        return found.score / 100

    flat = np.array([of(row) for row in sums.reshape(-1, 10)])
    return flat.reshape(sums.shape[:-1])


def chrf_counts(written: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    """What each text adds to chrF (Popović, 2015): of 1- to 6-grams of characters, (N, 18).

    Those of the text, those of the truth, and those of both; white space is no character.
    """
    rows = []
    for one, other in zip(written, truth, strict=True):
        row = []
        for n in range(1, _GRAMS + 1):
            ours, theirs = _grams(one, n), _grams(other, n)
            row += [ours.total(), theirs.total(), (ours & theirs).total()]
        rows.append(row)
    return np.array(rows, dtype=float).reshape(-1, 3 * _GRAMS)


def chrf(sums: np.ndarray) -> np.ndarray:
    """Corpus chrF2 from 0 to 1: (..., 18) -> (...).

    Mean precision and recall of the lengths that both sides have, and their F with recall twice
    as important.
    """
    ours, theirs, both = np.moveaxis(sums.reshape(*sums.shape[:-1], _GRAMS, 3), -1, 0)
    counts = (ours > 0) & (theirs > 0)  # (..., 6)
    number = np.maximum(counts.sum(-1), 1)
    precision = (both / np.maximum(ours, 1) * counts).sum(-1) / number
    recall = (both / np.maximum(theirs, 1) * counts).sum(-1) / number
    below = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1)


def rouge_values(written: Sequence[str], truth: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, -2 and -L (Lin, 2004) of each text, by rouge-score: F, with stemming, (N,) each."""
    scorer = rouge_scorer()
    found = [scorer.score(other, one) for one, other in zip(written, truth, strict=True)]
    return {
        name: np.array([row[key].fmeasure for row in found])
        for name, key in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"))
    }


@cache
def rouge_scorer() -> Any:
    """The scorer; a UserError where the extra is missing."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UserError(
            "`rouge: true` needs the package rouge-score: pip install 'unmask[rouge]', or leave "
            "it out"
        ) from None
    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def distinct(written: Sequence[str], n: int = 2) -> float:
    """The share of all word n-grams that are different ones (Li et al., arXiv:1510.03055).

    NaN where no text has so many words.
    """
    grams: Counter[tuple[str, ...]] = Counter()
    for text in written:
        words = text.split()
        grams.update(zip(*(words[i:] for i in range(n)), strict=False))
    return len(grams) / grams.total() if grams else float("nan")


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _grams(text: str, n: int) -> Counter[str]:
    joined = "".join(text.split())
    return Counter(joined[i : i + n] for i in range(len(joined) - n + 1))
