"""What is wrong with the rows of a recipe: leaks from training into test, and labels to doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask import bundle as bundles
from unmask import progress
from unmask.data.corpus import CorpusRows
from unmask.data.duplicates import fold
from unmask.data.rows import Rows
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.held import last_run
from unmask.loading import load
from unmask.machine.threads import use_available_cpus
from unmask.recipe import Run, TaskOptions
from unmask.trust.labels import FOLDS, character_vectors, probabilities, suspects
from unmask.trust.overlap import NEAR, overlaps

MOST = 10_000  # rows of a task whose labels are looked at
LISTED = 100  # rows of each finding that are given


@dataclass(frozen=True)
class _Row:
    split: str
    number: int  # in its source, from 1
    source: str
    text: str
    label: str | None

    @property
    def place(self) -> dict[str, Any]:
        return {"split": self.split, "file": self.source, "row": self.number}


def audit(source: Path, near: float = NEAR, only: str | None = None) -> dict[str, Any]:
    """Leaks and doubtful labels of each task, as plain data.

    `source` is a recipe, or a bundle with its own. Labels are judged by the vectors of the bundle's
    trunk, or of the pretrained encoder that the recipe starts from; where there is none, by
    characters. A bundle's trunk has learnt the labels, so it doubts fewer of them.
    """
    use_available_cpus()
    whole = bundles.is_bundle(source)
    path = source / "recipe.yaml" if whole else source
    if whole and not path.is_file():
        raise UserError(f"{source} was not trained by a recipe: give a recipe in its place")
    run: Run = last_run(path)
    if only is not None and only not in run.tasks:
        raise UserError(f"the recipe has no task {only!r}; its tasks: {', '.join(run.tasks)}")
    trunk = str(source) if whole else run.encoder.source
    vectors = _vectors_by(trunk)
    found = []
    for name, options in run.tasks.items():
        if only in (None, name):
            found.append(_of_task(name, options, run.train.seed, near, vectors))
    return {"source": str(source), "vectors": trunk or "characters", "near": near, "tasks": found}


Vectors = Callable[[Sequence[str], Callable[[int], None]], np.ndarray]


def _vectors_by(trunk: str | None) -> Vectors:
    """What makes vectors of length 1 of texts; the trunk is read when it is first needed."""
    if trunk is None:
        return character_vectors

    def encode(texts: Sequence[str], advance: Callable[[int], None]) -> np.ndarray:
        x = load(trunk).encode(texts, advance).numpy()
        return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))

    return encode


def _of_task(
    name: str, options: TaskOptions, seed: int, near: float, vectors: Vectors
) -> dict[str, Any]:
    splits = split_rows(name, options, seed)
    parts = {s: r for s in ("train", "valid", "test") if (r := getattr(splits, s)) is not None}
    found: dict[str, Any] = {"task": name, "kind": options.kind, "notes": [], "leaks": []}
    found["rows"] = {split: len(rows) for split, rows in parts.items()}
    if any(isinstance(rows, CorpusRows) for rows in parts.values()):
        found["notes"].append("its rows are of a built corpus, which lost its duplicates already")
        return {**found, "clashes": [], "labels": None}
    rows = {split: _read(split, own, options) for split, own in parts.items()}
    train = rows.get("train", [])
    for split, own in rows.items():
        if split != "train":
            found["leaks"].append(_leaks(own, train, near))
    found["clashes"] = _clashes(rows)
    found["labels"] = _labels(name, rows, vectors, found["notes"])
    return found


def _read(split: str, rows: Rows, options: TaskOptions) -> list[_Row]:
    label = getattr(options, "label", None)
    single = options.kind == "classify" and not getattr(options, "multi_label", False)
    columns = [*options.inputs, *([str(label)] if single else [])]
    found = []
    for i, cells in enumerate(rows.values(columns)):
        text = " | ".join(str(cell) for cell in cells[: len(options.inputs)])
        own = str(cells[-1]).strip() if single and cells[-1] is not None else None
        found.append(_Row(split, int(rows.ids[i]) + 1, rows.origin, text, own))
    return found


def _leaks(held: Sequence[_Row], train: Sequence[_Row], near: float) -> dict[str, Any]:
    """Rows of a split that stand in the training rows too."""
    matches = overlaps([row.text for row in held], [row.text for row in train], near)
    listed = [
        {
            **held[m.row].place,
            "text": held[m.row].text,
            "like": train[m.like].place,
            "like_text": train[m.like].text,
            "similarity": m.similarity,
            "same_label": held[m.row].label == train[m.like].label,
        }
        for m in sorted(matches, key=lambda m: -m.similarity)
    ]
    exact = sum(m.similarity == 1.0 for m in matches)
    return {
        "split": held[0].split,
        "rows": len(held),
        "same": exact,
        "near": len(matches) - exact,
        "listed": listed[:LISTED],
    }


def _clashes(parts: dict[str, list[_Row]]) -> list[dict[str, Any]]:
    """Texts that stand in several rows with different labels."""
    seen: dict[str, list[_Row]] = {}
    for row in (row for own in parts.values() for row in own):
        if row.label is not None:
            seen.setdefault(fold(row.text), []).append(row)
    found = [
        {
            "text": own[0].text,
            "labels": dict(Counter(row.label for row in own)),
            "rows": [{**row.place, "label": row.label} for row in own],
        }
        for own in seen.values()
        if len({row.label for row in own}) > 1
    ]
    return found[:LISTED]


def _labels(
    name: str,
    parts: dict[str, list[_Row]],
    vectors: Vectors,
    notes: list[str],
) -> dict[str, Any] | None:
    """Rows of all splits whose labels are doubted."""
    rows = [row for own in parts.values() for row in own if row.label is not None]
    if not rows:
        notes.append("its labels are not looked at: only those of classify with one label are")
        return None
    count = Counter(row.label for row in rows)
    rare = {label for label, n in count.items() if n < FOLDS}
    rows = [row for row in rows if row.label not in rare]
    if rare:
        notes.append(f"{len(rare)} label(s) with fewer than {FOLDS} rows are left out")
    if len(count) - len(rare) < 2:
        notes.append("fewer than two labels have rows enough: none can be doubted")
        return None
    if len(rows) > MOST:
        which = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST])
        rows = [rows[i] for i in which]
        notes.append(f"of the labels, {MOST} rows are looked at")
    names = sorted({row.label for row in rows if row.label is not None})
    numbers = {label: i for i, label in enumerate(names)}
    labels = np.array([numbers[row.label] for row in rows if row.label is not None])
    keys = [fold(row.text) for row in rows]
    groups = np.unique(np.array(keys), return_inverse=True)[1]
    with progress.bar(f"labels of {name}", len(rows)) as advance:
        x = vectors([row.text for row in rows], advance)
        p = probabilities(x, labels, groups)
    doubted = suspects(p, labels, names)
    return {
        "rows": len(rows),
        "agreement": float((p.argmax(1) == labels).mean()),
        "doubted": len(doubted),
        "listed": [
            {
                **rows[one.row].place,
                "text": rows[one.row].text,
                "label": one.label,
                "instead": one.instead,
                "own": one.own,
                "other": one.other,
            }
            for one in doubted[:LISTED]
        ],
    }
