"""`--to exits`: kept where it pays, with what it promises; refused in one line elsewhere."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import unmask
from unmask import bundle, files
from unmask.errors import UserError
from unmask.evaluation.refit import refit
from unmask.runtime.exits import EXITS
from unmask.runtime.stored import FORMS, Settings, put
from unmask.shrink import exits, measure
from unmask.shrink.chain import shrink
from unmask.shrink.exits import ladder, limits, loosest, outcome


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one task on easy reviews, some of them about nothing."""
    folder, draw = tmp_path_factory.mktemp("source"), random.Random(0)
    nouns, lines = ["film", "cat", "dog", "world", "time"], ["text,label"]
    for i in range(240):
        word, label = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))[i % 4]
        rest = " ".join(draw.choices(nouns, k=draw.randrange(9)))
        lines.append(f"the {nouns[i % 5]} was {word} {rest},{label}")
    (folder / "reviews.csv").write_text("\n".join(lines))
    task = {"kind": "classify", "train": str(folder / "reviews.csv"), "valid": 0.4, "test": 0.2}
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {"mood": task},
        "train": {"steps": 30, "batch_tokens": 300, "learning_rate": 2e-3, "precision": "fp32"},
    }
    return unmask.train(recipe, folder / "run").bundle


def timed(faster: float) -> Any:
    """Stands for a clock, which would say now this and now that of so small a model."""
    return lambda *given: {"texts_per_second": 9.0, "faster": faster, "milliseconds": 1.0}


def test_answers_come_early_and_all_is_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "speed", timed(1.5))
    record = shrink(str(source), tmp_path / "out", ["vocabulary", "exits=0.8"])
    found = record["figures"][-1]["exits"]
    assert record["form"] == EXITS
    assert (found["task"], found["promised"], found["faster"]) == ("mood", 0.8, 1.5)
    assert found["same"] >= 0.8
    assert found["layers"] < 1
    assert sum(found["left"]) == pytest.approx(1)
    assert record == json.loads((tmp_path / "out" / "shrink.json").read_text())
    assert "answers come early" in (tmp_path / "out" / "README.md").read_text()

    model, whole = unmask.load(tmp_path / "out"), unmask.load(tmp_path / "out", form=False)
    assert (model.form_name, whole.form_name) == (EXITS, "torch-fp32")
    texts = [f"the {noun} was {word}" for noun in ("film", "cat") for word in ("good", "dull")]
    among = model.predict("mood", texts, coverage=0.8, risk=0.4)  # what it promises was fitted anew
    for text, answer in zip(texts, among, strict=True):
        assert answer.known is None
        (alone,) = model.predict("mood", text, coverage=0.8, risk=0.4)
        assert (alone.labels, alone.promise) == (answer.labels, answer.promise)
        assert alone.logits == pytest.approx(answer.logits, abs=1e-5)
    assert whole.predict("mood", texts[0])[0].known is not None
    torch.testing.assert_close(model.encode(texts), whole.encode(texts))  # of all layers
    scores = unmask.evaluate(tmp_path / "out")
    assert (scores["form"], scores["precision"]) == (EXITS, "exits")
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [s["value"] for s in scores["scores"]] == [s["value"] for s in kept]
    model.precision = "bf16"  # no promise was fitted to that
    with pytest.raises(UserError, match="fitted in exits and this is exits-bf16"):
        model.predict("mood", texts[0], coverage=0.8)
    model.precision = "fp32"
    put(model, tmp_path / "out" / FORMS / EXITS, EXITS, Settings())  # twice is as once
    bundle.save(model, tmp_path / "copy")  # a copy has the weights, and what was fitted to them
    copy = unmask.load(tmp_path / "copy")
    model.train()
    assert model.form_name == copy.form_name == "torch-fp32"
    for one in (model.eval(), copy):
        answers = (m.predict("mood", texts[0], coverage=0.8)[0] for m in (one, whole))
        (ours, theirs) = answers
        assert (ours.promise, ours.known) == (theirs.promise, theirs.known)
    refit(tmp_path / "out", tmp_path / "refit", None, "fp32")
    card = (tmp_path / "refit" / "README.md").read_text()
    assert card.endswith("all layers are computed.\n")


