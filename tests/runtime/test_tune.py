"""`unmask tune` keeps the fastest faithful form, refuses the others, leaves nothing half-done."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import unmask
from unmask import bundle, files
from unmask.cli.app import app
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.runtime import stored
from unmask.tuning.contract import Tolerance, measure, refusals
from unmask.tuning.making import calibration
from unmask.tuning.tune import tune

FORM = "openvino-fp32"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a recipe whose validation rows can be read."""
    folder = tmp_path_factory.mktemp("tuned")
    words = ["film", "cat", "dog", "world", "time", "good", "bad", "great", "dull"]
    lines = ["text,label"]
    for i in range(80):
        word, label = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))[i % 4]
        more = " ".join(words[(i * 7 + k) % 9] for k in range(i % 9))
        lines.append(f"the {words[i % 5]} was {word} {more},{label}")
    (folder / "rows.csv").write_text("\n".join(lines))
    recipe: dict[str, Any] = {
        "encoder": {"shape": "tiny", "style": "classic", "tokenizer": {"vocab_size": 120}},
        "tasks": {"mood": {"kind": "classify", "train": str(folder / "rows.csv"), "valid": 0.3}},
        "train": {"steps": 20, "batch_tokens": 300, "learning_rate": 1e-3},
    }
    unmask.train(recipe, folder / "run")
    return folder / "run" / "bundle"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "bundle"))


@pytest.fixture
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asserts a time: whatever is not torch counts as twice as fast."""

    def speed(model: Any, form: Any, texts: Any) -> tuple[float, float]:
        return 100.0, 2.0 if form.form else 1.0

    monkeypatch.setattr("unmask.tuning.tune._speed", speed)


@pytest.mark.usefixtures("always_faster")
def test_the_best_is_kept_used_and_said(
    copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    done = CliRunner().invoke(app, ["tune", str(copy), "--to", FORM, "--json"])
    assert done.exit_code == 0, done.output
    bundle.verify(copy)
    choice = json.loads((copy / stored.CHOICE).read_text())
    assert choice["form"] == FORM
    contract = json.loads((copy / "forms" / FORM / "contract.json").read_text())
    assert contract["cosine"]["min"] > 0.99999
    assert contract["alone"]["cosine"] > 0.99999
    mood = contract["tasks"]["mood"]
    assert mood["change"] == pytest.approx(0, abs=1e-6)
    assert mood["logits"]["max"] < 1e-3
    assert set(mood["ece"]) == {"fp32", "form"}
    assert contract["calibrations"]["mood"]["temperature"] > 0

    model = unmask.load(copy)
    assert model.form_name == FORM
    assert f"runs as {FORM}" in caplog.text
    texts = ["the film was good", "the dog was dull film film"]
    plain = unmask.load(copy, form=False)
    assert plain.form_name == "torch-fp32"
    assert (model.encode(texts) - plain.encode(texts)).abs().max() < 1e-5
    assert [a.labels for a in model.predict("mood", texts)] == [
        a.labels for a in plain.predict("mood", texts)
    ]
    assert unmask.evaluate(copy)["form"] == FORM

    monkeypatch.setattr(stored.ENGINES["openvino"], "name", "no_such_library")
    assert unmask.load(copy).form_name == "torch-fp32"  # falls back, and says why
    assert "is not installed (pip install 'unmask[openvino]'): torch computes now" in caplog.text


@pytest.mark.usefixtures("always_faster")
def test_a_form_outside_the_tolerance_is_refused(copy: Path) -> None:
    before = files.sha256(copy / bundle.MANIFEST)
    asked = ["--to", "openvino-int8", "--tolerance", "min_cosine=0.9999999"]
    from unmask.cli import tune as command

    with pytest.raises(UserError, match=r"nothing was kept.*openvino-int8: least cosine 0\.\d+ is"):
        command.tune(copy, to=[asked[1]], tolerance=asked[3], texts=None, column="text", rows=64)
    assert files.sha256(copy / bundle.MANIFEST) == before
    assert not (copy / "forms").exists()


def test_what_only_writes_is_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine serves it; in another precision what it writes is scored."""
    pairs = [("the cat", "die Katze"), ("the dog", "der Hund"), ("a cat", "eine Katze")]
    lines = [json.dumps({"en": f"{pairs[i % 3][0]} {i}", "de": pairs[i % 3][1]}) for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    task = {"kind": "generate", "train": str(tmp_path / "pairs.jsonl"), "valid": 0.3}
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 100}},
        "tasks": {"german": {**task, "input": "en", "target": "de", "target_length": 8}},
        "train": {"steps": 10, "batch_tokens": 300},
    }
    unmask.train(recipe, tmp_path / "run")
    place = tmp_path / "run" / "bundle"
    monkeypatch.setattr(stored, "_torch_has_bf16", lambda: True)  # else only slow
    every = Tolerance(points=100)
    found = tune(place, to=["bf16"], tolerance=every)
    told = {one["form"]: one for one in found["tried"]}
    assert told[FORM.replace("fp32", "bf16")]["refused"] == [
        "all its tasks write texts, which only torch does"
    ]
    german = told["torch-bf16"]["contract"]["tasks"]["german"]
    assert german["metric"] == "bleu"
    assert german["change"] is not None
    with pytest.raises(UserError, match=r"nothing was kept.*only torch does"):
        tune(place, to=["openvino-fp32"])


