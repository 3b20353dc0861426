"""Translation language modelling: two languages of one row, or of rows that share an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unmask
from unmask import recipe
from unmask.batch import Example
from unmask.data.splits import split_rows
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.evaluation.scores import judge
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import OPTIONS, Draw, row_rng, translations
from unmask.tasks.mlm import Mlm, MlmOptions
from unmask.training.stream import Stream

LANGUAGES = {"en": "the cat sleeps and runs", "de": "red green blue", "cs": "one two three one"}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def make(text: TextInput, **options: Any) -> Mlm:
    return Mlm("it", MlmOptions(**options), text)


def wide(text: TextInput, **options: Any) -> Mlm:
    return make(text, input=[*LANGUAGES], translations=True, **options)


def joined(text: TextInput, **options: Any) -> Mlm:
    return make(text, translations="id", **options)


def read(task: Mlm, example: Example) -> list[str]:
    """The texts of a sequence before anything was hidden."""
    ids = example.sequences[0].segments[0].values.copy()
    ids[example.wanted[0]] = example.truth["token"]
    tokens = [task.text.tokenizer.id_to_token(i) for i in ids.tolist()]
    assert tokens[0] == "[CLS]"
    return " ".join(tokens[1:-1]).split(" [SEP] ")


def side_hidden(example: Example) -> set[int]:
    """Which sides of the pair hold hidden tokens."""
    kinds = example.sequences[0].segments[0].kind
    assert kinds is not None
    return set(kinds[example.wanted[0]].tolist())


def same(a: Example, b: Example) -> None:
    for one, other in zip(a.sequences[0].segments, b.sequences[0].segments, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(a.wanted[0], b.wanted[0])


ROWS = [
    {"id": "a", "language": "en", "text": "the cat sleeps"},
    {"id": "b", "language": "en", "text": "one film"},
    {"id": "a", "language": "de", "text": "red green blue"},
    {"id": "c", "language": "de", "text": "hello world"},
    {"id": "a", "language": "cs", "text": "one two three"},
    {"id": None, "language": "cs", "text": "what time"},
    {"id": "b", "language": "de", "text": "one film"},  # never translated
    {"id": "c", "language": "cs", "text": "  "},
    {"id": None, "language": "de", "text": "who are you"},
]


# ---- the languages of one row ----


def test_two_of_a_rows_languages_in_an_order_of_chance(text: TextInput) -> None:
    task, seen, hidden = wide(text), Counter[tuple[str, ...]](), Counter[int]()
    for seed in range(600):
        (example,) = task.examples(LANGUAGES, Draw(rng(seed)))
        seen[tuple(read(task, example))] += 1
        hidden.update(side_hidden(example))
        length = example.sequences[0].length
        assert len(example.wanted[0]) == round(0.3 * (length - 3))
    assert set(seen) == set(permutations(LANGUAGES.values(), 2))
    assert min(seen.values()) > 60  # of 100 expected
    assert min(hidden[0], hidden[1]) > 400


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 99),
    rate=st.floats(0.05, 0.8),
    masking=st.sampled_from(["token", "word", "span"]),
    missing=st.sets(st.sampled_from([*LANGUAGES]), max_size=2),
)
def test_what_may_be_hidden(
    text: TextInput, seed: int, rate: float, masking: str, missing: set[str]
) -> None:
    task = wide(text, rate=rate, masking=masking)
    row = {k: (None if k in missing else v) for k, v in LANGUAGES.items()}
    (example,) = task.examples(row, Draw(rng(seed)))
    (again,) = task.examples(row, Draw(rng(seed)))
    same(example, again)
    texts, (places,) = read(task, example), example.wanted
    assert len(texts) == min(2, 3 - len(missing))
    assert len(set(texts)) == len(texts)
    assert set(texts) <= {v for v in row.values() if v}
    encoded = text.encode(texts[0], texts[1] if len(texts) > 1 else None)
    ids = example.sequences[0].segments[0].values
    assert not encoded.special[places].any()
    assert (ids[places] == text.mask_id).all()
    others = np.delete(np.arange(len(ids)), places)
    np.testing.assert_array_equal(ids[others], encoded.ids[others])
    np.testing.assert_array_equal(example.truth["token"], encoded.ids[places])


@pytest.mark.parametrize("lost", [None, "", " \n", LANGUAGES["en"]])
def test_a_language_that_is_not_there_leaves_the_other(text: TextInput, lost: str | None) -> None:
    task = make(text, input=["en", "de"], translations=True)
    for row in ({"en": LANGUAGES["en"], "de": lost}, {"de": LANGUAGES["en"], "en": lost}):
        (example,) = task.examples(row, Draw(rng()))
        assert read(task, example) == [LANGUAGES["en"]]
    long = {"en": "the cat was good " * 30, "de": lost if not lost else "the cat was good " * 30}
    found = list(task.examples(long, Draw(rng())))  # alone, none of its tokens is lost
    assert sum(example.length - 2 for example in found) == 120


def test_a_row_without_any_language_gives_nothing(text: TextInput) -> None:
    assert list(wide(text).examples({"en": None, "de": "", "cs": None}, Draw(rng()))) == []


def test_a_long_pair_is_cut_and_it_is_said(text: TextInput) -> None:
    task = make(text, input=["en", "de"], translations=True)
    row = {"en": "the cat " * 40, "de": "red green " * 40}
    (example,) = task.examples(row, Draw(rng()))
    assert (example.length, example.sequences[0].dropped) == (32, 160 - 29)


def test_prediction_reads_what_it_is_given(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task, encoder = wide(text), make_encoder()
    torch.manual_seed(1)
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    alone = model.fill("the [MASK] sleeps")
    assert len(alone.guesses) == 1
    assert alone == model.predict("it", [{"en": None, "de": "the [MASK] sleeps", "cs": ""}])[0]
    pair = model.predict("it", [("the [MASK] sleeps", "red green")])[0]
    assert pair.tokens == 3 + 3 + 2
    assert pair == model.predict("it", [("the [MASK] sleeps", "red green", "one two")])[0]
    assert model.predict("it", [{"en": None}])[0].guesses == ()
    with pytest.raises(UserError, match=r"reads 3 text\(s\), not 4"):
        model.predict("it", [("a", "a", "a", "a")])


# ---- rows that share an id ----


def test_rows_are_joined_by_their_id(text: TextInput) -> None:
    task, seen = joined(text), Counter[tuple[str, ...]]()
    for seed in range(400):
        (example,) = task.examples(ROWS[0], Draw(rng(seed), others=ROWS))
        seen[tuple(read(task, example))] += 1
    own, *others = (row["text"] for row in ROWS if row["id"] == "a")
    assert set(seen) == {(own, x) for x in others} | {(x, own) for x in others}
    assert min(seen.values()) > 60  # of 100 expected


@pytest.mark.parametrize("row", [1, 3, 5, 6, 8])
def test_a_row_without_a_translation_is_read_alone(text: TextInput, row: int) -> None:
    """Another row has its text, or none, or neither has an id; or there are no other rows."""
    task = joined(text)
    (example,) = task.examples(ROWS[row], Draw(rng(), others=ROWS))
    (alone,) = task.examples(ROWS[0], Draw(rng()))
    assert read(task, example) == [ROWS[row]["text"]]
    assert read(task, alone) == [ROWS[0]["text"]]


def test_other_rows_change_nothing(text: TextInput, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rows of other ids, wherever they stand, nor ids whose hashes are the same."""
    more = [{"id": i, "text": f"{word} film"} for i, word in enumerate(["red", "one", "the"] * 9)]
    expected = [list(joined(text).examples(ROWS[0], Draw(rng(i), others=ROWS))) for i in range(20)]
    mixed = [row for pair in zip(more, ROWS, strict=False) for row in pair] + more
    for i, (example,) in enumerate(expected):
        (found,) = joined(text).examples(ROWS[0], Draw(rng(i), others=mixed))
        same(example, found)
    monkeypatch.setattr(translations, "_key", lambda value: np.uint64(1))
    task = joined(text)
    for i in range(20):
        (found,) = task.examples(ROWS[0], Draw(rng(i), others=mixed))
        texts = read(task, found)
        assert len(texts) == 2
        assert set(texts) <= {row["text"] for row in ROWS if row["id"] == "a"}


