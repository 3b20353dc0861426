"""A token classifier of transformers is a `tag` task: the same logits at words' first pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import unmask
from unmask.saving import save_as
from unmask.tasks import Draw, row_rng
from unmask.tasks.spans_of_tags import spans_of

SENTENCES = [
    ["hello", "world", ",", "hello."],
    ["x"],
    ["a", "rather", "longer", "text", ",", "in", "which", "hello", "stands", "far", "from", "it"],
]
FAMILIES = ["bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"]
SCHEMES = {
    "BIO": ["B-a", "O", "I-b", "B-b", "I-a"],
    "BIOES": ["O", *(f"{p}-{x}" for x in "ab" for p in "BIES")],
    "I alone": ["I-b", "I-a", "O"],
    "labels alone": ["NOUN", "VERB", "ADJ"],
    "none": ["LABEL_0", "LABEL_1"],
}


def of_labels(tags: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(tags)), "label2id": {tag: i for i, tag in enumerate(tags)}}


def theirs(model: Any, tokenizer: Any, words: list[str]) -> np.ndarray:
    """Transformers' logits at the first piece of each word: (W, K)."""
    batch = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0].numpy()
    numbers = batch.word_ids(0)
    return np.stack([logits[numbers.index(i)] for i in range(len(words))])


@pytest.mark.parametrize(
    ("family", "scheme"),
    [*((family, "BIO") for family in FAMILIES), *(("bert", scheme) for scheme in [*SCHEMES][1:])],
)
def test_predictions_agree_word_by_word(
    family: str, scheme: str, make: Any, tmp_path: Path
) -> None:
    tags = SCHEMES[scheme]
    made = make(family, "tag", **of_labels(tags))
    tokenizer = made.tokenizer
    if family == "roberta":  # else its first word has no blank before it, in theirs alone
        tokenizer = transformers.AutoTokenizer.from_pretrained(made.path, add_prefix_space=True)
        tokenizer.save_pretrained(made.path)
    model = unmask.load(made.path)
    task = model.task("tag")
    assert task.labels == tags
    answers = model.predict("tag", [{"text": words} for words in SENTENCES])
    for words, answer in zip(SENTENCES, answers, strict=True):
        logits = theirs(made.model, tokenizer, words)
        assert answer.words == tuple(words)
        assert list(answer.tags) == [tags[i] for i in logits.argmax(1)]
        p = torch.from_numpy(logits).softmax(-1).max(-1).values.prod()
        assert answer.probability == pytest.approx(float(p), abs=1e-5)
        spans = [(s.label, words[s.start]) for s in spans_of(answer.tags)]
        assert [(e.label, e.text.split()[0]) for e in answer.entities] == spans

    save_as(model, tmp_path / "out", "huggingface")
    again = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    assert again.config.id2label == dict(enumerate(tags))
    for words in SENTENCES:
        same = theirs(again, tokenizer, words)
        np.testing.assert_allclose(same, theirs(made.model, tokenizer, words), atol=1e-5)
    assert unmask.load(tmp_path / "out").predict("tag", ["hello world"]) == model.predict(
        "tag", ["hello world"]
    )


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "I alone"])
def test_rows_are_scored_in_the_checkpoints_own_tags(scheme: str, make: Any) -> None:
    """Whatever the rows are written in."""
    tags = SCHEMES[scheme]
    task = unmask.load(make("bert", "tag", **of_labels(tags)).path).task("tag")
    text, rows = ["hello", "a", "x", "b"], []
    for written in (["B-a", "I-a", "O", "B-b"], ["B-a", "E-a", "O", "S-b"], ["a", "a", "O", "b"]):
        row = {"text": text, "tags": written}
        (example,) = task.examples(row, Draw(row_rng(0, "tag", 0, 0)))
        rows.append([tags[i] for i in example.truth["tag"]])
    assert rows[0] == rows[1] == rows[2]
    assert [(s.start, s.end, s.label) for s in spans_of(rows[0])] == [(0, 2, "a"), (3, 4, "b")]


def test_sentencepiece_leaves_punctuation_with_words_and_we_do_not(make: Any) -> None:
    model = unmask.load(make("xlm-roberta", "tag", **of_labels(["O", "B-a", "I-a"])).path)
    (answer,) = model.predict("tag", "hello world, hello.")
    assert answer.words == ("hello", "world", ",", "hello", ".")


def test_a_bundle_of_ours_becomes_theirs(make: Any, tmp_path: Path) -> None:
    """Trained here on words, exported, and read there."""
    made = make("bert")
    lines = ["hello\tO\nx\tB-a\ny\tI-a\n", "x\tB-a\nhello\tO\n", "a\tO\nhello\tB-b\n"]
    (tmp_path / "a.conll").write_text("\n".join(lines * 5), "utf-8")
    recipe = {
        "encoder": {"from": str(made.path)},
        "tasks": {
            "who": {
                "kind": "tag", "train": str(tmp_path / "a.conll"), "input": "tokens", "valid": None,
            }
        },
        "train": {"steps": 3, "batch_tokens": 40},
    }  # fmt: skip
    trained = unmask.train(recipe, tmp_path / "run")
    model = unmask.load(trained.bundle)
    save_as(model, tmp_path / "out", "huggingface")
    there = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    assert there.config.label2id == {"O": 0, "B-a": 1, "I-a": 2, "B-b": 3, "I-b": 4}
    task = model.task("who")
    for words in SENTENCES:
        logits = torch.from_numpy(theirs(there, made.tokenizer, words)).log_softmax(-1).numpy()
        best = task.tagset.best(logits)
        (answer,) = model.predict("who", [{"tokens": words}])
        assert [task.labels[i] for i in best] == list(answer.tags)
