"""Temperature and vector scaling, in the arithmetic and in a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from unmask.batch import collate
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.tasks import Draw, row_rng
from unmask.tasks.calibration import calibrated, fit_temperature, fit_vector
from unmask.tasks.classify import Classify, ClassifyOptions


def drawn(rows: int, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and truths drawn with just the probabilities that they say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return logits, np.array([rng.choice(classes, p=row) for row in p])


def apply(logits: np.ndarray, calibration: dict[str, Any]) -> np.ndarray:
    return calibrated(torch.from_numpy(logits), calibration).numpy()


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_a_temperature_that_was_put_in_is_found(true: float) -> None:
    logits, truth = drawn(4000)
    assert fit_temperature(logits * true, truth)["temperature"] == pytest.approx(true, rel=0.1)


def test_a_scale_and_shift_that_were_put_in_are_found() -> None:
    logits, truth = drawn(8000)
    scale, shift = np.array([0.5, 1, 2, 1.5]), np.array([1.0, -1, 0, 0.5])
    found = apply((logits - shift) / scale, fit_vector((logits - shift) / scale, truth))
    centred = logits - logits.mean(1, keepdims=True)
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), centred, atol=0.6)


def test_few_rows_and_perfect_ones_leave_a_temperature_that_can_be_used() -> None:
    logits = np.eye(3) * 5
    for rows in (1, 3, 300):
        found = fit_temperature(np.resize(logits, (rows, 3)), np.arange(rows) % 3)
        assert 0.1 < found["temperature"] <= 1.0
        assert found["rows"] == rows
    vector = fit_vector(logits, np.arange(3))
    assert np.isfinite([*vector["scale"], *vector["shift"]]).all()


@pytest.mark.parametrize("how", ["temperature", "vector"])
def test_a_task_fits_the_logits_that_it_will_change(text: TextInput, how: Any) -> None:
    """Log-probabilities are the logits less one number a row, and scales do not leave that so."""
    logits, truth = drawn(300)
    logits += np.linspace(-5, 5, 300)[:, None]
    rows = [{"text": "a", "label": str(label)} for label in truth]
    task = Classify("it", ClassifyOptions(calibrate=how), text, {"labels": list("0123")})
    outputs = {"logits": torch.from_numpy(logits).float()}
    examples = [next(iter(task.examples(row, Draw(row_rng(0, "it", 0, 0))))) for row in rows]
    batch = collate(examples, 64)
    fit = fit_vector if how == "vector" else fit_temperature
    expected = fit(outputs["logits"].double().numpy(), truth)
    found = task.fit(task.answers(outputs, batch, examples), rows)
    assert found.keys() == expected.keys()
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5)
    task.calibration = found
    given = [[*a.probabilities.values()] for a in task.answers(outputs, batch, examples)]
    z = apply(outputs["logits"].numpy(), expected)
    p = np.exp(z - z.max(1, keepdims=True))
    np.testing.assert_allclose(given, p / p.sum(1, keepdims=True), atol=1e-4)


def test_answers_stay_and_probabilities_change(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """The temperature is found on validation rows, saved, and changes no label."""
    del tiny_recipe["tasks"]["words"]
    tiny_recipe["train"] |= {"steps": 40}
    texts = ["the film was great", "the dog was bad", "one two three"]
    answers = {}
    for how in ("temperature", "null"):
        changes = [f"tasks.mood.calibrate={how}"]
        trained = unmask.train(tiny_recipe, tmp_path / how, changes)
        model = unmask.load(trained.bundle)
        answers[how] = [model.predict("mood", texts), trained.model.predict("mood", texts)]
        assert ("temperature" in model.task("mood").calibration) == (how == "temperature")
    after, before = answers["temperature"][0], answers["null"][0]
    assert [a.labels for a in after] == [b.labels for b in before]
    temperature = unmask.load(tmp_path / "temperature/bundle").task("mood").calibration
    for a, again, b in zip(after, answers["temperature"][1], before, strict=True):
        assert a.probabilities == pytest.approx(again.probabilities, abs=1e-6)
        logits = np.log(list(b.probabilities.values())) / temperature["temperature"]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(list(a.probabilities.values()), expected, atol=1e-5)


def test_class_weights(text: TextInput) -> None:
    rows = [{"text": "a", "label": label} for label in ["x"] * 6 + ["y"] * 2]
    balanced = ClassifyOptions(class_weights="balanced")
    facts = Classify.study("it", balanced, rows)
    assert facts["weights"] == pytest.approx([8 / 12, 2.0])
    named = Classify.study("it", ClassifyOptions(class_weights={"y": 3}), rows)
    assert named["weights"] == [1.0, 3.0]
    with pytest.raises(UserError, match="'z'"):
        Classify.study("it", ClassifyOptions(class_weights={"z": 3}), rows)
    task = Classify("it", balanced, text, facts)
    logits, label = torch.randn(8, 2), torch.tensor([0] * 6 + [1] * 2)

    expected = torch.nn.functional.cross_entropy(
        logits, label, weight=torch.tensor(facts["weights"]), reduction="sum"
    )
    batch: Any = SimpleNamespace(truth={"label": label})
    torch.testing.assert_close(task.loss({"logits": logits}, batch), expected)
    plain = Classify("it", ClassifyOptions(), text, {"labels": ["x", "y"]})
    assert task.meaning == plain.meaning  # so a head trained with weights goes on without them
