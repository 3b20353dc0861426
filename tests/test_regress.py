"""`regress`: numbers, and ordered classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

import unmask
from unmask.batch import collate
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import Draw, row_rng
from unmask.tasks.regress import NumberAnswer, Regress, RegressOptions

SCALE = {"neg": -1.0, "neutral": 0.0, "pos": 1.0}


def make(text: TextInput, rows: list[dict[str, Any]], **options: Any) -> Regress:
    chosen = RegressOptions(**options)
    return Regress("it", chosen, text, Regress.study("it", chosen, rows))


def answer(value: float, name: str | None = None) -> NumberAnswer:
    return NumberAnswer(3, 0, value, name)


def test_numbers_come_back_in_their_own_unit(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """The head works in deviations from the mean; answers and errors are in the rows' unit."""
    rows = [{"text": "the film was good", "label": x} for x in (1000, 1010, 1030)]
    task, encoder = make(text, rows), make_encoder()
    assert task.facts["mean"] == pytest.approx(1013.33, abs=0.01)
    head = task.build(encoder)
    model = Model(encoder, text, {"it": task}, {"it": head})
    torch.nn.init.zeros_(head.output.weight)
    torch.nn.init.zeros_(head.output.bias)
    (found,) = model.predict("it", "the cat")
    assert found.value == pytest.approx(task.facts["mean"])
    (example,) = task.examples(rows[0], Draw(row_rng(0, "it", 0, 0)))
    outputs, batch = model(task, collate([example]))
    scaled = (1000 - task.facts["mean"]) / task.facts["deviation"]
    assert task.loss(outputs, batch).item() == pytest.approx(scaled**2 / 2, rel=1e-5)
    assert task.surprise(found, rows[0]) == pytest.approx(scaled**2 / 2, rel=1e-5)


def test_named_classes_are_the_nearest_number(text: TextInput) -> None:
    rows = [{"text": "a", "label": name} for name in SCALE]
    task = make(text, rows, values=SCALE)
    assert [task._nearest(x) for x in (-7.0, -0.4, 0.6)] == ["neg", "neutral", "pos"]
    answers = [answer(-0.9, "neg"), answer(0.1, "neutral"), answer(0.2, "neutral")]
    scores = task.score(answers, rows)
    assert task.headline == "accuracy"
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["mae"] == pytest.approx((0.1 + 0.1 + 0.8) / 3)


def test_scores_are_scipys(text: TextInput) -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=(2, 50))
    rows = [{"text": "a", "label": float(x)} for x in truth]
    scores = make(text, rows).score([answer(float(x)) for x in guess], rows)
    assert scores["spearman"] == pytest.approx(spearmanr(truth, guess).statistic)
    assert scores["pearson"] == pytest.approx(pearsonr(truth, guess).statistic)
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean((truth - guess) ** 2)))
    constant = make(text, rows).score([answer(1.0)] * 50, rows)
    assert math.isnan(constant["spearman"])
    assert constant["mae"] > 0
    assert "all the same" in Regress.undefined["spearman"]


@pytest.mark.parametrize(
    ("value", "said"),
    [("much", "no number"), (None, "no number"), (math.nan, "no number"), ([1], "no number")],
)
def test_rows_without_a_number(text: TextInput, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"train row 2: .*{said}"):
        make(text, [{"text": "a", "label": 1.0}, {"text": "b", "label": value}])


def test_other_refusals(text: TextInput) -> None:
    with pytest.raises(UserError, match="the same number"):
        make(text, [{"text": "a", "label": 1.0}] * 2)
    with pytest.raises(UserError, match="does not name"):
        make(text, [{"text": "a", "label": "great"}], values=SCALE)
    task = make(text, [{"text": "a", "label": x} for x in (1, 2)])
    with pytest.raises(UserError, match="test row 2"):
        task.check([{"text": "a", "label": 1}, {"text": "a", "label": ""}], "test")


def test_a_run_learns_an_order(tmp_path: Path, reviews: Path, tiny_recipe: dict[str, Any]) -> None:
    tiny_recipe["tasks"] = {
        "stars": {
            "kind": "regress",
            "train": str(reviews),
            "valid": None,
            "test": str(reviews),
            "values": {"neg": 1, "pos": 5},
        }
    }
    tiny_recipe["train"] |= {"steps": 80, "batch_tokens": 200}
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    scores = {s.metric: s.value for s in trained.scores if s.split == "test"}
    assert scores["accuracy"] >= 0.95
    assert scores["spearman"] > 0.8
    model = unmask.load(trained.bundle)
    good, bad = model.predict("stars", ["the film was great", "the film was bad"])
    assert good.value > bad.value
    assert (good.short, bad.short) == ("pos", "neg")
