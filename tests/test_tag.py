"""`tag`: rows in, words and windows, tags and spans, decoding, scores, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import unmask
from unmask import bundle
from unmask.batch import collate
from unmask.cli.initial import initial_recipe
from unmask.data.sources import read
from unmask.encoder import Encoder, HeadConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.recipe import Source
from unmask.tasks import Draw, row_rng
from unmask.tasks.spans_of_tags import OUTSIDE, Span, Tagset, scheme, spans_of
from unmask.tasks.tag import Tag, TagOptions
from unmask.tasks.tag_answers import TagExample, entity_scores
from unmask.tasks.words import first_pieces, fitted, found, joined, windows

WORDS = [
    {"tokens": ["the", "red", "dog", "runs"], "tags": ["O", "B-thing", "I-thing", "O"]},
    {"tokens": ["cat", "dog"], "tags": ["B-thing", "B-thing"]},
    {"tokens": ["what", "time", "is", "it"], "tags": ["O", "B-ask", "O", "O"]},
]
TYPES = st.sampled_from(["a", "b", "a-b"])


def make(text: TextInput, rows: list[dict[str, Any]] = WORDS, **options: Any) -> Tag:
    chosen = TagOptions(**{"input": "tokens", **options})
    return Tag("it", chosen, text, Tag.study("it", chosen, rows))


def one(task: Tag, row: dict[str, Any], truth: bool = True) -> TagExample:
    (example,) = task.examples(row, Draw(row_rng(0, "it", 0, 0), truth=truth))
    assert isinstance(example, TagExample)
    return example


def of(task: Tag, encoder: Encoder) -> Model:
    torch.manual_seed(1)
    return Model(encoder, task.text, {"it": task}, {"it": task.build(encoder)})


def test_labels_that_clash_between_languages_are_said(
    text: TextInput, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"tokens": ["red", "dog"], "tags": ["O", tag], "lang": lang}
        for lang, tag in (("en", "B-person"), ("de", "B-person"), ("fr", "B-PER"))
        for _ in range(9)
    ]
    make(text, rows, tags={"language": {"column": "lang"}}).look_over(rows)
    assert "the rows in fr have the label 'PER' and none of them has 'person'" in caplog.text
    caplog.clear()
    make(text, rows[:18], tags={"language": {"column": "lang"}}).look_over(rows[:18])
    assert not caplog.records


# ---- tags and spans ----


@st.composite
def some_spans(draw: Any) -> tuple[int, list[Span]]:
    """Spans that do not overlap, in so many words."""
    place, spans = 0, []
    for _ in range(draw(st.integers(0, 5))):
        start = place + draw(st.integers(0, 2))
        place = start + draw(st.integers(1, 4))
        spans.append(Span(start, place, draw(TYPES)))
    return place + draw(st.integers(0, 2)), spans


@pytest.mark.parametrize("prefixes", ["BI", "BIES", "BILU"])
@given(made=some_spans())
def test_spans_come_back_from_their_tags(prefixes: str, made: tuple[int, list[Span]]) -> None:
    words, spans = made
    tagset = Tagset((OUTSIDE, *(f"{p}-{x}" for x in ("a", "b", "a-b") for p in prefixes)))
    tags = tagset.write(spans, words)
    assert set(tags) <= set(tagset.tags)
    assert spans_of(tags) == spans
    ends = [None, *tags, None]
    assert all(tagset.may_follow(a, b) for a, b in itertools.pairwise(ends))
    if {tag[0] for tag in tags} - set("BIO"):
        assert scheme(set(tags)) == {"BIES": "BIOES", "BILU": "BILOU"}[prefixes]


@given(made=some_spans())
def test_labels_alone_are_runs(made: tuple[int, list[Span]]) -> None:
    words, spans = made
    tags = Tagset((OUTSIDE, "a", "b", "a-b")).write(spans, words)
    merged = spans_of(tags)
    assert Tagset((OUTSIDE, "a", "b", "a-b")).write(merged, words) == tags
    assert sum(s.end - s.start for s in merged) == sum(s.end - s.start for s in spans)


def test_the_older_bio_is_read_as_it_is_meant() -> None:
    """In CoNLL-2003 a B- only parts neighbours of one label."""
    tags = ["I-a", "I-a", "B-a", "O", "I-b", "I-a"]
    assert spans_of(tags) == [Span(0, 2, "a"), Span(2, 3, "a"), Span(4, 5, "b"), Span(5, 6, "a")]


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_the_best_allowed_tags_are_found(prefixes: str) -> None:
    """Against all rows of tags there are."""
    tagset = Tagset((OUTSIDE, *(f"{p}-{x}" for x in "ab" for p in prefixes)))
    rng = np.random.default_rng(0)
    K, W = len(tagset.tags), 4
    rows = np.array(np.meshgrid(*[range(K)] * W)).reshape(W, -1).T  # all rows of tags
    names: list[list[str | None]] = [[None, *(tagset.tags[i] for i in row), None] for row in rows]
    legal = np.array(
        [all(tagset.may_follow(a, b) for a, b in itertools.pairwise(r)) for r in names]
    )
    changed = 0
    for _ in range(30):
        log_p = rng.normal(0, 2, (W, K))
        values = np.where(legal, log_p[np.arange(W), rows].sum(1), -np.inf)
        best = tagset.best(log_p)
        np.testing.assert_array_equal(best, rows[values.argmax()])
        changed += not np.array_equal(best, log_p.argmax(1))
    assert changed > 10  # what is likeliest word by word was often not allowed
    loose = Tagset(tagset.tags, strict=False)
    np.testing.assert_array_equal(loose.best(log_p), log_p.argmax(1))


# ---- words ----


def test_words_are_joined_as_they_are_written() -> None:
    text, ranges = joined(["我", "住", "在", "New", "York", "。", "Bye", "", "!"])
    assert text == "我住在New York。Bye !"
    assert [text[a:b] for a, b in ranges] == ["我", "住", "在", "New", "York", "。", "Bye", "", "!"]
    assert joined([])[0] == ""


def test_words_of_a_text_are_the_tokenizers(text: TextInput) -> None:
    plain = "Who's there?  the  films (runs)\tgreat我们"
    words = found(plain, text.whole(plain))
    assert [plain[a:b] for a, b in words] == [
        "Who", "'", "s", "there", "?", "the", "films", "(", "runs", ")", "great", "我", "们",
    ]  # fmt: skip


def test_a_word_is_seen_at_its_first_piece(text: TextInput) -> None:
    plain, ranges = joined(["films", "\u200b\x07", "was", "", "runsed"])
    whole = text.whole(plain)
    first = first_pieces(plain, ranges, whole)
    assert [whole.tokens[i] if i >= 0 else None for i in first] == [
        "film",
        None,
        "was",
        None,
        "runs",
    ]


def test_spans_are_widened_to_words_and_none_is_dropped_unsaid() -> None:
    words = np.array([[0, 3], [4, 8], [9, 12]])
    spans = [Span(0, 3, "a"), Span(5, 10, "b"), Span(11, 12, "c"), Span(12, 13, "d")]
    by_word, by_character, uneven = fitted(spans, words)
    assert by_word == [Span(0, 1, "a"), Span(1, 3, "b")]
    assert by_character == [Span(0, 3, "a"), Span(4, 12, "b"), *spans[2:]]
    assert uneven == 3


@pytest.mark.parametrize("words", [1, 7, 8, 9, 40, 333])
@pytest.mark.parametrize("limit", [3, 4, 10, 24])
def test_windows_want_each_word_once_with_context(text: TextInput, words: int, limit: int) -> None:
    plain = " ".join(["films", "dog", "we"][i % 3] for i in range(words))
    whole = text.whole(plain)
    ranges = found(plain, whole)
    first = first_pieces(plain, ranges, whole)
    seen: list[tuple[int, int]] = []
    for window in windows(whole, first, limit):
        encoded = window.encoded
        assert len(encoded.ids) <= limit
        assert encoded.special[0]
        assert encoded.special[-1]
        assert not encoded.special[window.wanted].any()
        seen += [tuple(x) for x in encoded.offsets[window.wanted].tolist()]
        if limit == 24 and len(whole.ids) > limit:
            begin, end = encoded.offsets[1, 0], encoded.offsets[-2, 1]
            nearest = encoded.offsets[window.wanted]
            assert begin == 0 or nearest[0, 0] - begin >= 5  # at least a token on either side
            assert end == len(plain) or end - nearest[-1, 1] >= 2
    assert seen == [tuple(x) for x in whole.offsets[first].tolist()]


def test_fifty_thousand_tokens_and_no_word_is_lost(
    text: TextInput, make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.inputs.pieces.PIECE", 1 << 14)  # so that it is cut
    task = make(text)
    row = {"tokens": ["red", "dogs"] * 17_000, "tags": ["O", "B-thing"] * 17_000}
    example = one(task, row)
    assert sum(map(len, example.wanted)) == 34_000
    assert sum(s.length for s in example.sequences) > 51_000
    (answer,) = of(task, make_encoder()).answers(task, [example])
    assert len(answer.tags) == len(answer.words) == 34_000
    assert answer.dropped == 0


def test_windows_are_learnt_one_by_one_and_are_the_same(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """A long text is no one example in training, and its loss is what scoring sees."""
    task = make(text, max_length=12)
    row = {"tokens": ["red", "dogs"] * 30, "tags": ["O", "B-thing"] * 30}
    model = of(task, make_encoder())
    (whole,) = task.examples(row, Draw(row_rng(0, "it", 0, 0)))
    parts = list(task.examples(row, Draw(row_rng(0, "it", 0, 0), apart=True)))
    assert len(parts) == len(whole.sequences) > 5
    losses = [task.loss(*model(task, collate([part]))) for part in parts]
    together = task.loss(*model(task, collate([whole])))
    torch.testing.assert_close(sum(losses), together, atol=1e-4, rtol=1e-5)
    assert sum(task.targets(collate([part])) for part in parts) == 60


# ---- rows ----

TEXT = "the cat was in New York"
PIECES = [("the ", ""), ("cat", "thing"), (" was in ", ""), ("New York", "city")]


@pytest.mark.parametrize(
    "spans",
    [
        [{"start": 4, "end": 7, "label": "thing"}, {"start": 15, "end": 23, "label": "city"}],
        [{"start": 15, "end": 23, "label": "city"}, {"start": 3, "end": 8, "label": "thing"}],
        [{"text": piece, "slot": slot} for piece, slot in PIECES],
        [{"text": piece, "label": slot or None} for piece, slot in PIECES],
        [{"text": piece, "slot": slot or "O"} for piece, slot in PIECES],
    ],
)
def test_spans_in_every_form_are_the_same(text: TextInput, spans: list[dict[str, Any]]) -> None:
    row = {"text": TEXT, "spans": spans}
    task = make(text, [row], input="text", label="spans")
    assert task.labels == ["O", "B-city", "I-city", "B-thing", "I-thing"]
    assert task.truth(row) == "thing: cat; city: New York"
    gold = one(task, row).gold
    assert gold is not None
    assert gold.tags == ("O", "B-thing", "O", "O", "B-city", "I-city")
    assert gold.uneven == 0


@pytest.mark.parametrize(
    ("tags", "known"),
    [
        (["O", "B-x", "I-x", "B-y"], ["O", "B-x", "I-x", "B-y", "I-y"]),
        (["O", "B-x", "E-x", "S-y"], ["O", "B-x", "I-x", "B-y", "I-y"]),
        (["O", "B-x", "L-x", "U-y"], ["O", "B-x", "I-x", "B-y", "I-y"]),
        (["O", "x", "x", "y"], ["O", "x", "y"]),
        (["w", "x", "x", "y"], ["w", "x", "y"]),
    ],
)
def test_schemes_of_tags(text: TextInput, tags: list[str], known: list[str]) -> None:
    row = {"tokens": ["the", "red", "dog", "runs"], "tags": tags}
    task = make(text, [row])
    assert task.labels == known
    gold = one(task, row).gold
    assert gold is not None
    assert [s for s in gold.spans if s.label in "xy"] == [Span(4, 11, "x"), Span(12, 16, "y")]


def words_row(**changes: Any) -> dict[str, Any]:
    return {"tokens": ["the", "dog"], "tags": ["O", "B-thing"]} | changes


def spans_row(*spans: Any, text: Any = "the dog") -> dict[str, Any]:
    return {"tokens": text, "tags": list(spans)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (words_row(tags=["O"]), "2 words and 1 tags in column 'tags'"),
        (words_row(tags=["O", "B-thing", "O"]), "2 words and 3 tags"),
        (words_row(tags=["O", 3]), "has 3 among its tags; a tag is a text"),
        (words_row(tags=["B-thing", "thing"]), "tag 'thing' has no prefix"),
        (words_row(tags=["E-thing", "L-thing"]), "prefixes E, L belong to no one scheme"),
        (words_row(tags=None), "holds None and neither a list of tags nor one of spans"),
        (words_row(tokens=["a", None]), "has None among its words"),
        (words_row(tokens=7), "column 'tokens' holds 7 and neither a text nor a list of words"),
        (words_row(tokens="the dog"), "holds tags, and the input is one text"),
        (spans_row({"start": 4, "end": 8, "label": "thing"}), "from 4 to 8, which does not lie"),
        (spans_row({"start": 4, "end": 4, "label": "thing"}), "from 4 to 4"),
        (spans_row({"start": "4", "end": 7, "label": "thing"}), "a span is {start, end, label}"),
        (spans_row({"start": 4, "end": 7}), "a span is {start, end, label}"),
        (spans_row(5), "has 5 among its spans"),
        (
            spans_row(*({"start": i, "end": i + 4, "label": "thing"} for i in (0, 3))),
            "the span ' dog' begins within another",
        ),
        (spans_row({"text": "the ", "slot": ""}, {"text": "cat", "slot": "thing"}), "'cat' does"),
        (spans_row({"text": "the ", "slot": ""}), "'dog' is in none"),
    ],
)
def test_rows_that_cannot_be_learnt_from(text: TextInput, row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        make(text, [*WORDS, row])
    assert str(caught.value).startswith("training row 4: task it: ")
    task = make(text)
    with pytest.raises(UserError, match=f"^test row 1: task it: .*{said}"):
        task.check([row], "test")
    with pytest.raises(UserError, match=said):
        one(task, row)


def test_labels_that_training_lacks_and_odd_tags_are_refused(text: TextInput) -> None:
    task = make(text)
    odd = words_row(tags=["O", "B-star"])
    with pytest.raises(UserError, match="valid row 2: task it: label 'star' was not among the 2"):
        task.check([WORDS[0], odd], "valid")
    one(task, odd, truth=False)  # to be tagged it needs no tags that are known
    with pytest.raises(UserError, match="training row 4: task it: tag 'thing' has no prefix"):
        make(text, [*WORDS, words_row(tags=["O", "thing"])])
    with pytest.raises(UserError, match="training row 5: task it: the prefixes B, I, L, S belong"):
        make(text, [*WORDS, words_row(tags=["O", "L-x"]), words_row(tags=["O", "S-x"])])
    with pytest.raises(UserError, match="all words of the training rows have the same label"):
        make(text, [words_row(tags=["O", "O"])])
    with pytest.raises(UserError, match="all words of the training rows have the same label"):
        make(text, [words_row(tags=["x", "x"])])
    every = make(text, [words_row(tags=["x", "y"])])
    with pytest.raises(UserError, match="the tag O, which no training row has"):
        every.check([words_row(tags=["x", "O"])], "test")
    with pytest.raises(ValueError, match="name 1 column"):
        TagOptions(input=["a", "b"])
    with pytest.raises(ValueError, match="nothing is pooled"):
        TagOptions(head=HeadConfig(pooling="mean"))
    chosen = TagOptions(head={"activation": "gelu"})  # type: ignore[arg-type]
    assert chosen.head is not None
    assert TagOptions.model_validate(chosen.model_dump()).head == chosen.head
    assert chosen.head.pooling == "none"


def test_words_that_the_tokenizer_drops_are_outside_and_counted(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task = make(text)
    row = {"tokens": ["the", "\x07", "dog", ""], "tags": ["B-thing", "I-thing", "I-thing", "O"]}
    model = of(task, make_encoder())
    (answer,) = model.answers(task, [one(task, row)])
    assert (answer.unread, answer.tags[1], answer.tags[3]) == (2, "O", "O")
    assert task.score([answer], [row])["unread"] == 0.5
    for nothing in ("", " \t", [], ["\x07"]):
        tags = ["O"] * (nothing == ["\x07"])
        draw = Draw(row_rng(0, "it", 0, 0))
        assert list(task.examples({"tokens": nothing, "tags": tags}, draw)) == []
        (answer,) = model.predict("it", [{"tokens": nothing}])
        assert (answer.entities, answer.short, list(answer.tags)) == ((), "nothing", tags)


def test_uneven_spans_are_said_once_and_scored(
    text: TextInput, make_encoder: Callable[..., Encoder], caplog: pytest.LogCaptureFixture
) -> None:
    row = {"text": "the films runs", "spans": [{"start": 4, "end": 8, "label": "thing"}]}
    task = make(text, [row], input="text", label="spans")
    examples = [one(task, row), one(task, row)]
    assert [r.message for r in caplog.records] == [
        "task it: some spans end within a word and are widened to whole words, as 'film' to 'films'"
    ]
    answers = list(of(task, make_encoder()).answers(task, examples))
    assert task.score(answers, [row, row])["widened"] == 1.0


def test_files_in_the_layout_of_conll(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n# a b O\n", "utf-8"
    )
    rows = read(Source(path=str(path)))
    assert list(rows) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["#"], "tags": ["O"]},
    ]
    tabs = tmp_path / "b.iob"
    tabs.write_text("New York\tB-city\r\n\r\nis\tO", "utf-8")
    assert list(read(Source(path=str(tabs)))) == [
        {"tokens": ["New York"], "tags": ["B-city"]},
        {"tokens": ["is"], "tags": ["O"]},
    ]
    for content, said in [
        ("a O\nb\n", r"c\.bio, line 2: 1 column\(s\), where line 1 has 2"),
        ("a\nb\n", r"c\.bio, line 1: 1 column"),
    ]:
        (tmp_path / "c.bio").write_text(content, "utf-8")
        with pytest.raises(UserError, match=said):
            read(Source(path=str(tmp_path / "c.bio")))


def test_a_first_recipe_knows_tagged_words(tmp_path: Path) -> None:
    conll = tmp_path / "a.conll"
    conll.write_text("Ann B-x\nruns O\n\nHello O\n", "utf-8")
    spans = tmp_path / "a.jsonl"
    spans.write_text(json.dumps({"t": TEXT, "s": [{"start": 4, "end": 7, "label": "x"}]}), "utf-8")
    several = tmp_path / "b.jsonl"
    several.write_text('{"t": "a", "s": ["x", "y"]}\n{"t": "b", "s": []}\n', "utf-8")
    for path, task in [
        (conll, {"kind": "tag", "input": "tokens", "label": "tags"}),
        (spans, {"kind": "tag", "input": "t", "label": "s"}),
        (several, {"kind": "classify", "input": "t", "label": "s", "multi_label": True}),
    ]:
        recipe, _ = initial_recipe(path, None, (), "s" if path == several else None)
        (made,) = yaml.safe_load(recipe)["tasks"].values()
        assert made == {**task, "train": str(path), "test": 0.1}


# ---- scores ----


@settings(deadline=None)
@given(
    made=st.lists(
        st.lists(
            st.tuples(*[st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])] * 2),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_scores_are_seqevals(made: list[list[tuple[str, str]]]) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    gold = [[a for a, _ in row] for row in made]
    guess = [[b for _, b in row] for row in made]
    ours = entity_scores(*([spans_of(tags) for tags in side] for side in (gold, guess)))
    for name, theirs in [
        ("f1", metrics.f1_score(gold, guess, zero_division=0)),
        ("precision", metrics.precision_score(gold, guess, zero_division=0)),
        ("recall", metrics.recall_score(gold, guess, zero_division=0)),
    ]:
        assert ours[name] == pytest.approx(theirs)
    if any(tag != "O" for row in gold + guess for tag in row):
        macro = metrics.f1_score(gold, guess, average="macro", zero_division=0)
        assert ours["f1_macro"] == pytest.approx(macro)


def test_scores_by_hand() -> None:
    gold = [[Span(0, 1, "a"), Span(2, 3, "b")], [Span(0, 1, "a")], []]
    guess = [[Span(0, 1, "a"), Span(2, 4, "b")], [Span(0, 1, "a")], []]
    assert entity_scores(gold, guess) == {
        "f1": pytest.approx(2 / 3),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1_macro": pytest.approx(0.5),
        "exact_match": pytest.approx(2 / 3),
    }


# ---- the whole ----


def test_packed_is_alone(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    rows = [*WORDS, {"tokens": ["films", "was", "red"] * 20, "tags": ["O", "O", "B-thing"] * 20}]
    task = make(text)
    model = of(task, make_encoder("modern"))
    examples = [one(task, row) for row in rows]
    together, _ = model(task, collate(examples, 64))
    alone = [model(task, collate([example]))[0]["logits"] for example in examples]
    torch.testing.assert_close(together["logits"], torch.cat(alone), atol=1e-5, rtol=1e-5)
    answers = list(model.answers(task, examples))
    for example, answer in zip(examples, answers, strict=True):
        (single,) = model.answers(task, [example])
        assert single.tags == answer.tags
        assert single.loss == pytest.approx(answer.loss, rel=1e-4)


def test_answers_say_where_and_how_sure(
    text: TextInput, make_encoder: Callable[..., Encoder], tmp_path: Path
) -> None:
    task = make(text, head={"activation": "gelu"})
    model = of(task, make_encoder())
    with torch.no_grad():
        model.head("it").output.bias[0] = -9.0  # not everything is outside
    plain = ["the red dogs runs. what time", "cat"]
    answers = model.predict("it", plain)
    assert any(answer.entities for answer in answers)
    for sentence, answer in zip(plain, answers, strict=True):
        assert answer.tokens == text.encode(sentence).ids.size
        for entity in answer.entities:
            assert entity.text == sentence[entity.start : entity.end]
            assert answer.probability <= entity.probability <= 1
        spans = spans_of(answer.tags)
        assert [span.label for span in spans] == [e.label for e in answer.entities]
        for span, entity in zip(spans, answer.entities, strict=True):
            assert "".join(answer.words[span.start : span.end]) == entity.text.replace(" ", "")
        assert answer.columns()["entities"] == [vars(e) for e in answer.entities]
    words = model.predict("it", [{"tokens": ["the", "red", "dogs", "runs", ".", "what", "time"]}])
    assert words[0].tags == answers[0].tags  # the same tokens, whoever found the words
    bundle.save(model, tmp_path / "b")
    assert unmask.load(tmp_path / "b").predict("it", plain) == answers


def test_it_learns_from_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, verbs = ["ann", "bob", "eve kim", "joe lee ray"], ["sees", "calls", "knows"]
    lines = []
    for i in range(36):
        a, b = names[i % 4], names[(i * 3 + 1) % 4]
        for name in (a, b):
            for k, word in enumerate(name.split()):
                lines.append(f"{word}\t{'BI'[k > 0]}-person")
            lines.append(f"{verbs[i % 3]}\tO" if name is a else ".\tO")
        lines.append("")
    (tmp_path / "a.conll").write_text("\n".join(lines), "utf-8")
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 100, "min_frequency": 1}},
        "tasks": {
            "who": {
                "kind": "tag",
                "train": str(tmp_path / "a.conll"),
                "input": "tokens",
                "valid": 0.2,
            }
        },
        "train": {"steps": 40, "batch_tokens": 200, "learning_rate": 3e-3, "evaluate_every": 40},
    }
    trained = unmask.train(recipe, tmp_path / "run")
    scores = {s.metric: s.value for s in trained.scores}
    assert scores["f1"] > 0.9
    (answer,) = unmask.load(trained.bundle).predict("who", ["eve kim calls bob."])
    assert [(e.label, e.text) for e in answer.entities] == [
        ("person", "eve kim"),
        ("person", "bob"),
    ]
    assert unmask.evaluate(trained.bundle)["scores"] == [s.record() for s in trained.scores]
    worst = unmask.evaluate(trained.bundle, errors=1)["worst"][0]
    assert worst["input"].endswith(" .")  # the words as a text
    assert "person: " in worst["truth"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    from unmask.cli.rehearsal import print_rehearsal
    from unmask.training.rehearse import rehearse

    print_rehearsal(rehearse(tmp_path / "r.yaml"))
    shown = capsys.readouterr().out
    assert "task who (tag)" in shown
    assert "truth: person: " in shown
