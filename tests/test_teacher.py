"""Learning from a teacher: what each kind imitates, and teachers that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import unmask
from unmask.batch import collate
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.tasks import Draw, row_rng
from unmask.tasks.imitation import SOFTNESS, towards, towards_each, towards_likeness
from unmask.tasks.mlm import Mlm, MlmOptions

TASKS: dict[str, dict[str, Any]] = {
    "classify": {"input": "text", "label": "label"},
    "regress": {"input": "text", "label": "label", "values": {"neg": -1, "pos": 3}},
    "tag": {"input": "words", "label": "tags"},
    "span": {"input": ["question", "context"]},
    "mlm": {"input": "text"},
    "rerank": {"input": ["question", "context"]},
    "embed": {"input": ["question", "context"]},
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty rows that every kind can read."""
    file = tmp_path / "rows.jsonl"
    made = []
    for i, noun in enumerate(("film", "book", "room", "food", "hotel") * 8):
        word, label = (("good", "pos"), ("bad", "neg"))[i % 2]
        words = ["the", noun, "was", word, str(i)]
        row = {"text": " ".join(words), "label": label, "words": words}
        row |= {"tags": ["O", "B-THING", "O", "O", "O"], "question": f"what was {word} {i}?"}
        row |= {"context": f"{row['text']}.", "answers": [{"text": noun, "start": 4}]}
        made.append(row)
    file.write_text("\n".join(json.dumps(row) for row in made))
    return file


@pytest.fixture
def recipe(rows: Path) -> Callable[..., dict[str, Any]]:
    def make(kind: str, **more: Any) -> dict[str, Any]:
        encoder = {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}}
        head: dict[str, Any] = {} if kind in ("mlm", "embed") else {"head": {"dropout": 0}}
        if kind == "span":
            head = {"head": {"dropout": 0, "pooling": "none"}}
        options = {"kind": kind, "train": str(rows), "valid": None, **TASKS[kind], **head, **more}
        train = {"steps": 25, "batch_tokens": 400, "precision": "fp32"}
        return {"encoder": encoder, "tasks": {"own": options}, "train": train}

    return make


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_comes_nearer_to_its_teacher(
    kind: str, recipe: Callable[..., dict[str, Any]], tmp_path: Path, rows: Path
) -> None:
    """From the same start without learning from any truth: the distance shrinks."""
    first = unmask.train(recipe(kind), tmp_path / "teacher").bundle
    made = recipe(kind, teacher=str(first), teacher_share=1.0)
    made["encoder"]["tokenizer"] = str(first)
    made["train"]["seed"] = 1
    distances = []
    for steps in (1, 25):
        made["train"]["steps"] = steps
        student = unmask.train(made, tmp_path / f"student-{steps}", overwrite=True).model
        teacher = unmask.load(first)
        task, own = student.tasks["own"], teacher.tasks["own"]
        every = [json.loads(line) for line in rows.read_text().splitlines()]
        draws = (Draw(row_rng(0, "x", 0, i), others=every) for i in range(len(every)))
        examples = [
            example
            for row, draw in zip(every, draws, strict=True)
            for example in task.examples(row, draw)
        ]
        batch = collate(examples)
        with torch.no_grad():
            ours, theirs = student(task, batch)[0], teacher(own, batch)[0]
            distances.append(float(task.imitate(ours, own, theirs, batch)))
            assert float(task.imitate(theirs, own, theirs, batch)) == pytest.approx(0, abs=1e-4)
    assert 0 < distances[1] < 0.8 * distances[0]


def test_divergences_by_hand() -> None:
    ours, theirs = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    p, q = (F.softmax(x / SOFTNESS, -1) for x in (theirs, ours))
    expected = float((p * (p / q).log()).sum()) * SOFTNESS**2
    assert float(towards(ours, theirs)) == pytest.approx(expected)
    assert float(towards_each(ours, theirs)) > 0
    assert float(towards_each(theirs, theirs)) == pytest.approx(0)
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    turned = torch.linalg.qr(torch.randn(8, 8)).Q
    assert float(towards_likeness(vectors, vectors @ turned, 0.1)) == pytest.approx(0, abs=1e-4)
    assert float(towards_likeness(vectors[:1], vectors[:1], 0.1)) == 0


