"""Learning from a corpus: the same examples as from its texts, and exact going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmask
from unmask import recipe as recipes
from unmask.corpus.build import build
from unmask.data.corpus import CorpusRows
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.tasks import KINDS, OPTIONS, Draw, row_rng
from unmask.training.loop import fingerprint
from unmask.training.stream import Stream

Sources = dict[str, Any]


def task(kind: str, text: TextInput, **options: Any) -> Any:
    made = OPTIONS[kind](kind=kind, **options)
    facts = KINDS[kind].study("words", made, [])
    return KINDS[kind]("words", made, text, facts)


@pytest.fixture
def plain(tmp_path: Path, recipe: Sources, corpus: Path, text: TextInput) -> list[str]:
    """The texts of the corpus's training rows, in its order."""
    written = Path(recipe["sources"][0]["path"]).read_text().splitlines()
    path = Path(recipe["sources"][1]["path"])
    written += [json.loads(line)["body"] for line in path.read_text().splitlines()]
    known = {tuple(text.whole(one).ids[1:-1].tolist()): one for one in written}
    rows = CorpusRows(corpus)
    return [known[tuple(rows[i]["text"].ids.tolist())] for i in range(len(rows))]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "mlm"},
        {"kind": "mlm", "masking": "word", "hide": "bert", "max_length": 12},
        {"kind": "mlm", "masking": "span"},
        {"kind": "detect", "max_length": 9},
    ],
    ids=str,
)
def test_examples_are_those_of_the_texts(
    options: Sources, corpus: Path, plain: list[str], text: TextInput
) -> None:
    own = task(text=text, **options)
    rows, several = CorpusRows(corpus), 0
    for i, written in enumerate(plain):
        if "我" in written or "好" in written:
            continue
        ours = list(own.examples(rows[i], Draw(row_rng(0, "words", 0, i))))
        theirs = list(own.examples({"text": written}, Draw(row_rng(0, "words", 0, i))))
        assert len(ours) == len(theirs)
        several += len(ours) > 1
        for a, b in zip(ours, theirs, strict=True):
            assert a.sequences[0].content == b.sequences[0].content
            np.testing.assert_array_equal(a.wanted[0], b.wanted[0])
            for name, truth in b.truth.items():
                np.testing.assert_array_equal(a.truth[name], truth)
    assert several


def test_words_of_chinese_need_the_texts(corpus: Path, plain: list[str], text: TextInput) -> None:
    place = next(i for i, written in enumerate(plain) if "好" in written)
    row, draw = CorpusRows(corpus)[place], Draw(row_rng(0, "words", 0, 0))
    assert list(task("mlm", text).examples(row, draw))
    with pytest.raises(UserError, match=r"`masking: word` tells the words of Chinese apart"):
        list(task("mlm", text, masking="word").examples(row, draw))


def test_tokens_of_another_tokenizer_are_refused(corpus: Path, text: TextInput) -> None:
    other = TextInput.read(corpus / "tokenizer.json")
    other.tokenizer.add_tokens(["more"])
    row, draw = CorpusRows(corpus)[0], Draw(row_rng(0, "words", 0, 0))
    for kind in ("mlm", "detect", "order"):
        with pytest.raises(UserError, match="built with another tokenizer than this encoder's"):
            list(task(kind, other).examples(row, draw))


def test_messages_quote_no_arrays(corpus: Path) -> None:
    row = CorpusRows(corpus)[0]
    assert str(row["text"]) == f"a document of {len(row['text'].ids)} tokens"
    assert "array" not in repr(row)


def test_a_stream_goes_on_exactly(corpus: Path, text: TextInput) -> None:
    rows = CorpusRows(corpus)
    one = Stream(task("mlm", text, max_length=10), rows, seed=1)
    one.take(700)
    state = json.loads(json.dumps(one.state()))
    other = Stream(task("mlm", text, max_length=10), CorpusRows(corpus), seed=1)
    other.load(state)
    for _ in range(3):
        ours, theirs = one.take(9000), other.take(9000)
        assert [e.sequences[0].content for e in ours.examples] == [
            e.sequences[0].content for e in theirs.examples
        ]
    assert one.epoch > 0


def test_other_documents_are_other_rows(corpus: Path, recipe: Sources, tmp_path: Path) -> None:
    build(recipe, tmp_path / "same", workers=1)
    build(recipe, tmp_path / "other", ["held_out=0.3"], workers=1)
    rows, same, other = (CorpusRows(tmp_path / n) for n in ("corpus", "same", "other"))
    assert fingerprint(rows) == fingerprint(same) != fingerprint(other)
    assert fingerprint(rows) != fingerprint(rows[:-1])


def test_a_run_on_a_corpus(corpus: Path, recipe: Sources, tmp_path: Path) -> None:
    """Parts as tasks in a mixture; the tokenizer and the held-out part are the corpus's own."""
    run = {
        "encoder": {"shape": "tiny", "style": "classic", "max_positions": 64},
        "tasks": {
            "english": {
                "kind": "mlm",
                "train": {"path": str(corpus), "name": "en.films"},
                "tags": {"language": {"column": "language"}},
            },
            "german": {
                "kind": "detect",
                "train": {"path": str(corpus), "name": "de.news"},
                "valid": {"path": str(corpus), "split": "valid", "limit": 5},
            },
        },
        "mixture": {"sampling": "temperature", "temperature": 5},
        "train": {"steps": 4, "batch_tokens": 200},
    }
    trained = unmask.train(run, tmp_path / "run")
    found = {(s.task, s.metric, s.language): s for s in trained.scores}
    assert found["english", "accuracy", "en"].rows == len(CorpusRows(corpus, "valid", "en.films"))
    assert found["german", "roc_auc", None].rows == 5
    assert trained.model.text.fingerprint == CorpusRows(corpus).tokenizer
    scored = unmask.evaluate(trained.bundle)
    assert [d["count"] for d in scored["duplicates"]] == [0, 0]
    for change, said in (
        ("tasks.english.test=0.2", "was split when it was built"),
        ("encoder.tokenizer.vocab_size=200", "cannot read the tokens of .*corpus: leave"),
    ):
        with pytest.raises(UserError, match=said):
            unmask.train(run, tmp_path / "no", [change])
    build(recipe, tmp_path / "all", ["held_out=0"], workers=1)
    with pytest.raises(UserError, match="built without a held-out part"):
        unmask.train(run, tmp_path / "no", [f"tasks.english.train.path={tmp_path / 'all'}"])


def test_order_reads_a_corpus_as_its_text(tmp_path: Path, tokenizer: Path, text: TextInput) -> None:
    (tmp_path / "a.txt").write_text("the film was good . it is bad .\nit is great . the end .")
    made = {"sources": [str(tmp_path / "a.txt")], "tokenizer": str(tokenizer), "held_out": 0}
    build(made, tmp_path / "corpus", workers=1)
    rows = CorpusRows(tmp_path / "corpus")
    found = [
        list(task("order", text).examples(rows[i], Draw(row_rng(0, "words", 0, i))))
        for i in range(len(rows))
    ]
    assert [len(one) for one in found] == [1, 1]


def test_a_recipe_of_a_run_may_name_parts(corpus: Path) -> None:
    data = {
        "encoder": {"shape": "tiny"},
        "tasks": {"words": {"kind": "mlm", "train": {"path": str(corpus), "split": "train"}}},
    }
    (run,) = recipes.parse(data, OPTIONS).values()
    assert run.tasks["words"].train.split == "train"
