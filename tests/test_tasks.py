"""The contract that every kind of task keeps, and what each kind promises of its own."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from PIL import Image

from unmask.batch import collate
from unmask.data.rows import Rows
from unmask.encoder import Encoder, HeadConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.jobs import unseen
from unmask.model import Model
from unmask.recipe import AudioOptions, Column, ImageOptions, TaskOptions
from unmask.tasks import KINDS, Contrast, Draw, Task, row_rng
from unmask.tasks.clashes import clashes
from unmask.tasks.classify import Classify, ClassifyOptions, LabelAnswer
from unmask.tasks.mlm import Mlm, MlmOptions

WORDS = ["film", "cat", "dog", "world", "time", "red", "good", "bad", "great", "dull", "one", "two"]

READS: dict[str, Any] = {
    "audio": AudioOptions(rate=8000, mels=8, frames=2),
    "image": ImageOptions(size=8, patch=2, channels=1),
}


def recording(seed: int, seconds: float) -> bytes:
    """Noise, as a WAV."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(8000 * seconds))
    soundfile.write(buffer, noise, 8000, format="WAV")
    return buffer.getvalue()


def picture(seed: int) -> bytes:
    """Grey noise, as a PNG."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6 + seed % 3, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


ROWS: list[dict[str, Any]] = [
    {"text": "the film was good", "label": "pos", "tags": [("film", "thing")]},
    {"text": "the film was very bad and dull", "label": "neg", "tags": [("very bad", "how")]},
    {"text": "great", "label": "pos", "tags": []},
    {"text": "", "label": "neg", "tags": []},
    {
        "text": "the cat sleeps. the dog runs!\nit was a good time",
        "label": "pos",
        "tags": [("cat", "thing"), ("the dog", "thing")],
    },
    {"text": "one。two three。red green", "label": "neg", "tags": []},
]
ANSWERS = {"question": "who sleeps", "answers": [{"text": "dog", "start": 8}]}
ROWS = [row | ANSWERS | {"context": "the cat dog " * (i + 1)} for i, row in enumerate(ROWS)]
for _i, _row in enumerate(ROWS):
    _row["sound"] = recording(_i, 0.3 + 0.05 * _i)
    _row["picture"] = picture(_i)
    _row["names"] = {"en": f"the {WORDS[_i]}", "de": WORDS[-_i - 1]}


# What a kind needs to be told, to read these rows.
TOLD: dict[str, dict[str, Any]] = {
    "regress": {"values": {"neg": 0, "pos": 1}},
    "rerank": {"input": ["text", "label"]},
    "transcribe": {"input": {"audio": "sound"}, "label": "label"},
    "match": {"input": {"text": "names", "image": "picture", "audio": "sound"}},
    "reconstruct": {"input": {"text": "text", "image": "picture", "audio": "sound"}},
}
# Rows with something to explain, where the first has nothing.
EXPLAINED = {"mlm": {"text": "the [MASK] was good"}, "order": ROWS[4]}
for _row in ROWS:
    _found = [(_row["text"].index(part), part, label) for part, label in _row["tags"]]
    _row["tags"] = [{"start": i, "end": i + len(p), "label": x} for i, p, x in _found]


def make(kind: str, text: TextInput, rows: Any = ROWS, **options: Any) -> Task:  # type: ignore[type-arg]
    """A task of a kind that has studied the rows."""
    chosen: TaskOptions = KINDS[kind].Options(**options)
    return KINDS[kind]("it", chosen, text, KINDS[kind].study("it", chosen, rows))


# `distil` is made with a model to learn from: tests/shrink has what it promises.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "distil"])
def test_contract(kind: str, text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    """Examples are reproducible; losses add up; answers come one an example; scores are numbers."""
    task, encoder = make(kind, text, **TOLD.get(kind, {})), make_encoder(**READS)
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    examples, rows = [], []
    for i, row in enumerate(ROWS):
        own = list(task.examples(row, Draw(row_rng(0, "it", 0, i), others=ROWS)))
        again = list(task.examples(row, Draw(row_rng(0, "it", 0, i), others=ROWS)))
        for a, b in zip(own, again, strict=True):
            assert a.length == b.length
            for key in a.truth:
                np.testing.assert_array_equal(a.truth[key], b.truth[key])
        examples += own
        rows += [row] * len(own)
    assert examples
    whole = collate(examples, 64)
    outputs, whole = model(task, whole)
    together = task.loss(outputs, whole)
    assert together.shape == ()
    parts = [collate([example]) for example in examples]
    if not isinstance(task, Contrast):  # whose examples are compared with one another
        apart = sum(task.loss(*model(task, part)) for part in parts)
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-5)
    assert task.targets(whole) == sum(task.targets(part) for part in parts)
    outputs = {name: tensor.detach() for name, tensor in outputs.items()}
    answers = task.answers(outputs, whole, examples)
    assert [a.tokens for a in answers] == [e.length for e in examples]
    for answer, row in zip(answers, rows, strict=True):
        assert answer.columns()["tokens"] == answer.tokens
        assert np.isfinite(task.surprise(answer, row))
        assert isinstance(task.truth(row), str)
    scores = task.score(answers, rows)
    assert 0 <= scores[task.headline] <= 1
    assert all(np.isfinite(value) for value in scores.values())
    streamed = list(model.answers(task, iter(examples)))
    assert [a.short for a in streamed] == [a.short for a in answers]
    example = unseen(task, EXPLAINED.get(kind, ROWS[0]), 0)
    example, answer = task.explained(example, next(model.answers(task, [example])))
    outputs, _ = model(task, collate([example]))
    target = task.explain_target(outputs, answer)
    assert target.shape == task.explain_value(outputs, answer).shape == ()
    assert target.requires_grad


@pytest.mark.parametrize("hide", ["mask", "bert"])
def test_mlm_hides_what_it_says(text: TextInput, hide: str) -> None:
    task = make("mlm", text, rate=0.3, hide=hide)
    row = {"text": " ".join(["the", "film", "was", "good", "red"] * 4)}
    fates: Counter[str] = Counter()
    for i in range(400):
        (example,) = task.examples(row, Draw(row_rng(0, "it", 0, i)))
        ids = example.sequences[0].segments[0].values
        (wanted,), truth = example.wanted, example.truth["token"]
        assert len(wanted) == 6  # 0.3 of 20, special tokens never
        assert {0, len(ids) - 1}.isdisjoint(wanted.tolist())
        original = text.encode(row["text"]).ids
        np.testing.assert_array_equal(original[wanted], truth)
        untouched = np.setdiff1d(np.arange(len(ids)), wanted)
        np.testing.assert_array_equal(ids[untouched], original[untouched])
        for now, was in zip(ids[wanted], truth, strict=True):
            fate = "mask" if now == text.mask_id else "same" if now == was else "random"
            fates[fate] += 1
    share = {fate: count / fates.total() for fate, count in fates.items()}
    if hide == "mask":
        assert share == {"mask": 1.0}
    else:
        assert share["mask"] == pytest.approx(0.8, abs=0.04)
        assert share["same"] == pytest.approx(0.1, abs=0.04)
        assert share["random"] == pytest.approx(0.1, abs=0.04)


def test_mlm_draws_anew_each_epoch_and_loses_nothing_of_long_texts(text: TextInput) -> None:
    task = make("mlm", text, max_length=10)
    row = {"text": "one two three red green blue cat dog " * 5}
    first = list(task.examples(row, Draw(row_rng(0, "it", 0, 0))))
    second = list(task.examples(row, Draw(row_rng(0, "it", 1, 0))))
    assert any((a.wanted[0] != b.wanted[0]).any() for a, b in zip(first, second, strict=True))
    assert sum(e.length - 2 for e in first) == 40
    assert list(task.examples({"text": "  "}, Draw(row_rng(0, "it", 0, 0)))) == []


def test_fill_puts_its_best_guess_in_place(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder()
    task = Mlm("words", MlmOptions(), text)
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    answer = model.fill("the [MASK] was [MASK]", top=3)
    assert [len(guess.candidates) for guess in answer.guesses] == [3, 3]
    for guess in answer.guesses:
        probabilities = [p for _, p in guess.candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert guess.loss is None
    with pytest.raises(UserError, match=r"no \[MASK\] to fill"):
        model.fill("the film")
    with pytest.raises(UserError, match="no masked-language head"):
        Model(encoder, text).fill("the [MASK]")


def test_only_words_fill(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    """Special tokens and rows beyond the vocabulary never do, however likely they are."""
    encoder = make_encoder()
    task = Mlm("words", MlmOptions(), text)
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    head: Any = model.head("words")
    with torch.no_grad():
        head.bias[sorted(text.special_ids)] = 50.0
        head.bias[text.vocab_size :] = 50.0
    (guess,) = model.fill("the [MASK]", top=10_000).guesses
    words = {text.tokenizer.id_to_token(i) for i in range(text.vocab_size)}
    assert len(guess.candidates) == text.vocab_size - len(text.special_ids)
    assert {word for word, _ in guess.candidates} <= words - {"[UNK]", "[SEP]", "[MASK]", "[PAD]"}


def test_several_masks_are_filled_the_surest_first(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """By hand: each pass fills the surest mask; one mask alone is guessed as ever."""
    encoder = make_encoder()
    task = Mlm("words", MlmOptions(), text)
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    left = "the [MASK] was [MASK] and [MASK]"
    expected: list[tuple[tuple[str, float], ...]] = []
    while "[MASK]" in left:
        guesses = model.predict("words", left)[0].guesses
        surest = max(guesses, key=lambda guess: guess.candidates[0][1])
        expected.append(surest.candidates)
        words = left.split()
        words[surest.position - 1] = surest.candidates[0][0]
        left = " ".join(words)
    answer = model.fill("the [MASK] was [MASK] and [MASK]")
    assert sorted(guess.candidates for guess in answer.guesses) == sorted(expected)
    assert [guess.position for guess in answer.guesses] == [2, 4, 6]
    assert answer.filled == text.decode(text.encode(left).ids.tolist())
    assert model.fill("the [MASK]") == model.predict("words", "the [MASK]")[0]


def test_several_labels(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    rows = [
        {"text": "the cat", "label": ["a", "b"]},
        {"text": "the dog", "label": []},
        {"text": "red", "label": ["c"]},
    ]
    task = make("classify", text, rows, multi_label=True)
    assert task.facts["labels"] == ["a", "b", "c"]
    (example,) = task.examples(rows[0], Draw(row_rng(0, "it", 0, 0)))
    assert example.truth["label"].tolist() == [[1.0, 1.0, 0.0]]
    encoder = make_encoder()
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    answers = model.predict("it", rows)
    for answer in answers:
        assert set(answer.labels) == {k for k, p in answer.probabilities.items() if p > 0.5}
    assert set(task.score(answers, rows)) == {"f1_micro", "f1_macro", "exact_match"}
    joined = make(
        "classify", text, [{"text": "x", "label": "a|b"}], multi_label=True, separator="|"
    )
    assert joined.facts["labels"] == ["a", "b"]


def test_pairs_are_told_apart_by_segment(text: TextInput) -> None:
    rows = [{"a": "the cat", "b": "the dog", "label": str(i)} for i in range(2)]
    task = make("classify", text, rows, input=["a", "b"])
    (example,) = task.examples(rows[0], Draw(row_rng(0, "it", 0, 0)))
    (segment,) = example.sequences[0].segments
    assert np.asarray(segment.kind).tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x", "label": "odd"}, r"label 'odd' was not among the 2 labels .* \(neg, pos\)"),
        ({"text": "x", "label": None}, "has no label in column 'label'"),
        ({"text": "x", "label": " "}, "has no label"),
        ({"text": "x", "label": ["a"]}, "no single label; set `multi_label"),
        ({"text": "x", "label": float("nan")}, "no single label"),
        ({"text": None, "label": "pos"}, "column 'text' holds None and no text"),
        ({"text": 7, "label": "pos"}, "column 'text' holds 7"),
    ],
)
def test_rows_that_cannot_be_learnt_from(text: TextInput, row: dict[str, Any], said: str) -> None:
    task = make("classify", text)
    with pytest.raises(UserError, match=said):
        task.examples(row, Draw(row_rng(0, "it", 0, 0)))
    if "label 'odd'" in said:
        with pytest.raises(UserError, match="test row 1: task it: label 'odd'"):
            task.check([row], "test")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classify", {}),
        ("regress", {"values": {"a": 0, "b": 1}}),
        ("embed", {}),
        ("embed", {"input": ["text", "label"]}),
        ("rerank", {"input": ["text", "label"]}),
        ("rerank", {"input": ["text", "label"], "label": "grade"}),
    ],
)
def test_a_row_without_text_is_named_before_training(
    text: TextInput, kind: str, options: dict[str, Any]
) -> None:
    """By its place in its file too, where a share was held out, so that it can be found."""
    good = [{"text": f"t{i}", "label": "ab"[i % 2], "grade": i % 2} for i in range(4)]
    odd = {"text": None, "label": "a", "grade": 1}
    batch = pa.RecordBatch.from_pylist([*good, odd])
    held = Rows([batch], "a.csv", np.array([0, 4]))
    said = r"row 2 \(row 5 of a.csv\): task it: column 'text' holds None and no text"
    with pytest.raises(UserError, match=f"^train {said}"):
        make(kind, text, held, **options)
    with pytest.raises(UserError, match=f"^test {said}"):
        make(kind, text, good, **options).check(held, "test")


def test_a_row_that_cannot_be_answered_is_named(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task, encoder = make("classify", text), make_encoder()
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    with pytest.raises(UserError, match=r"^row 2: task it: column 'text' holds None and no text"):
        model.predict("it", [{"text": "a"}, {"text": None}])


def test_one_label_is_no_choice(text: TextInput) -> None:
    with pytest.raises(UserError, match=r"have 1 label\(s\)"):
        make("classify", text, [{"text": "x", "label": "a"}])


def test_labels_that_no_training_row_has(text: TextInput, caplog: pytest.LogCaptureFixture) -> None:
    """Rows that have one are scored: as wrong, since nobody could learn it."""
    rows = [{"text": "x", "label": label} for label in ("b", "b", "a", "c")]
    with caplog.at_level("WARNING"):
        task = make("classify", text, rows[:3], labels=["c", "b", "a"])
    assert "1 label(s) have no training row, such as 'c'" in caplog.text
    assert task.labels == ["a", "b", "c"]
    task.check(rows, "test")
    even = dict.fromkeys(task.labels, 1 / 3)
    answers = [LabelAnswer(tokens=3, dropped=0, probabilities=even, labels=("b",)) for _ in rows]
    assert task.score(answers, rows)["accuracy"] == 0.5
    weighted = make("classify", text, rows[:3], labels=["a", "b", "c"], class_weights="balanced")
    assert np.isfinite(weighted.facts["weights"]).all()
    with pytest.raises(UserError, match="the training rows have 'c', which is not among `labels`"):
        make("classify", text, rows, labels=["a", "b"])
    with pytest.raises(ValueError, match="name two or more, each once"):
        make("classify", text, rows, labels=["a", "a", "b", "c"])


def test_classification_looks_only_where_its_head_does(text: TextInput) -> None:
    for pooling, wanted in (("cls", 1), ("mean", 6)):
        options = ClassifyOptions(head=HeadConfig(pooling=pooling))  # type: ignore[arg-type]
        task = Classify("it", options, text, {"labels": ["neg", "pos"]})
        (example,) = task.examples(ROWS[0], Draw(row_rng(0, "it", 0, 0)))
        assert len(example.wanted[0]) == wanted


def spoken(**labels: str) -> list[tuple[str, list[str]]]:
    """Ten rows of each label of each language."""
    return [(lang, [label]) for lang, own in labels.items() for label in own.split()] * 10


def test_labels_that_clash_between_languages_are_said() -> None:
    same = {"en": "pos neg", "de": "pos neg"}
    assert clashes(spoken(**same)) == []
    assert clashes(spoken(**same, fr="pos")) == []  # it lacks one
    assert clashes(spoken(**same, fr="pos neg neutral")) == []  # it has one more
    assert clashes(spoken(en="en", de="de")) == []  # the label is the language
    (line,) = clashes(spoken(**same, fr="pos negatif"))
    assert line == (
        "the rows in de, en have the label 'neg' and none of them has 'negatif', which those in fr "
        "have: if these mean the same, give them one name"
    )
    assert len(clashes(spoken(en="pos neg", de="gut schlecht"))) == 1
    assert len(clashes(spoken(en="good fair", de="gut fair", fr="bon fair"))) == 3  # of each pair
    twice = {"en": "pos neg neutral", "pl": "positive negative neutral"}
    assert len(clashes(spoken(**twice, de=twice["en"], it=twice["pl"]))) == 1  # two of each naming


def test_a_rare_label_that_other_languages_lack_is_no_clash() -> None:
    common = spoken(en="net text", de="net text") * 10
    rare = [("en", ["hamradio"]), ("de", ["ocaml"])]
    assert clashes(common + rare) == []
    assert len(clashes(common + 10 * rare)) == 1


def test_rows_without_a_language_clash_with_none(
    text: TextInput, caplog: pytest.LogCaptureFixture
) -> None:
    options = ClassifyOptions(tags={"language": Column(column="lang")})
    task = Classify("it", options, text, {"labels": ["a", "b", "c"]})
    of = {"a": "de", "b": None, "c": "en"}
    rows = [{"text": "x", "label": label, "lang": lang} for label, lang in of.items()]
    task.look_over(rows[:2] * 9)
    assert not caplog.records
    task.look_over(rows * 9)
    assert "the rows in de have the label 'a' and none of them has 'c'" in caplog.text
    assert "None" not in caplog.text