def test_what_lies_beyond_the_tokens_is_not_imitated(text: TextInput) -> None:
    """Encoders of one tokenizer may have more vectors than it has tokens, and not as many."""
    task, n = Mlm("own", MlmOptions(), text), text.vocab_size
    ours, theirs = torch.randn(2, n + 3), torch.randn(2, n + 8)
    far = task.imitate({"logits": ours}, task, {"logits": theirs}, None)
    assert float(far) == pytest.approx(float(towards(ours[:, :n], theirs[:, :n])))


def test_a_share_of_the_truth_stays(recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """The loss that is shown is the truth's, and both pull."""
    first = unmask.train(recipe("classify"), tmp_path / "teacher").bundle
    made = recipe("classify", teacher=str(first))
    made["encoder"]["tokenizer"] = str(first)
    trained = unmask.train(made, tmp_path / "student")
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]
    assert lines[-1]["loss"]["own"] < lines[0]["loss"]["own"]
    assert trained.model.tasks["own"].options.teacher_share == 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "words"}, "has other labels"),
        ({"head": {"pooling": "mean"}}, "has pooling: cls, and this task mean"),
        ({"multi_label": True}, "has multi_label: False, and this task True"),
        ({"teacher": "no/such/bundle"}, "task own: its teacher no/such/bundle: there is no folder"),
        (
            {"max_length": None, "kind": "regress", "values": {"neg": 0, "pos": 1}},
            r"0 tasks of kind",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    change: dict[str, Any], said: str, recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = unmask.train(recipe("classify", head={"pooling": "cls"}), tmp_path / "teacher").bundle
    made = recipe("classify", head={"pooling": "cls"}, teacher=str(first))
    made["encoder"]["tokenizer"] = str(first)
    made["tasks"]["own"] |= change
    if change.get("label") == "words":
        made["tasks"]["own"] |= {"label": "question"}
    with pytest.raises(UserError, match=said):
        unmask.train(made, tmp_path / "student")


def test_a_teacher_on_another_scale_is_refused(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = unmask.train(recipe("regress", values={"neg": 0, "pos": 100}), tmp_path / "t").bundle
    made = recipe("regress", values={"neg": 1, "pos": 5}, teacher=str(first))
    made["encoder"]["tokenizer"] = str(first)
    with pytest.raises(UserError, match=r"has values: .*100.*, and this task .*5"):
        unmask.train(made, tmp_path / "student")


def test_another_vocabulary_is_refused(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = unmask.train(recipe("classify"), tmp_path / "teacher").bundle
    made = recipe("classify", teacher=str(first))
    made["encoder"]["tokenizer"] = {"vocab_size": 110, "min_frequency": 1, "lowercase": False}
    with pytest.raises(UserError, match="has another tokenizer"):
        unmask.train(made, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_kind_that_cannot_be_taught_is_refused(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = unmask.train(recipe("classify"), tmp_path / "teacher").bundle
    made = recipe("classify")
    made["tasks"]["own"] = {
        "kind": "detect", "train": made["tasks"]["own"]["train"], "valid": None,
        "teacher": str(first),
    }  # fmt: skip
    with pytest.raises(UserError, match="kind detect cannot learn from a teacher"):
        unmask.train(made, tmp_path / "student")


@pytest.mark.parametrize("change", [{"r_drop": 1.0}, {"adversarial": 0.1}, {"frozen": True}])
def test_a_teacher_beside_what_changes_the_gradient(
    change: dict[str, Any], recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """With two passes, a shift, or a trunk that stays: the student still comes near its teacher."""
    first = unmask.train(recipe("classify"), tmp_path / "teacher").bundle
    made = recipe("classify", teacher=str(first), teacher_share=1.0)
    made["encoder"] = {"from": str(first), "dropout": 0.1}
    made["tasks"]["other"] = made["tasks"].pop("own")  # a new head, by another name
    made["train"] |= {"steps": 60, "learning_rate": 1e-3, **change}
    trained = unmask.train(made, tmp_path / "student")
    texts = ["the film was good 3", "the hotel was bad 8"]
    ours = trained.model.predict("other", texts)
    theirs = unmask.load(first).predict("own", texts)
    assert [a.short for a in ours] == [a.short for a in theirs]
