"""Tasks together and alone: what is trained, what is compared, and that it goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from unmask import UserError
from unmask.cli.app import app
from unmask.evaluation.bootstrap import paired
from unmask.evaluation.page.twins import render
from unmask.recipe import parse
from unmask.tasks import OPTIONS
from unmask.training import twins as module
from unmask.training.prepare import prepare
from unmask.training.twins import twins


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any], reviews: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe of two tasks: one with test rows of its own, one with a share of valid rows."""
    test = tmp_path / "test.csv"
    lines = reviews.read_text(encoding="utf-8").splitlines()
    test.write_text("\n".join([lines[0], *lines[1:21]]) + "\n", encoding="utf-8")
    tiny_recipe["tasks"]["mood"]["test"] = str(test)
    tiny_recipe["train"] = {"epochs": 1, "batch_tokens": 120, "learning_rate": 1e-3}
    return tiny_recipe


def trained_at(folder: Path) -> dict[str, int]:
    """When each run's bundle was written."""
    found = sorted(folder.glob("**/bundle/manifest.json"))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


def test_twins_go_on_where_they_were(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "twins"
    train = module.train

    def killed(source: Any, place: Path, **options: Any) -> Any:
        if place == folder / "alone" / "words" / "seed-0":
            raise KeyboardInterrupt
        return train(source, place, **options)

    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        twins(recipe, folder, seeds=2)
    before = trained_at(folder)
    assert [name.split("/bundle")[0] for name in before] == [
        "alone/mood/seed-0", "together/seed-0",
    ]  # fmt: skip
    monkeypatch.setattr(module, "train", train)
    found = twins(recipe, folder, seeds=2)
    assert found is not None
    after = trained_at(folder)
    assert len(after) == 6
    assert after.items() >= before.items()  # used again
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    done = CliRunner().invoke(app, ["twins", str(path), "--seeds", "2", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert trained_at(folder) == after
    assert [line.split()[0] for line in done.output.splitlines()[:3]] == ["task", "mood", "words"]
    assert "million in 2 models" in done.output
    again = json.loads((folder / "twins.json").read_text(encoding="utf-8"))
    assert again == {**found, "date": again["date"], "recipe": str(path)}
    assert (folder / "twins.html").read_text(encoding="utf-8") == render(again)

    mood, words = found["tasks"]
    assert (mood["split"], mood["rows"], mood["same_rows"]) == ("test", 20, True)
    assert (words["split"], words["same_rows"]) == ("valid", False)
    assert [note.split(":")[0] for note in found["notes"]] == ["task words"] * 2
    for task in found["tasks"]:
        for side, place in (("alone", f"alone/{task['task']}"), ("together", "together")):
            for seed, value in enumerate(task[side]["values"]):
                path = folder / place / f"seed-{seed}" / "scores.json"
                own = [
                    s["value"]
                    for s in json.loads(path.read_text(encoding="utf-8"))
                    if (s["task"], s["split"]) == (task["task"], task["split"])
                    and s["metric"] == task["metric"]
                    and s["language"] is None
                ]
                assert own == [pytest.approx(value)]
        alone, together = (np.array(task[side]["values"]) for side in ("alone", "together"))
        assert task["difference"] == pytest.approx((together - alone).mean())
        assert task["noise"] == pytest.approx(alone.std(ddof=1))
        assert task["exceeds_noise"] == (-task["difference"] > task["noise"])
        assert task["budget"] == 1
    assert found["weights"]["alone"] == mood["weights"] + words["weights"]
    assert found["weights"]["together"] < found["weights"]["alone"]
    assert found["seconds"]["alone"] == pytest.approx(mood["seconds"] + words["seconds"])


@pytest.mark.parametrize(
    ("whole", "size", "batch"),
    [
        (400_000, 300_000, 1000),  # 300 updates as large as those of all
        (400_000, 30_000, 100),  # not 30 updates, but 300
        (20_000, 5_000, 250),  # as many as the joint run has: 20
        (400_000, 10, 1),
    ],
)
def test_a_twin_of_few_tokens_makes_smaller_updates(
    recipe: dict[str, Any], tmp_path: Path, whole: int, size: int, batch: int
) -> None:
    recipe["train"] = {"tokens": whole, "batch_tokens": 1000}
    (run,) = parse(recipe, OPTIONS).values()
    twin = module.Twins(run, tmp_path, [0]).of_one("words", 0, size)
    assert (twin["train"]["tokens"], twin["train"]["batch_tokens"]) == (size, batch)
    (found,) = parse(twin, OPTIONS).values()
    assert found.train.budget == ("tokens", size)


def test_a_twin_is_the_same_but_for_its_tasks_and_budget(
    recipe: dict[str, Any], reviews: Path, tmp_path: Path
) -> None:
    """Also its vocabulary, so that the encoders begin alike."""
    folder = tmp_path / "twins"
    recipe["tasks"]["mood"]["train"] = {"path": str(reviews), "limit": 12}
    changes = ["train.steps=10", "train.seed=3", "train.conflicts=measure", "train.pull=even"]
    found = twins(recipe, folder, changes, seeds=2)
    assert found is not None
    assert found["seeds"] == [3, 4]
    sizes = [task["budget"] for task in found["tasks"]]
    assert sum(sizes) in (9, 10, 11)  # each its share of the tokens, rounded
    assert 1 <= sizes[0] < sizes[1]
    for seed in (3, 4):
        whole = folder / "together" / f"seed-{seed}" / "bundle"
        ours = yaml.safe_load((whole / "recipe.yaml").read_text(encoding="utf-8"))
        assert ours["train"]["seed"] == seed
        for task, steps in zip(("mood", "words"), sizes, strict=True):
            twin = folder / "alone" / task / f"seed-{seed}" / "bundle"
            theirs = yaml.safe_load((twin / "recipe.yaml").read_text(encoding="utf-8"))
            assert theirs["tasks"] == {task: ours["tasks"][task]}
            of_one = {"steps": steps, "conflicts": None, "pull": "tokens"}
            assert theirs["train"] == {**ours["train"], **of_one}
            assert theirs["encoder"]["tokenizer"] == str(whole / "tokenizer.json")
            assert (twin / "tokenizer.json").read_bytes() == (whole / "tokenizer.json").read_bytes()
    both = [next(iter(parse(own, OPTIONS).values())) for own in (ours, theirs)]
    one, other = (prepare(run, torch.device("cpu")).model.encoder for run in both)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_what_cannot_be_compared_is_refused(
    recipe: dict[str, Any], reviews: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "twins"
    with pytest.raises(UserError, match="seeds: 0 are none"):
        twins(recipe, folder, seeds=0)
    one = {**recipe, "tasks": {"mood": recipe["tasks"]["mood"]}}
    with pytest.raises(UserError, match="the recipe has one task, mood"):
        twins(one, folder)
    staged = {"encoder": recipe["encoder"], "stages": {"a": one, "b": one}}
    for stage in staged["stages"].values():
        stage.pop("encoder", None)
    with pytest.raises(UserError, match=r"the recipe has stages \(a, b\)"):
        twins(staged, folder)
    bare = ["tasks.mood.test=null", "tasks.mood.valid=null", "tasks.words.valid=null"]
    with pytest.raises(UserError, match="no task of the recipe has held-out rows"):
        twins(recipe, folder, bare)
    with pytest.raises(UserError, match=r"holds '\w+.csv', which is not of twins"):
        twins(recipe, reviews.parent)
    with pytest.raises(UserError, match="is no folder"):
        twins(recipe, reviews)
    assert not folder.exists()


def test_another_recipe_is_not_mixed_in(recipe: dict[str, Any], tmp_path: Path) -> None:
    small = ["tasks.words.valid=null", "train.steps=2"]
    found = twins(recipe, tmp_path / "twins", small, seeds=2)
    assert found is not None
    assert [task["task"] for task in found["tasks"]] == ["mood"]
    assert "task words: it has no held-out rows, so it has no twin" in found["notes"]
    with pytest.raises(UserError, match=r"holds a run of another recipe \(train.steps: 2 there"):
        twins(recipe, tmp_path / "twins", [*small, "train.steps=3"], seeds=2)


def test_the_paired_test_knows_a_difference_from_none() -> None:
    rng = np.random.default_rng(0)
    better = paired(rng.normal(0.1, 0.02, size=(3, 1000)))
    assert better is not None
    low, high, p, resamples = better
    assert 0 < low < 0.1 < high
    assert p == pytest.approx(2 / 1001)
    assert resamples == 1000
    none = paired(rng.normal(0.0, 0.02, size=(3, 1000)))
    assert none is not None
    assert none[0] < 0 < none[1]
    assert none[2] > 0.5
    assert paired(np.zeros((3, 1000))) is None
    # Seeds that disagree widen it, however many rows there are.
    apart = paired(np.array([[0.3], [-0.1], [0.1]]) + rng.normal(0, 0.001, size=(3, 1000)))
    assert apart is not None
    assert apart[0] < 0 < apart[1]


def test_one_seed_is_a_first_look(recipe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    folder = tmp_path / "twins"
    done = CliRunner().invoke(app, ["twins", str(path), "--seeds", "1", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert "one seed says nothing of the chance in training" in done.output
    assert "noise" not in done.output
    found = json.loads((folder / "twins.json").read_text(encoding="utf-8"))
    for task in found["tasks"]:
        assert "sd" not in task["alone"]
        assert task["noise"] is task["exceeds_noise"] is None
    assert "±" not in (folder / "twins.html").read_text(encoding="utf-8")


def test_a_task_that_is_left_has_no_twin(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["tasks"]["mood"]["class_weights"] = {"pos": 1e39, "neg": 1e39}
    recipe["train"] |= {"epochs": 4, "batch_tokens": 60, "lost_task": "leave"}
    found = twins(recipe, tmp_path / "twins", seeds=1)
    assert found is not None
    assert [task["task"] for task in found["tasks"]] == ["words"]
    assert "task mood: its loss alone is not finite, so it has no twin" in found["notes"]
    with pytest.raises(UserError, match="task mood: the loss is not finite"):
        twins(recipe, tmp_path / "stops", ["train.lost_task=stop"], seeds=1)


def test_a_score_that_is_none_says_why() -> None:
    """Nothing is made up where a correlation is not defined."""
    task = {
        "task": "ranks", "kind": "regress", "split": "test", "metric": "spearman", "rows": 3,
        "same_rows": True, "alone": None, "together": None, "difference": None,
        "reason": "one side <never> varies",
    }  # fmt: skip
    found = {
        "recipe": None, "date": "", "seeds": [0, 1], "notes": ["<b>"], "tasks": [task],
        "weights": {"together": 1, "alone": 2}, "seconds": {"together": 1.0, "alone": 2.0},
    }  # fmt: skip
    page = render(found)
    assert "– one side &lt;never&gt; varies" in page
    assert "<b>" not in page
