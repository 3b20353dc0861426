"""A first recipe: what `unmask init` makes of columns, and of the files in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from unmask.cli.initial import initial_recipe
from unmask.data.sources import read
from unmask.errors import UserError
from unmask.recipe import Source, parse
from unmask.tasks import OPTIONS


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task(path: Path) -> dict[str, Any]:
    """The only task of the recipe for a path, once it is known to be a sound one."""
    recipe = yaml.safe_load(initial_recipe(path, None, (), None)[0])
    parse(recipe, OPTIONS)
    (made,) = recipe["tasks"].values()
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize(
    ("rows", "kind", "expected"),
    [
        (
            [{"text": "a b", "score": 0.5}, {"text": "c", "score": 2.0}],
            "regress",
            {"input": "text", "label": "score"},
        ),
        (
            [{"text": "good", "stars": 1.0}, {"text": "bad", "stars": 2.0}],
            "classify",
            {"input": "text", "label": "stars"},
        ),
        (
            [{"query": f"a {i}", "document": f"long {i}"} for i in range(3)],
            "embed",
            {"input": ["query", "document"]},
        ),
        (
            [
                {"question": "q", "context": "c", "answers": [{"text": "c", "start": 0}]},
                {"question": "p", "context": "c", "answers": []},
            ],
            "span",
            {"input": ["question", "context"], "answers": "answers", "no_answer": True},
        ),
        (
            [
                {"question": "q", "context": "c", "answers": {"text": [t] * n, "start": [0] * n}}
                for n, t in enumerate("ac")
            ],
            "span",
            {"input": ["question", "context"], "answers": "answers", "no_answer": True},
        ),
        ([{"body": f"words {i}", "id": i} for i in range(9)], "mlm", {"input": "body"}),
        ([{"text": "one"}, {"text": "two"}], "mlm", {"input": "text"}),
        (
            [{"question1": f"how {i}", "question2": "why", "same": i % 2} for i in range(9)],
            "classify",
            {"input": ["question1", "question2"], "label": "same"},
        ),
        (
            [{"text": f"it costs {i}", "price": i / 2, "label": "ab"[i % 2]} for i in range(9)],
            "classify",
            {"input": "text", "label": "label"},
        ),
        (
            [
                {
                    "tokens": ["Ann", f"Kim{i}", "ran"],
                    "chunks": ["B-NP", "I-NP", "B-VP"],
                    "ner": ["B-per", "I-per", "O"],
                    "upos": ["X", "X", "X"],
                }
                for i in range(9)
            ],
            "tag",
            {"input": "tokens", "label": "ner"},
        ),
    ],
)
def test_columns_say_what_they_are_for(
    rows: list[dict[str, Any]], kind: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", *rows)
    assert task(path) == {"kind": kind, "train": str(path), "test": 0.1, **expected}


def test_numbers_of_a_csv_are_numbers(tmp_path: Path) -> None:
    lines = [f"{i},a text of {i},{i / 2 if i else ''}" for i in range(9)]
    (tmp_path / "a.csv").write_text("\n".join(["id,text,score", *lines]), encoding="utf-8")
    made = task(tmp_path / "a.csv")
    assert (made["kind"], made["input"], made["label"]) == ("regress", "text", "score")


def test_rows_to_score_may_be_the_only_ones_without_an_answer(tmp_path: Path) -> None:
    row = {"question": "q", "context": "c", "answers": [{"text": "c", "start": 0}]}
    write(tmp_path / "train.jsonl", row)
    write(tmp_path / "test.jsonl", row | {"answers": []})
    assert task(tmp_path)["no_answer"] is True


def test_the_files_of_a_folder_say_what_they_are_for(tmp_path: Path) -> None:
    rows = [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}]
    parts = [str(write(tmp_path / f"train-0{i}.jsonl", *rows)) for i in (0, 1)]
    dev = str(write(tmp_path / "my.dev.jsonl", *rows))
    write(tmp_path / "test.jsonl", {"text": "a test without labels"})
    (tmp_path / "train.md").write_text("about it")
    made = task(tmp_path)
    assert made == {
        "kind": "classify", "train": parts, "valid": dev, "test": 0.1, "input": "text",
        "label": "label",
    }  # fmt: skip
    said = initial_recipe(tmp_path, None, (), None)[1]
    assert "4 rows; classify text into the 2 values of label" in said
    assert "test.jsonl has no column 'label': left out as test" in said


def test_a_folder_of_parts_is_one_set_of_rows(tmp_path: Path) -> None:
    rows = [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}]
    parts = [str(write(tmp_path / f"part-{i}.jsonl", *rows)) for i in (0, 1)]
    made = task(tmp_path)["train"]
    assert made == str(tmp_path / "*.jsonl")
    assert len(read(Source(path=made))) == 4
    (tmp_path / "part-2.csv").write_text("text,label\ngood,x\n")  # no pattern holds for both
    assert set(task(tmp_path)["train"]) == {*parts, str(tmp_path / "part-2.csv")}


def test_a_folder_without_rows_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file that unmask reads"):
        initial_recipe(tmp_path, None, (), None)
    write(tmp_path / "test.jsonl", {"text": "a"})
    with pytest.raises(UserError, match=r"holds test\.jsonl: name the file to learn from"):
        initial_recipe(tmp_path, None, (), None)
