"""Learning what a teacher gives within, from texts without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unmask
from unmask.batch import collate
from unmask.errors import UserError
from unmask.tasks import Draw, row_rng
from unmask.tasks.distil import relation


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty texts without labels."""
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    nouns = ("film", "cat", "dog", "world", "time")
    file.write_text("\n".join(f"the {nouns[i % 5]} was good {i}" for i in range(40)))
    return file


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    """A small bundle."""
    encoder = {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}}
    recipe = {"encoder": encoder, "tasks": {"words": {"kind": "mlm", "train": str(texts)}}}
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return unmask.train(recipe | {"train": {"steps": 3}}, folder).bundle


def _recipe(teacher: Path, texts: Path, encoder: dict[str, Any], **more: Any) -> dict[str, Any]:
    task = {"kind": "distil", "train": str(texts), "teacher": str(teacher), **more}
    train = {"steps": 15, "batch_tokens": 400, "precision": "fp32", "learning_rate": 2e-3}
    return {"encoder": encoder, "tasks": {"inside": task}, "train": train}


@pytest.mark.parametrize("more", [{}, {"states": False}, {"relations": False}])
def test_a_new_encoder_comes_nearer_to_its_teacher(
    tmp_path: Path, texts: Path, teacher: Path, more: dict[str, Any]
) -> None:
    encoder = {"shape": "tiny", "tokenizer": str(teacher), "style": "classic"}
    trained = unmask.train(_recipe(teacher, texts, encoder, **more), tmp_path / "student")
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"]["inside"] for line in lines if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] > 0


def test_one_is_no_distance_from_itself_however_packed(
    tmp_path: Path, texts: Path, teacher: Path
) -> None:
    recipe = _recipe(teacher, texts, {"shape": "tiny", "tokenizer": str(teacher)})
    recipe["train"]["steps"] = 1
    model = unmask.train(recipe, tmp_path / "run").model
    task = model.tasks["inside"]
    rows = [{"text": f"the cat was {i} good"} for i in range(6)]
    examples = [
        e for i, row in enumerate(rows) for e in task.examples(row, Draw(row_rng(0, "x", 0, i)))
    ]
    first = unmask.load(teacher)
    other = type(task)("inside", task.options, first.text)
    distances = []
    for groups in ([[e] for e in examples], [examples]):
        total = 0.0
        for group in groups:
            batch = collate(group, width=64)
            with torch.no_grad():
                ours = model(task, batch)[0]
                hidden = first.encoder(batch, layers=True)
                theirs = other.outputs(other.build(first.encoder), hidden, batch)
                assert float(task.imitate(ours, other, ours, batch)) == pytest.approx(0, abs=1e-5)
                heads = ours["heads"], theirs["heads"]
                total += float(relation(heads[0][0], heads[1][0], batch.visible(), batch.wanted))
        distances.append(total)
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)
    assert distances[0] > 0


def test_relations_need_no_equal_widths_and_padding_does_not_count() -> None:
    torch.manual_seed(0)
    wide, narrow = torch.randn(4, 1, 5, 8), torch.randn(2, 1, 5, 6)
    sees = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    sees[..., 3:] = False
    wanted = torch.arange(3)
    far = relation(narrow, wide, sees, wanted)
    assert far > 0
    wide[:, :, 3:], narrow[:, :, 3:] = 9, -9
    assert float(relation(narrow, wide, sees, wanted)) == pytest.approx(float(far))
    turned = torch.linalg.qr(torch.randn(8, 8)).Q
    assert float(relation(wide @ turned, wide, sees, wanted)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"teacher": None}, "name the bundle"),
        ({"valid": 0.1}, "nothing to score"),
        ({"states": False, "relations": False}, "both are off"),
        ({"adapter": "own"}, "trunk itself"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, texts: Path, more: dict[str, Any], said: str
) -> None:
    recipe = _recipe(tmp_path / "none", texts, {"shape": "tiny"})
    recipe["tasks"]["inside"] |= more
    with pytest.raises(UserError, match=said):
        unmask.train(recipe, tmp_path / "run")


def test_a_teacher_with_another_vocabulary_is_refused(
    tmp_path: Path, texts: Path, teacher: Path
) -> None:
    other = {"shape": "tiny", "tokenizer": {"kind": "bpe", "vocab_size": 300}}
    recipe = _recipe(teacher, texts, other)
    with pytest.raises(UserError, match="another tokenizer"):
        unmask.train(recipe, tmp_path / "run")
