"""What `evaluate` finds: figures with intervals, what lies behind them, and what to know first."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import unmask
from unmask.evaluation.page import render


def test_what_is_found(trained: Path) -> None:
    found = unmask.evaluate(trained / "run" / "bundle", errors=3)
    assert json.loads(json.dumps(found)) == found  # plain data
    scores = json.loads((trained / "run" / "scores.json").read_text(encoding="utf-8"))
    assert found["scores"] == scores  # with the same intervals
    whole = {s["metric"]: s for s in scores if s["split"] == "test" and not s["language"]}
    assert set(whole) == {"accuracy", "f1_macro", "ece", "brier"}
    for score in whole.values():
        assert score["rows"] == 19
        assert score["low"] <= score["value"] <= score["high"]
        assert score["resamples"] == 1000
    assert {s["language"] for s in scores} == {None, "de", "en"}
    (task,) = found["tasks"]
    assert (task["split"], task["rows"], task["headline"]) == ("test", 19, "accuracy")
    (matrix,) = found["confusion"]
    assert matrix["labels"] == ["neg", "pos"]
    assert sum(map(sum, matrix["counts"])) == 19
    right = sum(matrix["counts"][i][i] for i in range(2)) / 19
    assert right == pytest.approx(whole["accuracy"]["value"])
    (diagram,) = found["calibration"]
    assert sum(one["rows"] for one in diagram["bins"]) == 19
    assert len(found["worst"]) == 3
    assert set(found["worst"][0]) >= {"input", "truth", "answer", "surprise", "language", "domain"}
    assert found["trunk"]["layers"] == 2
    page = render(found)
    assert "THE  film was good" in page


def test_rows_that_were_trained_on_are_said(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = unmask.evaluate(trained / "run" / "bundle")
    valid, test = found["duplicates"]
    assert (valid["split"], valid["count"]) == ("valid", 0)
    held = unmask.evaluate(trained / "run" / "bundle")["scores"][0]["rows"]
    assert valid["rows"] == held
    # The test file repeats two rows of the file to train on; one may be held out as valid.
    assert test["count"] in (1, 2)
    assert test["first"] in (1, 3)
    assert any("also stand in the training rows" in note for note in found["notes"])
    assert "also stand in the training rows" in caplog.text


def test_training_warns_of_duplicates_before_the_first_step(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unmask.train(trained / "r.yaml", tmp_path / "run", ["train.steps=1"])
    said = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert any(m.startswith("task mood, test: ") and "of 19 rows also" in m for m in said)


def test_without_the_training_rows_the_test_rows_are_still_scored(
    trained: Path, tmp_path: Path
) -> None:
    """What can no longer be known is said: the held-out share, and whether rows are repeated."""
    shutil.copytree(trained / "run" / "bundle", tmp_path / "bundle")
    recipe = yaml.safe_load((tmp_path / "bundle" / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["tasks"]["mood"]["train"] = str(tmp_path / "gone.csv")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    found = unmask.evaluate(tmp_path / "bundle", tmp_path / "r.yaml")
    assert {s["split"] for s in found["scores"]} == {"test"}
    assert any("gone.csv" in note for note in found["notes"])
    assert found["duplicates"][0]["count"] in (1, 2)  # of the bundle's own recipe's rows
    (trained / "train.csv").rename(trained / "moved.csv")
    try:
        found = unmask.evaluate(tmp_path / "bundle")
    finally:
        (trained / "moved.csv").rename(trained / "train.csv")
    assert {s["split"] for s in found["scores"]} == {"test"}
    assert found["duplicates"][0]["count"] is None
    assert any("is not known" in note for note in found["notes"])
    assert "not known" in render(found)


def test_a_task_without_held_out_rows_is_said(trained: Path, tmp_path: Path) -> None:
    bare = {
        "encoder": {"shape": "tiny"},
        "tasks": {"mood": {"kind": "classify", "train": str(trained / "train.csv"), "valid": None}},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(bare), encoding="utf-8")
    with pytest.raises(unmask.UserError, match="no task of the recipe has held-out rows"):
        unmask.evaluate(trained / "run" / "bundle", tmp_path / "r.yaml")


def test_the_command_prints_intervals_and_writes_the_page(
    trained: Path, tmp_path: Path, typed: Callable[..., Any]
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return typed(tmp_path, "eval", trained / "run" / "bundle", *words)

    done = run("--html", "scores.html")
    assert done.returncode == 0, done.stderr
    assert "wrote scores.html" in done.stderr
    assert (tmp_path / "scores.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    lines = done.stdout.splitlines()
    assert any("accuracy" in line and "–" in line and "(" in line for line in lines)
    assert max(len(line.rstrip()) for line in lines[: lines.index("worst errors")]) <= 100
    assert len(lines) - lines.index("worst errors") == 2 + 5  # a hundred are on the page only
    refused = run("--html", "scores.pdf")
    assert refused.returncode == 2
    assert "the output is .html" in refused.stderr
