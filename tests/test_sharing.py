"""Several tasks on the same texts: one pass through the encoder, the same answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from unmask import bundle
from unmask.cli.app import app
from unmask.encoder import Encoder, HeadConfig
from unmask.evaluation.scores import judge
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import KINDS

TEXTS = ["the red dog runs", "great", "", "what time is it", "the red dog runs", "a film " * 30]
FACTS: dict[str, dict[str, Any]] = {
    "classify": {"labels": ["neg", "pos"]},
    "tag": {"tags": ["O", "B-thing", "I-thing"], "strict": True},
}


@pytest.fixture
def make(text: TextInput, make_encoder: Callable[..., Encoder]) -> Callable[..., Model]:
    """A function that makes a model with these tasks: name=(kind, options)."""

    def build(style: str = "classic", **tasks: tuple[str, dict[str, Any]]) -> Model:
        encoder = make_encoder(style)
        known = {
            name: KINDS[kind](name, KINDS[kind].Options(**options), text, FACTS.get(kind))
            for name, (kind, options) in tasks.items()
        }
        torch.manual_seed(2)
        heads = {name: task.build(encoder) for name, task in known.items()}
        return Model(encoder, text, known, heads).eval()

    return build


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sequences each pass through an encoder has read."""
    seen: list[int] = []
    plain = Encoder.forward

    def counted(self: Encoder, batch: Any, *more: Any, **options: Any) -> Any:
        seen.append(batch.sequences)
        return plain(self, batch, *more, **options)

    monkeypatch.setattr(Encoder, "forward", counted)
    return seen


def close(a: Any, b: Any) -> bool:
    """Whether two answers are the same up to rounding."""
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        a, b = vars(a), vars(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(np.isclose(a, b, rtol=1e-5, atol=1e-6)) if isinstance(a, float) else a == b


def test_tasks_on_the_same_texts_share_a_pass(
    make: Callable[..., Model], passes: list[int]
) -> None:
    mean = {"head": HeadConfig(pooling="mean")}
    for style in ("classic", "modern"):
        model = make(style, intent=("classify", {}), mood=("classify", mean), slots=("tag", {}))
        names = list(model.tasks)
        short = TEXTS[:4]
        passes.clear()
        shared = model.predict(names, short)
        assert passes == [4]
        passes.clear()
        apart = [model.predict(name, short) for name in names]
        assert passes == [4, 4, 4]
        for row, answers in zip(shared, zip(*apart, strict=True), strict=True):
            assert list(row) == names
            assert all(close(row[n], answer) for n, answer in zip(names, answers, strict=True))


def test_others_keep_to_themselves(make: Callable[..., Model], passes: list[int]) -> None:
    """A text that one task cuts and the other reads in windows, a repeated one, and `mlm`."""
    model = make(intent=("classify", {}), slots=("tag", {}), words=("mlm", {}))
    names = ["slots", "intent", "words"]
    counted: list[int] = []
    shared = model.predict(names, TEXTS, progress=counted.append)
    assert sum(counted) == 18
    # five alike for two tasks at once; of the long one 1 cut and 3 windows; all six for `mlm`
    assert sorted(passes) == [1, 3, 5, 6]
    for name in names:
        own = model.predict(name, TEXTS)
        assert all(close(row[name], answer) for row, answer in zip(shared, own, strict=True))
    assert shared[-1]["intent"].dropped > 0 == shared[-1]["slots"].dropped
    assert model.predict([], TEXTS[:2]) == []
    assert model.predict(["intent"], TEXTS[0])[0].keys() == {"intent"}


def test_scoring_shares_too(make: Callable[..., Model], passes: list[int]) -> None:
    tags = [{"start": 4, "end": 7, "label": "thing"}]
    rows = [{"text": "the red dog", "label": "pos", "tags": tags}] * 3
    rows += [{"text": "the cat sleeps", "label": "neg", "tags": tags}]
    model = make(intent=("classify", {}), slots=("tag", {}))
    both = [(task, rows) for task in model.tasks.values()]
    together = judge(model, both)
    assert passes == [4]
    passes.clear()
    apart = [judge(model, [one])[0] for one in both]
    assert passes == [4, 4]
    for own, other in zip(together, apart, strict=True):
        assert all(close(a.answers, b.answers) for a, b in zip(own, other, strict=True))
    fewer = judge(model, [both[0], (both[1][0], rows[2:])])  # other rows: what is alike is shared
    assert [len(own) for own in fewer] == [4, 2]
    assert close([j.answers for j in fewer[1]], [j.answers for j in apart[1][2:]])


def test_the_command_takes_several_tasks(make: Callable[..., Model], tmp_path: Path) -> None:
    model = make(intent=("classify", {}), slots=("tag", {"input": "words"}))
    bundle.save(model, tmp_path / "b")
    call = ["predict", str(tmp_path / "b"), "--task", "intent", "--task", "slots"]
    done = CliRunner().invoke(app, [*call, "the red dog", "great", "--json"])
    assert done.exit_code == 0, done.output
    records = json.loads(done.stdout)
    assert [record["text"] for record in records] == ["the red dog", "great"]
    assert {"intent_prediction", "intent_tokens", "slots_prediction", "slots_word_tags"} <= set(
        records[0]
    )
    assert len(records[0]["slots_word_tags"]) == 3
    table = CliRunner().invoke(app, [*call, "the red dog", "great"]).stdout
    assert [table.count(name) for name in ("intent", "slots", "the red dog")] == [2, 2, 2]
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "great", "words": ["a", "cat"], "slots_word_tags": 1}\n', "utf-8")
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(app, [*call, "--input", str(file), "--output", str(out)])
    assert done.exit_code == 0, done.output
    header, line = out.read_text("utf-8").splitlines()
    assert "answer_slots_word_tags" in header.split(",")
    assert '"[""a"", ""cat""]"' in line
