"""A token planted in training is found out, and the command tells of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import unmask
from unmask.cli.main import main
from unmask.explain import Explanation, explain
from unmask.explain.neighbours import nearest

from .conftest import PLANTED, texts


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_planted_token_is_ranked_first(trained: Path) -> None:
    """In at least 95 % of the texts that carry it, by each of the methods that know the answer."""
    model = unmask.load(trained / "bundle")
    carrying = [text for text, _ in texts(160, 1) if PLANTED in text.split()]
    assert len(carrying) == 40
    for method in ("integrated_gradients", "occlusion", "shapley"):
        first = [
            found.parts[int(np.argmax(found.methods[0].scores))].text
            for found in (
                explain(model, "mood", text, answer="good", methods=[method], check=False)
                for text in carrying
            )
        ]
        assert first.count(PLANTED) >= 0.95 * len(carrying), (method, first)


def test_faithful_scores_beat_chance(trained: Path) -> None:
    model = unmask.load(trained / "bundle")
    found = explain(model, "mood", "the film was great and it is one time", answer="good")
    (scores,) = found.methods
    assert scores.faithfulness is not None
    assert scores.faithfulness.comprehensiveness > scores.faithfulness.chance.comprehensiveness
    assert scores.faithfulness.sufficiency < scores.faithfulness.chance.sufficiency
    assert scores.faithfulness.deletion_area < scores.faithfulness.chance.deletion_area
    assert scores.faithfulness.deletion[0] == (0.0, pytest.approx(found.value))
    assert scores.faithfulness.deletion[-1] == (1.0, pytest.approx(found.blank))


def test_the_nearest_row_is_the_text_itself(trained: Path) -> None:
    model = unmask.load(trained / "bundle")
    rows = [{"text": text, "label": label} for text, label in texts(30, 2)]
    found = nearest(model, model.task("mood"), rows[7]["text"], rows, 3)
    assert (found[0].row, found[0].text, found[0].truth) == (8, rows[7]["text"], "bad")
    assert found[0].cosine == pytest.approx(1, abs=1e-4)
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)


def test_the_command(trained: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    bundle, page = trained / "bundle", tmp_path / "why.html"
    text = "the film was great"
    options = ["--method", "all", "--neighbours", 2, "--attention", "--html", page]
    assert run(monkeypatch, "explain", bundle, text, *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, Explanation.model_json_schema())
    assert [part["text"] for part in found["parts"]] == text.split()
    assert len(found["methods"]) == 5
    assert len(found["neighbours"]) == 2
    assert np.array(found["attention"][0]).shape[2:] == (6, 6)
    assert "://" not in page.read_text(encoding="utf-8")
    assert run(monkeypatch, "explain", bundle, text, "--answer", "bad", "--by", "token") == 0
    out = capsys.readouterr().out
    assert "not the model's own answer" in out
    assert "convergence error" in out
    assert "comprehensiveness" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "nothing to explain"),
        (["the film", "--answer", "goood"], "'goood' is none of its 2 labels; some are 'good'"),
        (["the film", "--method", "magic"], "choose of integrated_gradients"),
        (["the film", "--attention"], "add --json"),
        (["the film", "the cat"], "one text is explained at a time"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path, monkeypatch: Any, capsys: Any, arguments: list[str], said: str
) -> None:
    assert run(monkeypatch, "explain", trained / "bundle", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_what_was_cut_is_said(trained: Path) -> None:
    model = unmask.load(trained / "bundle")
    model.text.max_length = 8
    text = "the film was great and it is one time"
    total = len(unmask.load(trained / "bundle").tokenize(text).ids)
    found = explain(model, "mood", text, by="token", check=False)
    assert found.dropped == total - 8
    assert len(found.parts) == 6
    assert found.notes == [
        f"the text of {total} tokens was cut to 8: what was cut is not explained"
    ]
