"""A task whose loss is not finite is named; the run ends, or goes on without it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import unmask
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.training.guard import Guard
from unmask.training.run import Trained


def judged(guard: Guard, steps: range, **losses: float) -> None:
    for step in steps:
        guard.judge(step, losses, 1.0)


def test_only_the_task_to_blame_is_left() -> None:
    guard = Guard(1.0, ["mood", "words"], leave=True)
    judged(guard, range(1, 20), mood=math.nan, words=1.0)
    assert guard.left == {}
    judged(guard, range(20, 21), mood=math.inf, words=1.0)
    assert guard.left == {"mood": 20}
    judged(guard, range(21, 40), words=math.nan)
    with pytest.raises(UserError, match=r"task words: the loss is not finite at step 40"):
        judged(guard, range(40, 41), words=math.nan)  # nothing would be left


def rare(guard: Guard, steps: range, every: int, **losses: float) -> None:
    """`mood` in every so many of the updates, and then never finite."""
    for step in steps:
        guard.judge(step, losses | ({"mood": math.nan} if step % every == 0 else {}), 1.0)


def test_a_rare_task_is_judged_by_its_own_updates() -> None:
    guard = Guard(1.0, ["mood", "words"], leave=True)
    rare(guard, range(1, 400), 20, words=1.0)
    assert guard.left == {}
    rare(guard, range(400, 401), 20, words=1.0)
    assert guard.left == {"mood": 400}
    with pytest.raises(UserError, match=r"task mood: .* step 400, as in 20 of the last 20 updates"):
        rare(Guard(1.0, ["mood", "words"]), range(1, 500), 20, words=1.0)


def test_two_that_take_turns_in_being_lost_do_not_end_the_run() -> None:
    guard = Guard(1.0, ["mood", "stars", "words"], leave=True)
    for step in range(1, 101):
        guard.judge(step, {("mood", "stars")[step % 2]: math.nan, "words": 1.0}, 1.0)
    assert guard.left == {"stars": 39, "mood": 40}


@pytest.mark.parametrize("leave", [True, False])
def test_a_task_that_was_never_finite_is_named_at_the_end(
    leave: bool, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(1.0, ["mood", "words"], leave)
    rare(guard, range(1, 10), 3, words=1.0)
    guard.end(9)
    assert guard.left == {"mood": 9}
    assert "task mood: its loss was never finite, so it has learnt nothing" in caplog.text
    guard = Guard(1.0, ["mood", "words"], leave)
    judged(guard, range(1, 4), mood=math.nan, words=1.0)
    with pytest.raises(UserError, match=r"none of the run's updates could .* loss of task mood is"):
        guard.end(3)


def test_its_state_goes_on_exactly() -> None:
    whole, first = (Guard(1.0, ["mood", "words"], leave=True) for _ in range(2))
    rare(whole, range(1, 410), 20, words=1.0)
    rare(first, range(1, 333), 20, words=1.0)
    second = Guard(1.0, ["mood", "words"], leave=True)
    second.load(json.loads(json.dumps(first.state())))
    rare(second, range(333, 410), 20, words=1.0)
    assert second.state() == whole.state()
    assert whole.left


def test_a_gradient_is_no_single_tasks() -> None:
    guard = Guard(1.0, ["mood", "words"], leave=True)
    for step in range(1, 20):
        guard.judge(step, {"mood": 1.0, "words": 1.0}, math.nan)
    with pytest.raises(UserError, match="the gradient is not finite at step 20"):
        guard.judge(20, {"mood": 1.0, "words": 1.0}, math.nan)


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Two tasks, of which `mood` weighs some rows by more than a float can hold."""
    labels = tiny_recipe["tasks"]["mood"].get("label", "label")
    tiny_recipe["tasks"]["mood"] |= {"label": labels, "class_weights": {"pos": 1e39, "neg": 1e39}}
    tiny_recipe["train"] |= {"steps": 40, "batch_tokens": 200, "schedule": "constant", "warmup": 0}
    return tiny_recipe


def lines(trained: Trained) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]
    return [line for line in every if "loss" in line]


def test_the_others_go_on(
    recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = unmask.train(recipe, tmp_path / "run", ["train.lost_task=leave"])
    assert "task mood is left out from step 20 on" in caplog.text
    found = lines(trained)
    assert len(found) == 40
    assert all(line["loss"]["mood"] is None for line in found[:20])
    assert all(set(line["loss"]) == {"words"} for line in found[20:])
    assert found[-1]["loss"]["words"] < found[0]["loss"]["words"]
    assert "task mood was left out at step 20" in (trained.bundle / "README.md").read_text()

    unmask.train(recipe, tmp_path / "again", ["train.lost_task=leave", "train.steps=30"])
    resumed = unmask.train(
        recipe, tmp_path / "again", ["train.lost_task=leave"], resume=True, force=True
    )
    assert [line["loss"] for line in lines(resumed)] == [line["loss"] for line in found]


def test_epochs_are_then_of_the_others(recipe: dict[str, Any], tmp_path: Path) -> None:
    del recipe["train"]["steps"]
    changes = ["train.lost_task=leave", "train.epochs=12", "train.batch_tokens=100"]
    trained = unmask.train(recipe, tmp_path / "run", changes)
    rows = lines(trained)[-1]["rows"]
    left = next(i for i, line in enumerate(lines(trained)) if "mood" not in line["loss"])
    before = lines(trained)[left - 1]["rows"]
    own = len(split_rows("words", _options(trained, "words"), 0).train)
    other = len(split_rows("mood", _options(trained, "mood"), 0).train)
    expected = before + (12 - before / (own + other)) * own
    assert rows == pytest.approx(expected, abs=8)


def test_the_best_is_chosen_by_those_that_are_left(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A mean with the lost task in it, from before, is not to be beaten by one without."""
    changes = ["train.lost_task=leave", "train.steps=24", "train.evaluate_every=8"]
    changes += ["train.learning_rate=1e-6"]  # so that `words` is never good
    trained = unmask.train(recipe, tmp_path / "run", changes)
    last, chosen = (
        load_file(folder / "model.safetensors")
        for folder in (trained.folder / "checkpoints" / "step-000000024", trained.bundle)
    )
    assert all(torch.equal(last[name], chosen[name]) for name in last)


def _options(trained: Trained, task: str) -> Any:
    return trained.model.tasks[task].options


def test_unless_asked_the_run_ends(recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task mood: the loss is not finite at step 20"):
        unmask.train(recipe, tmp_path / "run")
