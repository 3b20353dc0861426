"""Gradients of several tasks on one trunk: their cosines, and what is taken out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import unmask
from unmask.errors import UserError
from unmask.training import conflicts
from unmask.training.conflicts import project
from unmask.training.run import Trained


def by_hand(gradients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """PCGrad as its paper's Algorithm 1 has it, on the gradients themselves (n, d) -> (d,)."""
    found = gradients.copy()
    for i in range(len(found)):
        for j in rng.permutation(len(found)):
            inner = found[i] @ gradients[j]
            if j != i and inner < 0:
                found[i] -= inner / (gradients[j] @ gradients[j]) * gradients[j]
    return found.sum(0)


@given(n=st.integers(1, 6), d=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_projection_is_that_of_the_paper(n: int, d: int, seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(n, d))
    weights = project(gradients @ gradients.T, np.random.default_rng(seed))
    expected = by_hand(gradients, np.random.default_rng(seed))
    np.testing.assert_allclose(
        weights @ gradients, expected, atol=1e-8 * max(1, abs(expected).max())
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_two_tasks_end_up_against_neither(seed: int) -> None:
    gradients = np.random.default_rng(seed).normal(size=(2, 5))
    found = project(gradients @ gradients.T, np.random.default_rng(0)) @ gradients
    assert (gradients @ found >= -1e-9).all()


@pytest.fixture
def recipe(reviews: Path, tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """A label, its opposite by another name, and masked words; no dropout, exact arithmetic."""
    rows = [line.split(",") for line in reviews.read_text().splitlines()]
    label, text = rows[0].index("label"), rows[0].index("text")
    other = {"pos": "down", "neg": "up"}
    turned = reviews.with_name("turned.jsonl")
    turned.write_text(
        "\n".join(json.dumps({"text": r[text], "label": other[r[label]]}) for r in rows[1:])
    )
    common = {"kind": "classify", "valid": None, "head": {"dropout": 0}}
    tiny_recipe["tasks"] = {
        "mood": {**common, "train": str(reviews)},
        "words": {"kind": "mlm", "train": str(reviews), "valid": None},
        "turned": {**common, "train": str(turned)},
    }
    tiny_recipe["encoder"]["style"] = "modern"
    tiny_recipe["train"] |= {"precision": "fp32", "steps": 12, "optimiser": "adamw"}
    return tiny_recipe


def lines(trained: Trained) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]


def all_cosines(line: dict[str, Any]) -> list[float]:
    return [c for own in line.get("cosines", {}).values() for c in own.values()]


def test_measuring_changes_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    plain = lines(unmask.train(recipe, tmp_path / "plain"))
    measured = unmask.train(recipe, tmp_path / "measured", ["train.conflicts=measure"])
    for a, b in zip(plain, lines(measured), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)
        assert all(-1.001 < c < 1.001 for c in all_cosines(b))
    found = json.loads((tmp_path / "measured" / "conflicts.json").read_text())
    assert sorted(tuple(sorted(pair["tasks"])) for pair in found["pairs"]) == [
        ("mood", "turned"),
        ("mood", "words"),
        ("turned", "words"),
    ]
    assert all(0 <= pair["against"] <= 1 and pair["updates"] <= 12 for pair in found["pairs"])
    assert {own["task"] for own in found["lengths"]} == set(recipe["tasks"])
    assert all(own["length"] > 0 and 0 < own["updates"] <= 12 for own in found["lengths"])
    assert not (tmp_path / "plain" / "conflicts.json").exists()


def test_of_two_tasks_both_ways_make_the_same(recipe: dict[str, Any], tmp_path: Path) -> None:
    del recipe["tasks"]["words"]
    found = {
        how: lines(unmask.train(recipe, tmp_path / how, [f"train.conflicts={how}"]))
        for how in ("measure", "pcgrad", "agem")
    }
    for a, b in zip(found["pcgrad"], found["agem"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    cosines = [c for line in found["measure"] for c in all_cosines(line)]
    assert min(cosines) < 0  # so there was something to take out
    assert any(
        a["loss"] != pytest.approx(b["loss"], abs=1e-5)
        for a, b in zip(found["measure"], found["pcgrad"], strict=True)
    )


def test_a_pair_is_one_whichever_comes_first() -> None:
    made = [{"mood": {"words": 0.5}}, {"words": {"mood": -0.1}}, {"mood": {"words": None}}]
    (pair,) = conflicts.summary(json.dumps({"cosines": own}) for own in made)["pairs"]
    assert pair["cosine"] == pytest.approx(0.2)
    assert (pair["tasks"], pair["against"], pair["updates"]) == (["mood", "words"], 0.5, 2)


def test_lengths_are_of_all_updates() -> None:
    """One without the task counts as 0, so that a rare task's length can be set beside others'."""
    made: list[dict[str, Any]] = [
        {"lengths": {"mood": 3.0, "words": 8.0}},
        {"lengths": {"mood": 4.0, "words": None}},
        {"valid": []},
        {"lengths": {"mood": 5.0}},
        {"lengths": {"mood": 5.0}},
    ]
    found = conflicts.summary(map(json.dumps, made))
    mood, words = found["lengths"]
    assert mood == {"task": "mood", "length": pytest.approx(75**0.5 / 2), "updates": 4}
    assert words == {"task": "words", "length": 4.0, "updates": 1}
    assert conflicts.said(found)[1] == "words: length 4 over all updates, of which it was in 1"


@pytest.mark.parametrize(("how", "pull"), [("pcgrad", "tokens"), ("agem", "even")])
def test_going_on_is_exact(recipe: dict[str, Any], tmp_path: Path, how: str, pull: str) -> None:
    same = [f"train.conflicts={how}", f"train.pull={pull}"]
    same += ["train.schedule=constant", "train.warmup=0"]
    whole = unmask.train(recipe, tmp_path / "whole", same)
    unmask.train(recipe, tmp_path / "run", [*same, "train.steps=5"])
    resumed = unmask.train(recipe, tmp_path / "run", same, resume=True, force=True)
    assert [line["loss"] for line in lines(resumed)] == [line["loss"] for line in lines(whole)]
    assert (tmp_path / "run" / "conflicts.json").read_text() == (
        tmp_path / "whole" / "conflicts.json"
    ).read_text()


def test_what_only_some_tasks_touch_is_kept() -> None:
    """A weight without a gradient of one task has that of the others."""
    one, two = torch.ones(3), torch.full((3,), 2.0)
    mixed = conflicts._mixed([[one.clone(), None], [None, two.clone()]], np.array([0.5, 2.0]))
    assert mixed[0] is not None
    assert mixed[1] is not None
    assert mixed[0].tolist() == [0.5] * 3
    assert mixed[1].tolist() == [4.0] * 3


def test_nothing_to_compare_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["tasks"] = {"mood": recipe["tasks"]["mood"]}
    with pytest.raises(UserError, match=r"train\.conflicts is of several tasks .* one task only"):
        unmask.train(recipe, tmp_path / "run", ["train.conflicts=pcgrad"])