def test_numbers_join_too_and_are_no_texts(text: TextInput) -> None:
    rows = [{"id": 1, "text": "red"}, {"id": "1", "text": "green"}, {"id": 1, "text": "blue"}]
    task = joined(text)
    (example,) = task.examples(rows[0], Draw(rng(), others=rows))
    assert set(read(task, example)) == {"red", "blue"}


def test_a_stream_goes_on_as_if_never_stopped(text: TextInput) -> None:
    whole = Stream(joined(text), ROWS, seed=3)
    begun = Stream(joined(text), ROWS, seed=3)
    truth = [e for _ in range(12) for e in whole.take(20).examples]
    found: list[Example] = []
    for _ in range(12):
        found += begun.take(20).examples
        place, begun = begun.state(), Stream(joined(text), ROWS, seed=3)
        begun.load(place)
    assert len(truth) > 2 * len(ROWS)
    for a, b in zip(truth, found, strict=True):
        same(a, b)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for each language, whose rows share ids."""
    words = ["cat", "dog", "film", "world"]
    for language, first in (("en", "the"), ("de", "red"), ("pt_BR", "one")):
        lines = [f"{i},{first} {words[i % 4]} {words[i % 3]}\n" for i in range(40)]
        (tmp_path / f"{language}.csv").write_text("id,text\n" + "".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_held_out_rows_are_with_their_translations(folder: Path) -> None:
    options = MlmOptions(train="{language}.csv", valid=0.2, translations="id")  # type: ignore[arg-type]
    splits = split_rows("it", options, 0)
    assert splits.train is not None
    assert splits.valid is not None
    ids = [{row["id"] for row in rows} for rows in (splits.train, splits.valid)]
    assert not ids[0] & ids[1]
    assert (len(splits.train), len(splits.valid)) == (96, 24)
    own = options.model_copy(update={"group": "language"})
    assert own.held_by == ("language",)


def test_scoring_draws_the_same_each_time(
    folder: Path, text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    rows = split_rows("it", MlmOptions(train="{language}.csv", valid=0.2), 0).valid  # type: ignore[arg-type]
    assert rows is not None
    found = []
    for _ in range(2):
        task, encoder = joined(text), make_encoder()
        torch.manual_seed(1)
        model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
        found.append([one.answers for one in judge(model, [(task, rows)])[0]])
    assert found[0] == found[1]
    examples = [
        next(iter(task.examples(row, Draw(row_rng(1, "it", 0, i), others=rows))))
        for i, row in enumerate(rows)
    ]
    assert sum(len(read(task, example)) == 2 for example in examples) > len(rows) / 2


@pytest.mark.parametrize("how", ["joined", "wide"])
def test_from_a_recipe_to_a_bundle(folder: Path, how: str) -> None:
    task: dict[str, Any] = {"kind": "mlm", "train": "{language}.csv", "translations": "id"}
    if how == "wide":
        lines = [f"the cat {i},red dog {i},{'one two' if i % 2 else ''}\n" for i in range(40)]
        Path("wide.csv").write_text("en,de,cs\n" + "".join(lines))
        task |= {"train": "wide.csv", "input": ["en", "de", "cs"], "translations": True}
    trained = unmask.train(
        {
            "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 100, "min_frequency": 1}},
            "tasks": {"it": task},
            "train": {"steps": 2, "batch_tokens": 128},
        },
        folder / "run",
    )
    model = unmask.load(trained.bundle)
    assert model.task("it").options.translations == task["translations"]
    assert len(model.fill("the [MASK]").guesses) == 1
    assert {score.metric for score in trained.scores} >= {"accuracy", "loss"}


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"translations": True}, "is for two input columns or more"),
        ({"translations": "id", "input": ["en", "de"]}, "joins rows of one input column"),
        ({"input": ["en", "de", "cs"]}, "name 1 column or 2 for a pair, not 3"),
        ({"input": [], "translations": True}, "name 1 column or 2 for a pair, not 0"),
        ({"translations": 3}, "translations"),
    ],
)
def test_what_contradicts_itself_is_one_line(options: dict[str, Any], said: str) -> None:
    data = {
        "encoder": {"shape": "tiny"},
        "tasks": {"it": {"kind": "mlm", "train": "x.csv", **options}},
    }
    with pytest.raises(UserError, match=said) as error:
        recipe.parse(data, OPTIONS)
    assert "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_named(folder: Path) -> None:
    options = MlmOptions(train="en.csv", translations="ids")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has no column 'ids'; did you mean 'id'"):
        split_rows("it", options, 0)
