"""How one data set differs from another: words, lengths, labels, and what a trunk makes of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask import progress
from unmask.data.sources import read, require
from unmask.errors import UserError
from unmask.loading import load
from unmask.machine.threads import use_available_cpus
from unmask.recipe import Source
from unmask.trust.sketch import Parts, add_up, distances, parts, together, words

MOST = 2000  # rows of each that are looked at, drawn by the seed
DRAWS = 99  # ways to deal the rows out anew, for what chance would do
TELLING = 15  # words that tell the two apart, of each
_SAID = {
    "lengths": ("texts are about as long", "texts are longer or shorter"),
    "vocabulary": ("the same words are used", "other words are used"),
    "labels": ("labels are as frequent", "labels are rarer or more frequent"),
    "vectors": ("the trunk sees the same kind of text", "the trunk sees other kinds of text"),
}


def shift(
    first: Path,
    second: Path,
    bundle: str | None = None,
    text: str = "text",
    label: str = "label",
    seed: int = 0,
) -> dict[str, Any]:
    """How far two files of rows are apart in each respect, beside what chance would show.

    With a bundle (any checkpoint), its vectors of texts are compared too: by the maximum mean
    discrepancy, and by how well a classifier tells the two sets apart on rows that it did not see.
    """
    use_available_cpus()
    sets = [_read(path, text, label, seed) for path in (first, second)]
    labels = [own if all(o is not None for _, o in sets) else None for _, own in sets]
    vectors: list[np.ndarray | None] = [None, None]
    if bundle is not None:
        model = load(bundle)
        with progress.bar("vectors", sum(len(texts) for texts, _ in sets)) as advance:
            vectors = [_unit(model.encode(texts, advance).numpy()) for texts, _ in sets]
    a, b = (parts(t, names, x) for (t, _), names, x in zip(sets, labels, vectors, strict=True))
    notes = []
    if labels[0] is None:
        notes.append(f"labels are not compared: not both have a column {label!r}")
    found = {
        "first": str(first),
        "second": str(second),
        "bundle": bundle,
        "rows": [len(a), len(b)],
        "distances": _against_chance(a, b, seed),
        "words": _telling(*(texts for texts, _ in sets)),
        "notes": notes,
    }
    if vectors[0] is not None and vectors[1] is not None:
        found["classifier"] = _classifier(vectors[0], vectors[1], seed)
    return found


def _read(path: Path, text: str, label: str, seed: int) -> tuple[list[str], list[str] | None]:
    rows = read(Source(path=str(path)))
    require(rows, [text])
    which = np.random.default_rng(seed).permutation(len(rows))[:MOST]
    columns = [text, label] if label in rows.column_names else [text]
    cells = [*rows.pick(np.sort(which)).values(columns)]
    for own in cells:
        if not isinstance(own[0], str):
            raise UserError(f"{path}: column {text!r} holds {own[0]!r} and no text; see --text")
    if len(cells) < 2:
        raise UserError(f"{path} holds {len(cells)} row(s): two are needed to be compared")
    labels = [str(own[1]) for own in cells] if len(columns) > 1 else None
    return [own[0] for own in cells], labels


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _against_chance(a: Parts, b: Parts, seed: int) -> dict[str, Any]:
    """Each distance, the 95th percentile of it were rows dealt out anew, and what that says."""
    whole = distances(add_up(a), add_up(b))
    both, n = together(a, b), len(a)
    rng = np.random.default_rng(seed)
    dealt: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(DRAWS):
        order = rng.permutation(len(both))
        for name, value in distances(add_up(both, order[:n]), add_up(both, order[n:])).items():
            dealt[name].append(value)
    found = {}
    for name, value in whole.items():
        chance = float(np.quantile(dealt[name], 0.95))
        rarer = sum(other >= value for other in dealt[name])
        found[name] = {
            "distance": value,
            "by_chance": chance,
            "p": (rarer + 1) / (DRAWS + 1),
            "says": _SAID[name][value > chance],
        }
    return found


def _telling(first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    """The words of one set that are most unexpected by the other, and words that are new."""
    counts = [Counter(word for text in texts for word in words(text)) for texts in (first, second)]
    totals = [max(own.total(), 1) for own in counts]

    def rate(word: str, side: int) -> float:
        return (counts[side][word] + 0.5) / totals[side]

    def more(side: int) -> list[dict[str, Any]]:
        # A word's part of the divergence between the two: frequent and unexpected words lead.
        def part(word: str) -> float:
            return counts[side][word] * float(np.log(rate(word, side) / rate(word, 1 - side)))

        top = sorted(counts[side], key=part, reverse=True)[:TELLING]
        return [{"word": w, "first": counts[0][w], "second": counts[1][w]} for w in top]

    new = sum(n for word, n in counts[1].items() if word not in counts[0])
    return {"first": more(0), "second": more(1), "new_in_second": new / totals[1]}


def _classifier(a: np.ndarray, b: np.ndarray, seed: int) -> dict[str, Any]:
    """How well vectors tell of which set a row is (AUC), by five folds of a linear classifier."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    n = min(len(a), len(b))
    if n < 10:
        return {"auc": None, "says": "too few rows to tell"}
    truth = np.array([0] * n + [1] * n)
    x = np.concatenate((a[:n], b[:n]))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    guess = cross_val_predict(
        LogisticRegression(max_iter=300), x, truth, cv=folds, method="predict_proba"
    )[:, 1]
    auc = float(roc_auc_score(truth, guess))
    error = 0.29 * np.sqrt(2 / n)  # of an AUC of 0.5, one standard deviation
    says = (
        "rows of the two cannot be told apart" if auc < 0.5 + 2 * error
        else "rows of the two can be told apart sometimes" if auc < 0.8
        else "rows of the two can nearly always be told apart"
    )  # fmt: skip
    return {"auc": auc, "says": says}
