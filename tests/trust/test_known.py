"""What is like nothing learnt is told from what is; and what was learnt travels in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

import unmask
from unmask import bundle, files
from unmask.errors import UserError
from unmask.tasks.known import (
    SCORES,
    Score,
    Seen,
    fault,
    fit,
    judge,
    learn,
    spread_over,
    strangeness,
)


def clouds(seed: int, each: int, strange: bool = False) -> Seen:
    """Four clouds on axes of sixteen dimensions, or rows on other axes; logits as a head gives."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), each)
    centres = np.eye(16)[8 + labels if strange else labels]
    x = torch.from_numpy(centres * 3 + rng.normal(size=(len(labels), 16)) * 0.4).float()
    return Seen(x, 4 * x[:, :4], torch.from_numpy(labels))


@pytest.mark.parametrize("score", SCORES)
def test_each_score_tells_strange_rows(score: Score) -> None:
    train, valid, test, strange = clouds(0, 50), clouds(1, 50), clouds(2, 200), clouds(3, 50, True)
    record, tensors = fit(train, valid, score)
    values = [strangeness(score, tensors, seen.vectors, seen.logits) for seen in (test, strange)]
    truth = [0] * len(values[0]) + [1] * len(values[1])
    assert roc_auc_score(truth, torch.cat(values).numpy()) > 0.97
    kept = np.mean([one.known for one in judge(record, tensors, test.vectors, test.logits)])
    assert kept == pytest.approx(0.95, abs=0.05)
    assert not fault(record, tensors, 16)
    alone = strangeness(score, tensors, test.vectors[:1], test.logits[:1])
    torch.testing.assert_close(alone, values[0][:1], atol=1e-5, rtol=1e-4)


def test_mahalanobis_is_that_of_scipy() -> None:
    from scipy.spatial.distance import mahalanobis
    from sklearn.covariance import ledoit_wolf

    train, test = clouds(0, 50), clouds(1, 2)
    x = torch.nn.functional.normalize(train.vectors, dim=-1).double().numpy()
    means = np.stack([x[train.labels.numpy() == c].mean(0) for c in range(4)])
    inverse = np.linalg.inv(ledoit_wolf(x - means[train.labels.numpy()])[0])
    found = strangeness("mahalanobis", learn("mahalanobis", train, test), test.vectors, test.logits)
    for vector, value in zip(test.vectors, found, strict=True):
        unit = (vector / vector.norm()).double().numpy()
        expected = min(mahalanobis(unit, mean, inverse) for mean in means)
        assert float(value) == pytest.approx(expected, rel=1e-3)


