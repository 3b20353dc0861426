"""How far each task moves the trunk: with `pull: even` as far as its weight says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import unmask
from unmask.errors import UserError
from unmask.recipe import Run, parse
from unmask.tasks import OPTIONS
from unmask.training.prepare import Prepared, prepare
from unmask.training.processes import Processes
from unmask.training.pull import Pull
from unmask.training.run import Trained
from unmask.training.stream import Chunk, MixedStream
from unmask.training.update import gradient


@given(
    sizes=st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3),
    rest=st.lists(st.integers(1, 8), min_size=3, max_size=3),
    weights=st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
def test_over_time_each_task_has_the_length_of_its_weight(
    sizes: list[float], rest: list[int], weights: list[float]
) -> None:
    """However long its gradients are, and in however few of the updates it comes."""
    pull = Pull(dict(zip("abc", weights, strict=True)))
    whole, cycles = dict.fromkeys("abc", 0.0), 840
    for update in range(cycles * 2):
        pull.begin()
        for task, size, every in zip("abc", sizes, rest, strict=True):
            if update % every == 0:
                own = pull.factor(task, size**2) * size
                whole[task] += own**2 if update >= cycles else 0.0
    for task, weight in zip("abc", weights, strict=True):
        mean = (whole[task] / cycles) ** 0.5
        assert mean == pytest.approx(weight / sum(weights), rel=0.1)


def test_what_is_not_finite_is_left_to_the_guard_and_not_remembered() -> None:
    pull = Pull({"a": 1.0, "b": 1.0})
    for square in (4.0, float("nan"), float("inf")):
        pull.begin()
        factor = pull.factor("a", square)
        assert factor == (0.25 if square == 4.0 else 1.0)
    pull.begin()
    assert pull.factor("b", 0.0) == 1.0  # nothing to lengthen
    assert 0 < pull.factor("a", 4.0) < 1


def test_a_spike_is_tamed_and_forgotten() -> None:
    """One gradient a thousand times as long is cut, and the task pulls on as before."""
    pull = Pull({"a": 1.0, "b": 1.0})
    for update in range(100):
        pull.begin()
        length = 1000.0 if update == 60 else 1.0
        own = pull.factor("a", length**2) * length
        assert own == pytest.approx(0.5, rel=0.05) or update >= 60
        assert 0.25 < own < 0.5 * 7.1
    assert own == pytest.approx(0.5, rel=0.35)


@pytest.fixture
def recipe(reviews: Path, tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """A label and masked words, whose losses and tokens differ; no dropout, exact arithmetic."""
    common = {"train": str(reviews), "valid": None}
    tiny_recipe["tasks"] = {
        "mood": {"kind": "classify", **common, "head": {"dropout": 0}},
        "words": {"kind": "mlm", **common},
    }
    tiny_recipe["encoder"]["style"] = "modern"
    tiny_recipe["train"] |= {"precision": "fp32", "steps": 12, "optimiser": "adamw"}
    return tiny_recipe


def trunk(prepared: Prepared, run: Run, chunks: list[Chunk], pull: Pull | None) -> Tensor:
    """The trunk's gradient (N,) of these chunks."""
    model = prepared.model
    model.zero_grad()
    gradient(model, chunks, run.train, 0, Processes(device=model.device), pull=pull)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.encoder.parameters()]
    return torch.cat([p.flatten().clone() for p in own])


@pytest.mark.parametrize("conflicts", [None, "measure"])
def test_the_gradient_is_of_unit_parts_by_their_weights(
    recipe: dict[str, Any], conflicts: str | None
) -> None:
    recipe["tasks"]["words"]["weight"] = 3
    recipe["train"] |= {"pull": "even", "conflicts": conflicts}
    (run,) = parse(recipe, OPTIONS).values()
    prepared = prepare(run, torch.device("cpu"))
    prepared.compute_in("fp32")
    rows = prepared.rows("train")
    chunks = MixedStream.of(prepared.model.tasks, rows, run).take(1000)
    assert [chunk.task for chunk in chunks] == ["mood", "words"]
    plain = run.model_copy(update={"train": run.train.model_copy(update={"conflicts": None})})
    mood, words = (trunk(prepared, plain, [chunk], None) for chunk in chunks)
    pull = Pull.of(prepared.model.tasks, run.train)
    assert pull is not None
    found = trunk(prepared, run, chunks, pull)
    expected = mood / mood.norm() / 4 + words / words.norm() * 3 / 4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def lines(trained: Trained) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]


def test_it_is_another_training_and_goes_on_exactly(recipe: dict[str, Any], tmp_path: Path) -> None:
    same = ["train.pull=even", "train.schedule=constant", "train.warmup=0"]
    whole = lines(unmask.train(recipe, tmp_path / "whole", same))
    unmask.train(recipe, tmp_path / "run", [*same, "train.steps=5"])
    resumed = lines(unmask.train(recipe, tmp_path / "run", same, resume=True, force=True))
    assert [line["loss"] for line in resumed] == [line["loss"] for line in whole]
    plain = lines(unmask.train(recipe, tmp_path / "plain", [*same, "train.pull=tokens"]))
    assert whole[-1]["loss"] != pytest.approx(plain[-1]["loss"], abs=1e-4)


def test_what_is_unlearnt_pulls_as_far_as_asked(recipe: dict[str, Any]) -> None:
    recipe["tasks"]["domain"] = {**recipe["tasks"]["mood"], "reverse": 0.1}
    recipe["train"]["pull"] = "even"
    (run,) = parse(recipe, OPTIONS).values()
    prepared = prepare(run, torch.device("cpu"))
    pull = Pull.of(prepared.model.tasks, run.train)
    assert pull is not None
    assert pull.wanted["domain"] == pytest.approx(pull.wanted["mood"] / 10)


def test_one_task_has_nothing_to_pull_against(recipe: dict[str, Any], tmp_path: Path) -> None:
    del recipe["tasks"]["words"]
    with pytest.raises(UserError, match=r"train\.pull is of several tasks .* one task only"):
        unmask.train(recipe, tmp_path / "run", ["train.pull=even"])