def test_other_weights_or_numbers_are_no_exits_of_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measure, "speed", timed(1.5))
    shrink(str(source), tmp_path / "out", ["exits=0.8"])

    def other(folder: Path) -> None:
        made = files.read_json(folder / "forms" / EXITS / "form.json")
        files.write_json(folder / "forms" / EXITS / "form.json", {**made, "weights": "0"})

    def wrong(folder: Path) -> None:
        shape = files.read_json(folder / "forms" / EXITS / "exits.json")
        files.write_json(folder / "forms" / EXITS / "exits.json", {**shape, "task": "no"})

    bundle.change(tmp_path / "out", wrong)
    with pytest.raises(UserError, match="no exits of this model"):
        unmask.load(tmp_path / "out")
    bundle.change(tmp_path / "out", other)
    assert unmask.load(tmp_path / "out").form_name == "torch-fp32"
    assert "made of other weights" in caplog.text


@pytest.mark.parametrize(
    ("steps", "faster", "said"),
    [
        (["exits=0.8"], 1.01, "does not pay: .* of the layers"),
        (["exits=0.999"], 2.0, "validation rows do not show"),
        (["layers=1", "exits=0.8"], 2.0, "two layers or more"),
        (["exits=1"], 2.0, "write exits or exits=0.99"),
        (["exits=0"], 2.0, "write exits or exits=0.99"),
        (["exits", "bf16"], 2.0, "comes last"),
        (["int8", "exits"], 2.0, "choose one of the two"),
    ],
)
def test_what_does_not_pay_is_not_written(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[str],
    faster: float,
    said: str,
) -> None:
    monkeypatch.setattr(measure, "speed", timed(faster))
    with pytest.raises(UserError, match=said):
        shrink(str(source), tmp_path / "out", steps)
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_are_refused(source: Path, tmp_path: Path) -> None:
    run = unmask.load(source)
    run.task("mood").options = run.task("mood").options.model_copy(update={"calibrate": "vector"})
    bundle.save(run, tmp_path / "vector")
    with pytest.raises(UserError, match="one label, without"):
        shrink(str(tmp_path / "vector"), tmp_path / "out", ["exits"], source.parent / "recipe.yaml")
    bundle.save(unmask.Model(run.encoder, run.text), tmp_path / "bare")
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was good")
    with pytest.raises(UserError, match="one task, of kind classify; it has no task"):
        shrink(str(tmp_path / "bare"), tmp_path / "out", ["exits"], texts=[texts])


def test_the_promise_is_kept_on_rows_to_come() -> None:
    """Whatever exits say: in nearly all draws of validation rows no more answers change."""
    generator, broken, left, share = torch.Generator().manual_seed(0), 0, 0, 0.9
    for _ in range(100):
        whole = torch.randn(4000, 3, generator=generator)
        exits_say = whole[:, None] + torch.randn(4000, 2, 3, generator=generator)
        steps = ladder(limits(exits_say[:100]), exits_say[100:500], whole[100:500].argmax(-1))
        found = changed(loosest(steps, 1 - share), exits_say[500:], whole[500:])
        broken += found > 1 - share
        left += found > 0
    assert broken <= 9  # of 100, where 5 are allowed on average
    assert left > 90


def changed(limit: float, logits: torch.Tensor, whole: torch.Tensor) -> float:
    """The share of answers that change by a limit, each exit looked at in its turn."""
    waiting = torch.ones(len(whole), dtype=torch.bool)
    others = torch.tensor(0)
    for own in logits.unbind(1):
        sure = waiting & (-own.log_softmax(-1).amax(-1) <= limit)
        others += (sure & (own.argmax(-1) != whole.argmax(-1))).sum()
        waiting &= ~sure
    return float(others) / len(whole)


def test_nobody_leaves_where_nobody_is_sure_enough(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "speed", timed(1.5))
    monkeypatch.setattr(exits, "loosest", lambda steps, risk: -1.0)
    shrink(str(source), tmp_path / "out", ["exits"])
    model, whole = (unmask.load(tmp_path / "out", form=form) for form in (True, False))
    rows: list[dict[str, Any]] = [{"text": f"the film was good {i}"} for i in range(20)]
    _, layers = outcome(model, "mood", rows)
    assert layers.tolist() == [whole.encoder.config.num_layers] * 20
    for ours, theirs in zip(model.predict("mood", rows), whole.predict("mood", rows), strict=True):
        assert ours.logits == theirs.logits