def test_few_rows_and_many_labels() -> None:
    record, _ = fit(clouds(0, 1), clouds(1, 1), "joint")
    assert record["kept"] == pytest.approx(0.8)  # four rows promise no more
    labels = np.array([0] * 1000 + [1] * 10 + [2] * 5)
    some = labels[spread_over(labels, 30)]
    assert len(some) == 30
    assert [(some == c).sum() for c in range(3)] == [15, 10, 5]
    assert spread_over(np.arange(5000), 100).size == 100  # thousands of labels
    assert spread_over(labels).tolist() == list(range(1015))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose task knows what it knows."""
    folder = tmp_path_factory.mktemp("known")
    lines = ["text,label,score"]
    for i in range(80):
        word, label = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))[i % 4]
        noun = ("film", "cat", "dog", "world", "time")[i // 4 % 5]
        lines.append(f"the {noun} number {i} was {word},{label},{(i % 4) / 3:.2f}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = {"train": str(folder / "rows.csv"), "valid": 0.4}
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {
            "mood": {"kind": "classify", **rows},
            "grade": {"kind": "regress", "label": "score", "known": "mahalanobis", **rows},
            "plain": {"kind": "classify", "known": None, **rows},
        },
        "train": {"steps": 25, "batch_tokens": 200, "learning_rate": 1e-3},
    }
    files.write_json(folder / "recipe.json", recipe)
    return unmask.train(recipe, folder / "run").bundle


def test_a_bundle_says_what_it_knows(trained: Path, tmp_path: Path) -> None:
    model = unmask.load(trained)
    record = model.task("mood").calibration["known"]
    assert record["score"] == "joint"
    assert record["form"] == "fp32"
    texts = ["the film number 3 was good", "the dog number 7 was dull"]
    together = model.predict(["mood", "grade", "plain"], texts)
    for i, text in enumerate(texts):
        (alone,) = model.predict("mood", text)
        assert alone.known.known is together[i]["mood"].known.known
        assert alone.known.strangeness == pytest.approx(
            together[i]["mood"].known.strangeness, abs=1e-4
        )
        assert together[i]["grade"].known.score == "mahalanobis"
        assert together[i]["plain"].known is None
    assert {"known", "strangeness"} <= together[0]["mood"].columns().keys()
    assert "known" not in together[0]["plain"].columns()
    bundle.save(model, tmp_path / "again")
    again = unmask.load(tmp_path / "again").predict("mood", texts)
    assert [a.known for a in again] == [a.known for a in model.predict("mood", texts)]
    assert (tmp_path / "again" / "known.safetensors").read_bytes() == (
        trained / "known.safetensors"
    ).read_bytes()


def test_promises_travel_in_the_bundle(trained: Path) -> None:
    model = unmask.load(trained)
    texts = ["the film number 3 was good", "bad"]
    for answer in model.predict("mood", texts, coverage=0.8, risk=0.4):
        assert answer.labels[0] == answer.promise.labels[0]
        assert answer.promise.abstains in (True, False)
    for answer in model.predict("grade", texts, coverage=0.8):
        low, high = answer.promise.interval
        assert low < answer.value < high
    both = model.predict(["mood", "grade"], texts, coverage=0.8)
    assert both[0]["mood"].promise.labels
    assert both[0]["grade"].promise.interval
    with pytest.raises(UserError, match="needs 99 validation rows"):
        model.predict("mood", texts, coverage=0.99)
    with pytest.raises(UserError, match="did you mean 'coverage'"):
        model.predict("mood", texts, coverge=0.9)
    with pytest.raises(UserError, match="risk is for kinds"):
        model.predict(["mood", "grade"], texts, risk=0.1)


def test_another_precision_is_refused_or_said(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from unmask.evaluation.refit import refit

    model = unmask.load(trained)
    model.precision = "bf16"
    with pytest.raises(UserError, match=r"fitted in fp32 and this is bf16.*unmask calibrate"):
        model.predict("mood", "a text", coverage=0.8)
    assert model.predict("mood", "a text")[0].known is None
    assert "so it is not said" in caplog.text
    found = refit(trained, tmp_path / "b", None, "bf16")
    assert found["mood"]["form"] == "bf16"
    assert found["mood"]["promises"] == ["coverage", "risk"]
    model = unmask.load(tmp_path / "b")
    model.precision = "bf16"
    (answer,) = model.predict("mood", "the film was good", coverage=0.8)
    assert answer.promise.labels
    assert answer.known is not None
    assert "fitted anew" in (tmp_path / "b" / "README.md").read_text(encoding="utf-8")


def rehash(folder: Path) -> None:
    hashes = {p.name: files.sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
    files.write_json(folder / "manifest.json", {"format": 1, "sha256": hashes})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("mood/bank"), "needed"),
        (lambda t: t.update({"mood/bank": torch.zeros(3, 5)}), "bank is of shape"),
        (lambda t: t["mood/scale"].fill_(torch.nan), "not finite"),
        (lambda t: t.update({"plain/bank": torch.zeros(3, 128)}), "does not fit task plain"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    trained: Path, tmp_path: Path, change: Any, said: str
) -> None:
    model = unmask.load(trained)
    bundle.save(model, tmp_path / "b")
    tensors = load_file(tmp_path / "b" / "known.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "b" / "known.safetensors")
    with pytest.raises(UserError, match="not what the manifest says"):
        unmask.load(tmp_path / "b")
    rehash(tmp_path / "b")
    with pytest.raises(UserError, match=said):
        unmask.load(tmp_path / "b")
