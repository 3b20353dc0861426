"""Two models on the same rows: the difference, whether it may be chance, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import unmask
from unmask.cli.app import app
from unmask.errors import UserError
from unmask.evaluation.comparison import comparison
from unmask.evaluation.evaluate import evaluate

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, reviews: Path, tiny_recipe: dict[str, Any]) -> Make:
    """A function that trains for so many steps, with test rows of their own, and gives a bundle."""
    lines = reviews.read_text(encoding="utf-8").splitlines()
    test = tmp_path / "test.csv"
    test.write_text("\n".join([lines[0], *lines[1:25]]) + "\n", encoding="utf-8")

    def bundle(name: str, steps: int, seed: int = 0, **options: Any) -> Path:
        task = {"kind": "classify", "train": str(reviews), "valid": None, "test": str(test)}
        recipe = {**tiny_recipe, "tasks": {"mood": task | options}}
        recipe["train"] = {"steps": steps, "batch_tokens": 120, "learning_rate": 3e-3, "seed": seed}
        return unmask.train(recipe, tmp_path / name).bundle

    return bundle


def test_what_has_learnt_is_better_than_what_has_not(make: Make) -> None:
    old, new = make("old", 1), make("new", 40)
    found = comparison([new], [old])
    (task,) = found["tasks"]
    for side, folder in (("ours", new), ("theirs", old)):
        (score,) = (
            s for s in evaluate(folder)["scores"]
            if (s["metric"], s["language"]) == ("accuracy", None)
        )  # fmt: skip
        assert task[side]["value"] == pytest.approx(score["value"])
        assert "sd" not in task[side]
    assert task["difference"] == pytest.approx(task["ours"]["value"] - task["theirs"]["value"])
    assert not {"alone", "together"} & task.keys()  # those are of twins
    assert 0 < task["low"] < task["difference"] < task["high"]
    assert task["p"] < 0.05
    assert found["notes"] == []
    back = comparison([old], [new])["tasks"][0]
    assert back["difference"] == pytest.approx(-task["difference"])
    assert (back["low"], back["high"]) == pytest.approx((-task["high"], -task["low"]))


def test_a_model_is_no_better_than_itself(make: Make) -> None:
    own = make("own", 5)
    (task,) = comparison([own], [own])["tasks"]
    assert (task["difference"], task["low"], task["p"]) == (0, None, None)


def test_seeds_go_in_pairs(make: Make) -> None:
    old = [make(f"old-{seed}", 3, seed) for seed in (0, 1)]
    new = [make(f"new-{seed}", 40, seed) for seed in (0, 1)]
    (task,) = comparison(new, old)["tasks"]
    each = [comparison([a], [b])["tasks"][0]["difference"] for a, b in zip(new, old, strict=True)]
    assert task["difference"] == pytest.approx(sum(each) / 2)
    assert len(task["ours"]["values"]) == 2
    with pytest.raises(UserError, match="2 and 1 bundles: give as many of each side"):
        comparison(new, old[:1])


def test_rows_that_one_side_may_have_learnt_are_said(make: Make, tmp_path: Path) -> None:
    first, other = (make(f"drawn-{seed}", 2, seed, test=0.3) for seed in (0, 1))
    (note,) = comparison([first], [other])["notes"]
    assert "some bundle may have been trained on them" in note
    again = make("again", 3, 0, test=0.3)
    assert comparison([first], [again])["notes"] == []
    valid = make("valid", 2, valid=0.3, test=None)
    (note,) = comparison([valid], [valid])["notes"]
    assert "it has no test rows" in note


def test_what_cannot_be_compared_is_refused(
    make: Make, tmp_path: Path, tiny_recipe: dict[str, Any]
) -> None:
    one = make("one", 2)
    recipe = yaml.safe_load((one / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["tasks"] = {"other": recipe["tasks"]["mood"]}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(UserError, match=r"no task of the recipe \(other\) stands in all bundles"):
        comparison([one], [one], path)
    (one / "recipe.yaml").unlink()
    with pytest.raises(UserError, match="was not trained by a recipe: say which"):
        comparison([one], [one])


def test_command(make: Make) -> None:
    old, new = make("old", 1), make("new", 40)
    run = CliRunner()
    shown = run.invoke(app, ["compare", str(new), "--than", str(old)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines()[0].split()[:4] == ["task", "split", "metric", "rows"]
    assert "mood" in shown.output
    done = run.invoke(app, ["compare", str(new), "--than", str(old), "--json"])
    found = json.loads(done.output)
    assert f"{found['tasks'][0]['difference']:+.4f}" in shown.output
