"""What the kinds `transcribe`, `reconstruct` and `match` promise of their own."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import unmask
from unmask.batch import Example, collate
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.image import ImageInput
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.recipe import AudioOptions, ImageOptions, Inputs, TrainOptions
from unmask.tasks import Draw, Task, row_rng
from unmask.tasks.match import Match, MatchOptions
from unmask.tasks.reconstruct import Reconstruct, ReconstructOptions, hide
from unmask.tasks.transcribe import Transcribe, TranscribeOptions, TranscriptAnswer
from unmask.training.processes import Processes
from unmask.training.share import Microbatch
from unmask.training.update import accumulate

AUDIO = AudioOptions(rate=8000, mels=8, frames=2, seconds=1)
IMAGE = ImageOptions(size=8, patch=2, channels=1)


def wave(seed: int, seconds: float = 0.4) -> bytes:
    """Noise, as a WAV."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(8000 * seconds))
    soundfile.write(buffer, noise, 8000, format="WAV")
    return buffer.getvalue()


def picture(seed: int, shape: tuple[int, int] = (8, 8)) -> bytes:
    """Grey noise, as a PNG."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def model_of(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> Callable[[Task[Any, Any]], Model]:
    """A function that gives a task a tiny model that reads everything."""

    def make(task: Task[Any, Any]) -> Model:
        encoder = make_encoder(audio=AUDIO, image=IMAGE)
        return Model(encoder, text, {task.name: task}, {task.name: task.build(encoder)})

    return make


def draw(row: int = 0, **changes: Any) -> Draw:
    """The randomness of a row."""
    return Draw(row_rng(0, "it", 0, row), **changes)


# ---- transcribe ----


def transcribe(text: TextInput, rows: list[dict[str, Any]], **options: Any) -> Transcribe:
    chosen = TranscribeOptions(**options)
    return Transcribe("it", chosen, text, Transcribe.study("it", chosen, rows))


def test_the_alphabet_is_that_of_the_training_rows(
    text: TextInput, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": "b  a\n"}, {"text": "ab"}, {"text": ""}, {"text": 7}]
    assert transcribe(text, rows).facts == {"alphabet": [" ", "7", "a", "b"]}
    task = transcribe(text, rows, units="word")
    assert task.facts == {"alphabet": ["7", "a", "ab", "b"]}
    with caplog.at_level("WARNING"):
        task.check([{"text": "a c"}], "test")
    assert "1 word(s) that no training row has, such as 'c'" in caplog.text
    with pytest.raises(UserError, match="test row 1: task it: column 'text' holds None and no tex"):
        task.check([{"text": None}], "test")
    with pytest.raises(UserError, match="have no text in column 'text'"):
        transcribe(text, [{"text": " "}])
    with pytest.raises(ValueError, match="recording's column alone"):
        TranscribeOptions(input="text")


def test_what_cannot_be_said_in_the_time_is_not_learnt_from(
    text: TextInput, model_of: Callable[..., Model]
) -> None:
    rows = [{"audio": wave(0, 0.1), "text": "a" * 9}, {"audio": wave(0, 0.1), "text": "ab"}]
    task = transcribe(text, rows)
    model = model_of(task)
    assert task.examples(rows[0], draw()) == []
    (short,) = task.examples(rows[0], draw(learn=False))
    (fits,) = task.examples(rows[1], draw())
    batch = collate([short, fits])
    outputs, batch = model(task, batch)
    loss = task.loss(outputs, batch)
    alone = task.loss(*model(task, collate([fits])))
    torch.testing.assert_close(loss, alone)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    answers = task.answers({k: v.detach() for k, v in outputs.items()}, batch, [short, fits])
    assert task.surprise(answers[0], rows[0]) == pytest.approx(27.6 * 9)


def test_a_beam_is_no_less_likely_and_a_cut_is_said(
    text: TextInput, model_of: Callable[..., Model]
) -> None:
    rows = [{"audio": wave(i, s), "text": "abc"} for i, s in enumerate((0.3, 0.5, 1.5))]
    task = transcribe(text, rows)
    model = model_of(task)
    plain = model.predict("it", rows)
    wide = model.predict("it", rows, beam=20)
    for one, other in zip(plain, wide, strict=True):
        assert other.log_probability >= one.log_probability - 1e-6
        chances = [p for _, p in other.others]
        assert chances == sorted(chances, reverse=True)
    assert [answer.cut for answer in plain] == [False, False, True]
    assert plain[2].columns()["cut"] is True
    assert plain[2].dropped == 25 + 49 - 31  # half a second unread, and what had no room
    assert model.predict("it", [row["audio"] for row in rows]) == plain
    with pytest.raises(UserError, match=r"row 1: task it: column 'audio': .*cut short"):
        model.predict("it", [{"audio": wave(0)[:500]}])


def test_error_rates_are_those_of_the_reference_over_all_rows(text: TextInput) -> None:
    truths = ["the cat sleeps", "", "one two", "dog"]
    texts = ["the cat", "red", "one two", "a dog runs"]
    rows = [{"text": truth} for truth in truths]
    task = transcribe(text, rows)
    answers = [TranscriptAnswer(tokens=1, dropped=0, text=t, log_probability=0.0) for t in texts]
    scores = task.score(answers, rows)
    assert scores["wer"] == pytest.approx(jiwer.wer(truths, texts))
    assert scores["cer"] == pytest.approx(jiwer.cer(truths, texts))
    assert scores["exact_match"] == 0.25
    assert scores["word_accuracy"] == pytest.approx(1 - scores["wer"])


# ---- reconstruct ----


@given(st.integers(1, 60), st.integers(1, 8), st.floats(0.01, 0.99), st.integers(0, 99))
def test_hidden_places_are_as_many_as_said_and_in_whole_pieces(
    n: int, size: int, rate: float, seed: int
) -> None:
    unit = np.arange(n) // size
    found = hide(unit, rate, np.random.default_rng(seed))
    assert len(found) == min(max(1, round(rate * n)), max(1, n - 1))
    assert len(set(found.tolist())) == len(found)
    inside = np.bincount(unit[found], minlength=unit.max() + 1)
    whole = np.bincount(unit)
    assert ((inside > 0) & (inside < whole)).sum() <= 1


def test_what_is_hidden_is_zero_and_its_truth_is_what_stood_there(
    text: TextInput, model_of: Callable[..., Model]
) -> None:
    options = ReconstructOptions(
        input=Inputs(text="text", image="image", audio="audio"), rate=0.5, block=2, span=3
    )
    task = Reconstruct("it", options, text)
    model = model_of(task)
    row = {"text": "the cat", "image": picture(0), "audio": wave(0)}
    (example,) = task.examples(row, draw())
    plain = task.sequence(row, draw(learn=False))
    values = {s.modality: s.values for s in plain.segments}
    hidden = {s.modality: s.values for s in example.sequences[0].segments}
    np.testing.assert_array_equal(values["text"], hidden["text"])
    for name in ("image", "audio"):
        gone = ~hidden[name].any(1)
        assert gone.sum() == round(0.5 * len(gone))
        np.testing.assert_array_equal(hidden[name][~gone], values[name][~gone])
        np.testing.assert_array_equal(values[name][gone], example.truth[name])
    assert task.targets(collate([example])) == len(example.wanted[0])
    (answer,) = model.answers(task, [example])
    for name in ("image", "audio"):
        gone = ~hidden[name].any(1)
        np.testing.assert_array_equal(answer.values[name][~gone], values[name][~gone])
        assert (answer.values[name][gone] != 0).any()
    (only,) = task.examples({"audio": row["audio"]}, draw())  # a row may lack some of it
    loss = task.loss(*model(task, collate([example, only])))
    apart = sum(task.loss(*model(task, collate([one]))) for one in (example, only))
    torch.testing.assert_close(loss, apart)
    assert task.examples({"text": "the cat"}, draw()) == []
    with pytest.raises(UserError, match="nothing to guess"):
        model.predict("it", [{"text": "the cat"}])


def test_blocks_and_spans_lie_where_chance_puts_them(text: TextInput) -> None:
    options = ReconstructOptions(input=Inputs(image="image"), rate=0.25, block=4)
    task = Reconstruct("it", options, text)
    text.beside["image"] = ImageInput(IMAGE)
    found = set()
    for seed in range(20):
        (example,) = task.examples({"image": picture(0)}, draw(seed))
        found.add(tuple(example.wanted[0].tolist()))
    assert len(found) > 5


def test_guessing_right_explains_all_and_the_mean_nothing(
    text: TextInput, model_of: Callable[..., Model]
) -> None:
    task = Reconstruct("it", ReconstructOptions(input=Inputs(audio="audio")), text)
    model = model_of(task)
    rows = [{"audio": wave(i)} for i in range(3)]
    examples = [next(iter(task.examples(row, draw(i)))) for i, row in enumerate(rows)]
    batch = collate(examples)
    truth = batch.truth["audio"]
    right = task.answers({"audio": truth}, batch, examples)
    assert task.score(right, rows) == {"explained": 1.0, "mae": 0.0}
    assert float(task.loss({"audio": truth}, batch)) == 0
    mean = truth.mean().expand_as(truth)
    assert task.score(task.answers({"audio": mean}, batch, examples), rows)["explained"] < 1e-4
    assert model is not None


# ---- match ----

VIEWS = Inputs(text="names", image="image", audio="audio")
THINGS = [
    {
        "names": {"en": "the cat", "de": "red", "fr": None},
        "image": picture(0),
        "audio": wave(0),
        "thing": 0,
    },
    {"names": {"en": "the dog"}, "image": picture(1), "audio": None, "thing": 1},
    {"names": [{"language": "de", "text": "blue"}], "image": None, "audio": wave(2), "thing": 2},
    {"names": {"en": "one", "de": "two"}, "image": None, "audio": None, "thing": 3},
    {"names": {"en": "the cat"}, "image": picture(4), "audio": wave(4), "thing": 0},
    {"names": {}, "image": picture(5), "audio": None, "thing": 5},  # alone: nothing to match
]


def match(text: TextInput, **options: Any) -> Match:
    chosen = MatchOptions(**{"input": VIEWS, **options})
    return Match("it", chosen, text, Match.study("it", chosen, THINGS))


def test_views_are_drawn_one_of_each_side(text: TextInput, model_of: Callable[..., Model]) -> None:
    task = match(text)
    model_of(task)
    assert task.facts == {"languages": ["de", "en"]}
    seen = set()
    for seed in range(30):
        (example,) = task.examples(THINGS[0], draw(seed))
        seen.add(tuple(example.notes))
    assert seen == {("en", "image", "audio"), ("de", "image", "audio")}
    (example,) = task.examples(THINGS[3], draw())
    assert list(example.notes) == ["en", "de"]  # nothing else: two languages
    (example,) = task.examples(THINGS[0], draw(learn=False))
    assert list(example.notes) == ["en", "de", "image", "audio"]
    assert task.examples(THINGS[5], draw()) == []


@pytest.mark.parametrize("same", [None, "thing"])
def test_the_loss_is_that_of_each_pair_of_sides_by_hand(
    text: TextInput, model_of: Callable[..., Model], same: str | None
) -> None:
    task = match(text, same=same, temperature=0.2)
    model = model_of(task)
    rows = [row for row in THINGS if row["thing"] != 5]
    examples = [next(iter(task.examples(row, draw(i)))) for i, row in enumerate(rows)]
    outputs, batch = model(task, collate(examples))
    found = task.loss(outputs, batch)
    vectors = iter(outputs["vector"])
    views = []  # of each example: seat -> (vector, content)
    for example in examples:
        keys, seats = example.truth["same"], example.truth["seat"]
        views.append({int(s): (next(vectors), int(k)) for s, k in zip(seats, keys, strict=True)})
    expected = torch.zeros(())
    for i, own in enumerate(views):
        pairs = list(itertools.combinations(own, 2))
        for a, b in pairs:
            for x, y in ((a, b), (b, a)):
                scores = []
                for j, other in enumerate(views):
                    if x not in other or y not in other:
                        continue
                    alike = any(own[k][1] == other[k][1] for k in (x, y))
                    alike |= same is not None and rows[i]["thing"] == rows[j]["thing"]
                    if i == j or not alike:
                        scores.append(own[x][0] @ other[y][0] / 0.2)
                right = own[x][0] @ own[y][0] / 0.2
                expected = expected + (torch.stack(scores).logsumexp(0) - right) / 2 / len(pairs)
    torch.testing.assert_close(found, expected)


def test_many_microbatches_are_one_update(text: TextInput, model_of: Callable[..., Model]) -> None:
    """The gradient cache hands on what one large batch would give, rows without a view too."""
    task = match(text, same="thing")
    model = model_of(task)
    own = [e for i, row in enumerate(THINGS) for e in task.examples(row, draw(i))]
    assert {len(example.sequences) for example in own} == {2, 3}

    def gradients(cuts: list[list[Example]]) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        pieces = [Microbatch("it", cut) for cut in cuts]
        loss = accumulate(model, pieces, {"it": 1.0}, Processes(), TrainOptions())
        return loss["it"], {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    whole, expected = gradients([own])
    cut, found = gradients([own[:1], own[1:3], own[3:]])
    assert cut == pytest.approx(whole)
    assert any(name.startswith("encoder.embeddings.stems.audio") for name in expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_recall_is_what_looking_shows(text: TextInput, model_of: Callable[..., Model]) -> None:
    """Against ranks counted one by one, by side and by language."""
    rows = [
        {"names": {"en": f"the {w}", "de": f"red {w}"}, "image": picture(i), "audio": wave(i)}
        for i, w in enumerate(["cat", "dog", "film", "world", "time", "one"])
    ]
    task = match(text)
    model = model_of(task)
    answers = model.predict("it", rows)
    scores = task.score(answers, rows)

    def recall(a: str, b: str, depth: int) -> float:
        hits = 0
        for answer in answers:
            own = answer.vectors[a] @ answer.vectors[b]
            better = sum(
                float(answer.vectors[a] @ other.vectors[b]) >= own
                for other in answers
                if other is not answer
            )
            hits += better < depth
        return hits / len(answers)

    for depth in (1, 5, 10):
        for a, b in itertools.permutations(["image", "audio"], 2):
            assert scores[f"{a}_to_{b}_recall_at_{depth}"] == pytest.approx(recall(a, b, depth))
        for language in ("en", "de"):
            name = f"{language}_to_image_recall_at_{depth}"
            assert scores[name] == pytest.approx(recall(language, "image", depth))
        both = [recall(language, "audio", depth) for language in ("en", "de")]
        assert scores[f"text_to_audio_recall_at_{depth}"] == pytest.approx(np.mean(both))
    assert scores["image_to_text_recall_at_10"] == 1
    assert "en_to_text_recall_at_1" not in scores


def test_languages_alone_are_matched_with_each_other(
    text: TextInput, model_of: Callable[..., Model]
) -> None:
    rows = [{"names": {"en": w, "de": f"the {w}", "fr": f"{w} red"}} for w in ("cat", "dog")]
    options = MatchOptions(input=Inputs(text="names"))
    task = Match("it", options, text, Match.study("it", options, rows))
    model = model_of(task)
    scores = task.score(model.predict("it", rows), rows)
    assert {"recall_at_1", "en_to_text_recall_at_1", "text_to_fr_recall_at_1"} <= scores.keys()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"names": 7, "image": picture(0)}, "column 'names' holds '7' and no text"),
        ({"names": {"en": 3}, "image": picture(0)}, "holds .* and no text; give a text, {lang"),
        ({"names": None, "image": None, "audio": None}, "nothing stands in names, image, audio"),
        ({"names": "a", "image": b"x"}, "column 'image': no picture that can be read"),
    ],
)
def test_rows_that_cannot_be_matched(
    text: TextInput, model_of: Callable[..., Model], row: dict[str, Any], said: str
) -> None:
    task = match(text)
    model = model_of(task)
    with pytest.raises(UserError, match=f"row 1: task it: .*{said}|row 1: task it: {said}"):
        model.predict("it", [row])
    with pytest.raises(UserError, match="0 of the training rows have two views"):
        Match.study("it", task.options, [THINGS[5]])
    with pytest.raises(ValueError, match="there must be two columns"):
        MatchOptions(input=Inputs(image="image"))


# ---- from a recipe to a model ----


def test_three_modalities_are_trained_together_saved_and_scored(tmp_path: Path) -> None:
    """One recipe with all three kinds; what is loaded again answers the same."""
    names = ["cat", "dog", "film", "world", "time", "one", "two", "red"] * 3
    rows = [
        {
            "names": {"en": f"the {w}", "de": f"{w} {w}"},
            "image": picture(i % 8),
            "audio": wave(i % 8),
            "text": w,
        }
        for i, w in enumerate(names)
    ]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    shared = {"train": str(path), "valid": 0.25}
    recipe = {
        "encoder": {
            "shape": "tiny",
            "tokenizer": {"vocab_size": 120, "min_frequency": 1},
            "image": IMAGE.model_dump(),
            "audio": AUDIO.model_dump(),
        },
        "tasks": {
            "space": {"kind": "match", "input": VIEWS.model_dump(), **shared},
            "said": {"kind": "transcribe", **shared},
            "again": {"kind": "reconstruct", "input": {"image": "image"}, **shared},
        },
        "train": {"steps": 3, "batch_tokens": 400},
    }
    run = unmask.train(recipe, tmp_path / "run")
    assert run is not None
    model = unmask.load(str(tmp_path / "run" / "bundle"))
    first, second = model.predict("space", rows[:2]), model.predict("space", rows[:2])
    for a, b in zip(first, second, strict=True):
        for name, vector in a.vectors.items():
            assert math.isclose(float(vector @ vector), 1, abs_tol=1e-4)
            np.testing.assert_allclose(vector, b.vectors[name], atol=1e-6)
    assert model.predict("said", rows[:1])[0].text is not None
    assert model.text.encode("cat").dropped == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_two_sides_are_plain_info_nce(seed: int) -> None:
    """With two views each it is CLIP's loss."""
    rng = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(8, 5, generator=rng), dim=-1)
    truth = {
        "size": torch.full((4,), 2),
        "seat": torch.tensor([0, 1] * 4),
        "same": torch.arange(8),
        "kin": torch.arange(8),
    }
    task = object.__new__(Match)
    task.options = MatchOptions(input=VIEWS, temperature=0.1)
    scores = vectors[::2] @ vectors[1::2].T / 0.1
    own = torch.arange(4)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2 * 4
    torch.testing.assert_close(task.contrast({"vector": vectors}, truth), expected)
