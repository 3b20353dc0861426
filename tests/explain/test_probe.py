"""A probe finds what is there, and no more than that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmask.data.sources import read
from unmask.errors import UserError
from unmask.explain.probe import probe
from unmask.model import Model
from unmask.recipe import Source

from ..conftest import WORDS
from .test_shortcut import run


def written(path: Path, rows: list[dict[str, Any]]) -> Any:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(Source(path=str(path)))


def texts(count: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [rng.choice(WORDS[:20], rng.integers(3, 7)).tolist() for _ in range(count)]


def test_what_is_there_and_what_is_not(make_model: Callable[..., Model], tmp_path: Path) -> None:
    rows = [
        {"text": " ".join(own), "cat": "cat" in own, "coin": str(i % 2)}
        for i, own in enumerate(texts(150))
    ]
    model = make_model("classify")
    there = probe(model, written(tmp_path / "a.jsonl", rows), "text", "cat")
    assert [one["layer"] for one in there["layers"]] == [0, 1, 2, 3]
    first = there["layers"][0]
    assert first["accuracy"] > there["majority"] + 0.05
    assert first["low"] <= first["accuracy"] <= first["high"]
    assert first["selectivity"] == pytest.approx(first["accuracy"] - first["control"])
    absent = probe(model, read(Source(path=str(tmp_path / "a.jsonl"))), "text", "coin")
    assert all(one["accuracy"] < 0.65 for one in absent["layers"])


def test_words(make_model: Callable[..., Model], tmp_path: Path) -> None:
    """What a word is long is in the embeddings; the control is learnt by heart as well."""
    rows = [{"words": own, "tags": [str(len(w) > 3) for w in own]} for own in texts(80)]
    found = probe(make_model("tag"), written(tmp_path / "a.jsonl", rows), "words", "tags")
    assert found["of"] == "words"
    assert found["examples"] == sum(len(row["words"]) for row in rows)
    assert found["layers"][0]["accuracy"] > found["majority"] + 0.1
    assert found["layers"][0]["control"] > found["majority"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "a"}, "nothing to tell"),
        ({"label": None}, "no single label"),
        ({"text": ["a", "b"], "label": ["x"]}, "one label for each of the row's 2 words"),
        ({"text": 3}, "neither a text nor a list of words"),
    ],
)
def test_mistakes(
    make_model: Callable[..., Model], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    rows = [{"text": "the cat", "label": "a"} | change for _ in range(12)]
    with pytest.raises(UserError, match=said):
        probe(make_model("classify"), written(tmp_path / "a.jsonl", rows), "text", "label")


def test_the_command(trained: Path, monkeypatch: Any, capsys: Any) -> None:
    data = trained.parent / "rows.csv"
    assert run(monkeypatch, "probe", trained / "bundle", data, "--label", "label", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layers"][found["best"]]["accuracy"] > 0.9
    assert run(monkeypatch, "probe", trained / "bundle", data, "--label", "none") == 2
    assert "none" in capsys.readouterr().err