def test_refusals_say_each_reason() -> None:
    contract = {
        "cosine": {"mean": 0.98, "min": float("nan")},
        "alone": {"cosine": 0.5},
        "tasks": {"mood": {"metric": "accuracy", "change": -0.02, "ece": {"fp32": 0, "form": 0.1}}},
    }
    said = "\n".join(refusals(contract, Tolerance()))
    for part in ("mean cosine", "least cosine nan", "alone", "loses 2.00 points", "error rises"):
        assert part in said
    assert not refusals(
        contract | {"cosine": {"mean": 1.0, "min": 1.0}, "alone": {"cosine": 1.0}},
        Tolerance(points=3, ece=0.2),
    )


def test_a_contract_sees_other_weights(trained: Path) -> None:
    """The contract is no formality: a model whose weights moved is found far away."""
    model, form = bundle.load(trained), bundle.load(trained)
    for p in form.encoder.parameters():
        p.data.add_(0.5)
    contract = measure(model, form, ["the film was good", "a dog", "the time was bad"], {})
    assert refusals(contract, Tolerance())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"to": ["int9"]}, "no form 'int9'"),
        ({"to": ["torch-int8"]}, "form torch-int8"),
        ({"texts": ["one", " ", "one"]}, "1 different ones"),
    ],
)
def test_mistakes(copy: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tune(copy, **given)


def test_what_is_no_bundle_or_tolerance(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bundle"):
        tune(tmp_path)
    with pytest.raises(UserError, match="keys of cosine"):
        Tolerance.read("cosines=1")


def test_calibration_rows(text: TextInput, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="there are 1 different"):
        calibration(text, ["good", "", "good"])
    same = [
        f"the {word} was {kind}"
        for word in ("cat", "dog")
        for kind in "good bad great dull".split()
    ]
    assert len(calibration(text, same)) == 8
    assert "texts as different as those that will be read" in caplog.text


def test_a_form_of_other_weights_is_not_used(
    make_bundle: Callable[[str], Path],
    make_form: Callable[[str, str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = Path(shutil.copytree(make_bundle("classic"), tmp_path / "bundle"))

    def write(folder: Path) -> None:
        shutil.copytree(make_form("classic", FORM), folder / "forms" / FORM)
        record = files.read_json(folder / "forms" / FORM / "form.json")
        files.write_json(folder / "forms" / FORM / "form.json", record | {"weights": "0" * 64})
        files.write_json(folder / stored.CHOICE, {"form": FORM, "settings": {}})

    bundle.change(path, write)
    assert unmask.load(path).form_name == "torch-fp32"
    assert "made of other weights" in caplog.text
    (path / "forms" / FORM / "model.bin").write_bytes(b"changed")
    with pytest.raises(UserError, match="not what the manifest says"):
        unmask.load(path)
