"""A chain of steps: a smaller bundle with its record, the original untouched, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import unmask
from unmask.cli.app import app
from unmask.errors import UserError
from unmask.files import sha256
from unmask.shrink import budget
from unmask.shrink.budget import search
from unmask.shrink.chain import shrink
from unmask.shrink.steps import Step, parse


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two tasks on forty easy reviews."""
    folder = tmp_path_factory.mktemp("source")
    nouns, lines = ["film", "cat", "dog", "world", "time"], ["text,label"]
    for i in range(40):
        word, label = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))[i % 4]
        lines.append(f"the {nouns[i % 5]} was {word} {i % 10},{label}")
    (folder / "reviews.csv").write_text("\n".join(lines))
    rows = {"train": str(folder / "reviews.csv"), "valid": 0.2}
    recipe = {
        "encoder": {
            "shape": "tiny",
            "style": "classic",
            "tokenizer": {"vocab_size": 120, "min_frequency": 1},
        },
        "tasks": {
            "mood": {"kind": "classify", "test": 0.2, **rows},
            "words": {"kind": "mlm", **rows},
        },
        "train": {"steps": 8, "batch_tokens": 200, "learning_rate": 2e-3, "precision": "fp32"},
    }
    return unmask.train(recipe, folder / "run").bundle


def _state(folder: Path) -> dict[str, str]:
    return {file.name: sha256(file) for file in sorted(folder.iterdir())}


def test_a_chain_is_smaller_measured_and_recorded(source: Path, tmp_path: Path) -> None:
    before = _state(source)
    steps = ["vocabulary", "layers=1", "heads=1", "units=50%", "recover"]
    record = shrink(str(source), tmp_path / "small", steps, sets=["train.steps=4"])
    assert _state(source) == before
    assert [one["step"] for one in record["figures"]] == ["original", *steps]
    sizes = [one["bytes"] for one in record["figures"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.7 * sizes[0]
    trimmed = record["figures"][1]
    assert {one["task"]: one["difference"] for one in trimmed["scores"]}["mood"] == 0
    for one in record["figures"]:
        assert one["texts_per_second"] > 0
        assert {score["task"] for score in one["scores"]} == {"mood", "words"}
    model = unmask.load(tmp_path / "small")
    config = model.encoder.config
    assert (config.num_layers, config.num_heads, config.intermediate_size) == (1, 1, 256)
    assert list(model.tasks) == ["mood", "words"]
    kept = json.loads((tmp_path / "small" / "shrink.json").read_text())
    assert kept == record
    assert kept["sha256"] == before["manifest.json"]
    card = (tmp_path / "small" / "README.md").read_text()
    assert "layers=1" in card
    assert "## The card of the original" in card
    again = unmask.evaluate(tmp_path / "small")  # its recipe says which rows
    scored = json.loads((tmp_path / "small" / "scores.json").read_text())
    assert [s["value"] for s in again["scores"]] == [s["value"] for s in scored]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small"]  # no working folder is left
    further = shrink(str(tmp_path / "small"), tmp_path / "smaller", ["units=10"])
    assert further["before"] == record


def test_a_student_learns_from_texts_without_labels(source: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"the cat was {w} 3" for w in ("good", "bad", "dull") * 8))
    bare = tmp_path / "bare"  # as one that came from elsewhere: without a recipe
    unmask.bundle.save(unmask.load(source), bare)
    with pytest.raises(UserError, match="--recipe, or texts with"):
        shrink(str(bare), tmp_path / "no", ["layers=1"])
    record = shrink(
        str(bare), tmp_path / "out", ["student=1", "recover"], texts=[texts], sets=["train.steps=3"]
    )
    assert record["figures"][-1]["scores"] == []
    assert unmask.load(tmp_path / "out").encoder.config.num_layers == 1
    assert unmask.load(tmp_path / "out").predict("mood", "the film was good")


def test_weights_in_half_the_bytes(source: Path, tmp_path: Path) -> None:
    record = shrink(str(source), tmp_path / "out", ["bf16"])
    before, after = (one["bytes"] for one in record["figures"])
    assert after < 0.6 * before
    assert record["stored"] == "bf16"
    file = tmp_path / "out" / "model.safetensors"
    assert file.stat().st_size < 0.52 * (source / "model.safetensors").stat().st_size
    model, whole = unmask.load(tmp_path / "out"), unmask.load(source)
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=2**-8, atol=0)
    again = unmask.evaluate(tmp_path / "out")
    scored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [s["value"] for s in again["scores"]] == [s["value"] for s in scored]


def test_an_int8_form_behind_a_chain(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    record = shrink(str(source), tmp_path / "out", ["units=50%", "bf16", "int8"])
    model = unmask.load(tmp_path / "out")
    assert model.form_name == record["form"] == record["figures"][-1]["form"]
    assert record["figures"][-2]["form"] == "torch-fp32"
    again = unmask.evaluate(tmp_path / "out")
    scored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [s["value"] for s in again["scores"]] == [s["value"] for s in scored]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_what_was_learnt_with_r_drop_recovers_without(source: Path, tmp_path: Path) -> None:
    data = yaml.safe_load((source.parent / "recipe.yaml").read_text())
    del data["tasks"]["words"]
    data["train"] |= {"steps": 2, "r_drop": 1.0, "adversarial": 0.1}
    bundle = unmask.train(data, tmp_path / "run").bundle
    record = shrink(
        str(bundle), tmp_path / "small", ["layers=1", "recover"], sets=["train.steps=2"]
    )
    assert record["steps"] == ["layers=1", "recover"]


def test_recovery_that_learns_with_int8(source: Path, tmp_path: Path) -> None:
    """Another recipe ran, and what came of it is a plain bundle."""
    found = {}
    for step in ("recover", "recover=int8"):
        record = shrink(str(source), tmp_path / step, [step], sets=["train.steps=4"])
        assert [one["step"] for one in record["figures"]] == ["original", step]
        assert record["form"] == "torch-fp32"  # nothing is quantised unasked
        assert not (tmp_path / step / "forms").exists()
        found[step] = unmask.load(tmp_path / step).state_dict()
        again = unmask.evaluate(tmp_path / step)
        scored = json.loads((tmp_path / step / "scores.json").read_text())
        assert [s["value"] for s in again["scores"]] == [s["value"] for s in scored]
    a, b = found.values()
    assert a.keys() == b.keys()
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_a_narrower_student(source: Path, tmp_path: Path) -> None:
    record = shrink(
        str(source), tmp_path / "out", ["student=1x64", "recover"], sets=["train.steps=3"]
    )
    config = unmask.load(tmp_path / "out").encoder.config
    assert (config.num_layers, config.hidden_size, config.num_heads) == (1, 64, 1)
    assert config.intermediate_size == 256
    assert record["figures"][-1]["bytes"] < record["figures"][0]["bytes"] / 2


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "at least one step"),
        (["sing"], "no such step"),
        (["layers"], "write layers=3"),
        (["layers=0"], "between 1 and 2"),
        (["layers=9"], "between 1 and 2"),
        (["heads=150%"], "between 1 and 2"),
        (["recover=3"], "write recover or recover=int8"),
        (["recover="], "write recover or recover=int8"),
        (["bf16", "layers=1"], "comes last"),
        (["int8", "bf16"], "comes last"),
        (["student=1x64"], "recover behind it"),
        (["student=7", "recover"], "the teacher has 2 layers"),
        (["student=1x65", "recover"], "multiple of 64"),
    ],
)
def test_mistakes_leave_nothing(source: Path, tmp_path: Path, steps: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        shrink(str(source), tmp_path / "out", steps)
    assert not list(tmp_path.iterdir())


def test_what_stands_there_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        shrink(str(source), tmp_path / "out", ["layers=1"])
    assert not list((tmp_path / "out").iterdir())


def test_steps_are_read_as_written() -> None:
    assert [str(s) for s in parse(["vocabulary", "layers=50%"])] == ["vocabulary", "layers=50%"]
    assert Step("heads", "50%").count(12, "heads") == 6
    assert Step("heads", "1%").count(12, "heads") == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("20 MB, 5 ms, -0.5 points", (20e6, 5.0, 0.5)),
        ("-1 point,300kb", (300e3, None, 1.0)),
        ("2.5 ms", (None, 2.5, None)),
    ],
)
def test_budgets(text: str, found: tuple[Any, ...]) -> None:
    own = budget.parse(text)
    limits = (own.bytes, own.milliseconds, own.points)
    assert all(limit == one or (one is None and limit == float("inf"))
               for limit, one in zip(limits, found, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("small", "is no limit"),
        ("20 MB, 10 MB", "second limit"),
        ("0.5 points", "write -0.5 points"),
        ("0 MB", "more than nothing"),
        ("", "is no limit"),
    ],
)
def test_budgets_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        budget.parse(text)


def test_a_budget_is_met_or_the_nearest_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_LAYERS", ("50%",))
    monkeypatch.setattr(budget, "_UNITS", ("",))
    size = shrink(str(source), tmp_path / "v", ["vocabulary"])["figures"][-1]["bytes"]
    limit = f"{0.8 * size / 1e6:.3f} MB, -100 points"
    record = search(str(source), tmp_path / "out", limit, sets=["train.steps=2"])
    assert record["steps"] == ["vocabulary", "layers=50%", "recover"]
    assert record["figures"][-1]["bytes"] <= 0.8 * size
    assert record["budget"] == limit
    with pytest.raises(UserError, match=r"no chain meets.*nearest is vocabulary layers=50%: \d"):
        search(str(source), tmp_path / "none", "1 kB")
    assert not (tmp_path / "none").exists()


def test_the_command(source: Path, tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["shrink", str(source), str(tmp_path / "a"), "--to", "vocabulary"])
    assert done.exit_code == 0, done.output
    assert "vocabulary" in done.stdout
    words = ["shrink", str(source), str(tmp_path / "b"), "--to", "units=8", "--json"]
    record = json.loads(run.invoke(app, words).stdout)
    assert record["steps"] == ["units=8"]
    none = run.invoke(app, ["shrink", str(source), str(tmp_path / "c")])
    assert isinstance(none.exception, UserError)
    assert yaml.safe_load((tmp_path / "a" / "recipe.yaml").read_text())["tasks"]
