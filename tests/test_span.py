"""Question answering: windows, gold answers, the shared softmax, scores, and a whole run."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import unmask
from unmask import bundle
from unmask.batch import collate
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import Draw, row_rng
from unmask.tasks.candidates import best_pairs
from unmask.tasks.gold import Gold, read_gold
from unmask.tasks.overlap import exact, f1, units
from unmask.tasks.span import Span, SpanOptions
from unmask.tasks.windows import best_threshold, draw_windows, grouped_logsumexp

CONTEXT = "the cat sleeps and the dog runs. " * 6
ROW = {"question": "who runs?", "context": CONTEXT, "answers": [{"text": "dog", "start": 23}]}
SILENT = {**ROW, "answers": []}


def seen(row: int = 0, **options: Any) -> Draw:
    return Draw(row_rng(0, "qa", 0, row), **options)


@pytest.fixture
def make(text: TextInput, make_encoder: Callable[..., Encoder]) -> Callable[..., Model]:
    """A function that makes a model with a task `qa` of these options, its weights random."""

    def build(**options: Any) -> Model:
        task = Span("qa", SpanOptions(max_length=20, overlap=4, **options), text)
        encoder = make_encoder()
        head = task.build(encoder)
        for weight in head.parameters():
            torch.nn.init.normal_(weight)
        return Model(encoder, text, {"qa": task}, {"qa": head})

    return build


def task_of(model: Model) -> Span:
    task = model.task("qa")
    assert isinstance(task, Span)
    return task


@pytest.mark.parametrize("no_answer", [False, True])
def test_an_answer_does_not_hang_on_its_neighbours(
    make: Callable[..., Model], no_answer: bool
) -> None:
    model = make(no_answer=no_answer)
    rows = [
        {"question": "who " * (i % 5), "context": " ".join(CONTEXT.split()[i : 5 * i + 3])}
        for i in range(9)
    ]
    together = model.predict("qa", rows, top=3)
    backwards = model.predict("qa", rows[::-1], top=3)[::-1]
    for row, one, other in zip(rows, together, backwards, strict=True):
        (alone,) = model.predict("qa", [row], top=3)
        for answer in (one, other):
            assert [c.text for c in answer.candidates] == [c.text for c in alone.candidates]
            for a, b in zip(answer.candidates, alone.candidates, strict=True):
                assert (a.start, a.end) == (b.start, b.end)
                assert a.score == pytest.approx(b.score, abs=1e-4)
                assert a.probability == pytest.approx(b.probability, abs=1e-5)
            assert (answer.tokens, answer.dropped) == (alone.tokens, alone.dropped)
        assert all(c.text == row["context"][c.start : c.end] for c in alone.candidates)
        assert len({(c.start, c.end) for c in alone.candidates}) == len(alone.candidates) == 3
    assert len(set(together[8].candidates)) == 3


def test_all_windows_are_one_softmax(make: Callable[..., Model]) -> None:
    """The loss is that of log-softmax over the whole group; so is its gradient."""
    model = make(no_answer=True)
    task = task_of(model)
    twice = {**ROW, "answers": [*ROW["answers"], {"text": "cat sleeps", "start": 4}]}
    examples = [e for row in (twice, SILENT) for e in task.examples(row, seen())]
    assert [len(e.sequences) for e in examples] == [5, 5]
    batch = collate(examples, 64)
    outputs, batch = model(task, batch)
    logits = outputs["logits"].detach().requires_grad_()
    loss = task.loss({"logits": logits}, batch)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected, at = [], 0
    for example in examples:
        n = sum(map(len, example.wanted))
        p = logits[at : at + n].detach().softmax(0)  # (n, 2)
        gold = torch.from_numpy(example.truth["gold"])
        share = torch.where(gold, p, 0.0)
        expected.append((p - share / share.sum(0)) / 2)
        at += n
    torch.testing.assert_close(gradient, torch.cat(expected))
    answers = task.answers({"logits": logits.detach()}, batch, examples)
    losses = [answer.loss for answer in answers if answer.loss is not None]
    assert sum(losses) == pytest.approx(loss.item(), rel=1e-5)
    assert task.targets(batch) == 2
    silent = answers[1]
    assert silent.null is not None
    assert silent.text == ("" if silent.null.score > silent.candidates[0].score else silent.text)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_grouped_logsumexp(seed: int, groups: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 50 * torch.randn(len(groups), 2, generator=generator, dtype=torch.float64)
    index = torch.tensor(groups)
    found = grouped_logsumexp(x, index, 4)
    for group in range(4):
        torch.testing.assert_close(found[group], x[index == group].logsumexp(0))
    present = sorted(set(groups))
    x.requires_grad_()
    torch.autograd.gradcheck(lambda x: grouped_logsumexp(x, index, 4)[present], (x,))


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(1, 4))
def test_best_pairs_looks_at_all(seed: int, n: int, longest: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(n, 2))
    every = [(i, j) for i in range(n) for j in range(i, min(i + longest, n))]
    every.sort(key=lambda pair: -(logits[pair[0], 0] + logits[pair[1], 1]))
    assert list(best_pairs(logits, longest)) == every


def test_gold_stands_in_every_window_that_holds_it_whole(make: Callable[..., Model]) -> None:
    task = task_of(make())
    words = [f"{w} {x}" for w in ("red", "green", "blue") for x in ("cat", "dog", "film", "time")]
    context = " ".join(words)
    for start in range(0, len(context), 5):
        for size in (1, 7, 30):
            text = context[start : start + size].strip()
            if not text:
                continue
            gold = {"text": text, "start": start}
            row = {"question": "who", "context": context, "answers": [gold]}
            begin, end = Gold(**gold).find(context) or (0, 0)
            (example,) = task.examples(row, seen())
            marks, at, whole = example.truth["gold"], 0, 0
            for offsets in example.notes.offsets:
                own = marks[at : at + len(offsets)]
                at += len(offsets)
                if own.any(0).all():
                    whole += 1
                    (first,), (last,) = np.flatnonzero(own[:, 0]), np.flatnonzero(own[:, 1])
                    assert offsets[first, 0] <= begin < offsets[first, 1]
                    assert offsets[last, 0] < end <= offsets[last, 1]
            covering = sum(o[0, 0] <= begin and o[-1, 1] >= end for o in example.notes.offsets)
            assert whole == covering
            assert marks.any(0).all()  # and where none holds it: each of its ends where it is


def test_where_there_is_no_answer_cls_is_gold(make: Callable[..., Model]) -> None:
    (example,) = task_of(make(no_answer=True)).examples(SILENT, seen())
    starts = np.cumsum([0, *map(len, example.wanted)])[:-1]
    assert [wanted[0] for wanted in example.wanted] == [0] * 5
    np.testing.assert_array_equal(np.flatnonzero(example.truth["gold"].all(1)), starts)
    assert example.truth["gold"].sum() == 10


def test_a_long_context_is_learnt_from_in_part_and_read_whole(make: Callable[..., Model]) -> None:
    model = make(windows=3)
    task = task_of(model)
    row = {**ROW, "context": CONTEXT * 20}
    drawn = []
    for epoch in range(8):
        (example,) = task.examples(row, Draw(row_rng(0, "qa", epoch, 0)))
        assert len(example.sequences) == 3
        assert example.truth["gold"].any(0).all()
        drawn.append(tuple(int(own[0, 0]) for own in example.notes.offsets))
    assert len(set(drawn)) > 4
    (whole,) = task.examples(row, seen(learn=False))
    assert len(whole.sequences) > 80
    covered = np.zeros(len(row["context"]), dtype=bool)
    for own in whole.notes.offsets:
        for begin, end in own:
            covered[begin:end] = True
    assert all(c in " " for c, there in zip(row["context"], covered, strict=True) if not there)


@given(
    st.lists(st.sampled_from([0, 1, 2, 3]), min_size=6, max_size=30).filter(
        lambda sides: any(s & 1 for s in sides) and any(s & 2 for s in sides)
    ),
    st.integers(2, 6),
)
def test_draws_of_windows_hold_a_gold_answer(sides: list[int], most: int) -> None:
    marks = [np.array([[False, False], [bool(s & 1), bool(s & 2)]]) for s in sides]
    drawn = draw_windows(marks, most, np.random.default_rng(0)).tolist()
    assert len(set(drawn)) == len(drawn) == most
    assert sorted(drawn) == drawn
    assert np.any([marks[i].any(0) for i in drawn], axis=0).all()
    assert sum(sides[i] == 3 for i in drawn) >= min(sides.count(3), (most + 1) // 2)


def test_an_answer_longer_than_the_overlap_is_learnt_from(make: Callable[..., Model]) -> None:
    model = make(windows=2)
    task = task_of(model)
    answer = {"text": CONTEXT[:150].strip(), "start": 0}
    examples = [
        example
        for epoch in range(6)
        for example in task.examples({**ROW, "answers": [answer]}, seen(epoch))
    ]
    assert len(examples) == 6
    outputs, batch = model(task, collate(examples))
    assert torch.isfinite(task.loss(outputs, batch))


def test_a_context_of_fifty_thousand_tokens(make: Callable[..., Model]) -> None:
    model = make(no_answer=True)
    context = "the cat sleeps and " * 12_500 + "the dog"
    answers = model.predict("qa", [{"question": "who?", "context": context}], top=2)
    assert answers[0].dropped == 0
    assert answers[0].tokens > 50_000
    assert context[answers[0].candidates[1].start :].startswith(answers[0].candidates[1].text)


def test_a_long_question_is_cut_and_counted(make: Callable[..., Model]) -> None:
    (answer,) = make().predict("qa", [("who runs " * 10, "the cat sleeps")])
    assert answer.dropped == 20 - 8
    assert answer.text in "the cat sleeps"


# ---- gold answers ----


@pytest.mark.parametrize(
    "value",
    [
        [{"text": "a", "start": 3}, {"text": "b", "start": 5}],
        [{"text": "a", "answer_start": 3}, {"text": "b", "answer_start": 5}],
        {"text": ["a", "b"], "answer_start": [3, 5]},
        {"text": ["a", "", "b"], "start": [3, 0, 5]},
    ],
)
def test_layouts_of_answers(value: Any) -> None:
    assert read_gold(value, "it") == (Gold("a", 3), Gold("b", 5))


@pytest.mark.parametrize("value", [None, [], {"text": [], "answer_start": []}, {}])
def test_layouts_of_no_answer(value: Any) -> None:
    assert read_gold(value, "it") == ()


@pytest.mark.parametrize(
    "value",
    ["dog", ["dog"], [{"text": "a"}], [{"text": 1, "start": 1}], {"text": ["a"], "start": []}, 7],
)
def test_what_is_no_answer_is_said(value: Any) -> None:
    with pytest.raises(UserError, match=r"it holds .* and no answers: write a list of"):
        read_gold(value, "it")


def test_an_answer_is_found_nearest_to_its_start() -> None:
    context = "a dog, a dog and a dog"
    places = {-1: 2, 0: 2, 2: 2, 5: 2, 6: 9, 9: 9, 14: 9, 15: 19, 99: 19}
    for start, found in places.items():
        assert Gold("dog", start).find(context) == (found, found + 3), start
    assert Gold("cat", 0).find(context) is None


def test_bad_rows_are_counted_and_teach_nothing(
    make: Callable[..., Model], caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(make())
    moved = {**ROW, "answers": [{"text": "dog", "start": 25}]}
    lost = {**ROW, "answers": [{"text": "horse", "start": 3}]}
    empty = {**ROW, "context": ""}
    with caplog.at_level(logging.WARNING):
        task.study("qa", task.options, [ROW, moved, lost, ROW, empty])
    (said,) = caplog.messages
    assert said == (
        "task qa: of its train rows, 2 have no answer that stands in its context (first row 3) and "
        "teach nothing; 1 have an answer that starts elsewhere than said (first row 2): the "
        "nearest place was taken"
    )
    assert [len(list(task.examples(r, seen()))) for r in (ROW, moved, lost, empty)] == [1, 1, 0, 0]
    (example,) = task.examples(moved, seen())
    (right,) = task.examples(ROW, seen())
    np.testing.assert_array_equal(example.truth["gold"], right.truth["gold"])
    caplog.clear()
    task.check([lost, ROW], "test")
    assert caplog.messages == [
        "task qa: of its test rows, 1 have no answer that stands in its context (first row 1) and "
        "are scored by its text alone"
    ]
    with pytest.raises(UserError, match="in none of the training rows does the answer stand"):
        task.study("qa", task.options, [lost, lost])
    with pytest.raises(UserError, match="train row 2: task qa: column 'context' holds None"):
        task.study("qa", task.options, [ROW, {**ROW, "context": None}])
    with pytest.raises(UserError, match="test row 2: task qa: a row has no answer in column"):
        task.check([ROW, SILENT], "test")


def test_what_teaches_nothing_is_scored_all_the_same(make: Callable[..., Model]) -> None:
    model = make()
    task = task_of(model)
    rows = [{**ROW, "answers": [{"text": "horse", "start": 3}]}, {**ROW, "context": ""}]
    examples = [e for row in rows for e in task.examples(row, seen(learn=False))]
    answers: Any = list(model.answers(task, examples))
    assert [answer.text == "" for answer in answers] == [False, True]
    assert all(math.isfinite(task.surprise(a, r)) for a, r in zip(answers, rows, strict=True))
    assert task.score(answers, rows) == {"f1": 0.0, "exact_match": 0.0}
    assert answers[1].columns()["probability"] == 0.0
    batch = collate(examples[1:])
    assert task.explain_target(model(task, batch)[0], answers[1]).item() == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**ROW, "context": None}, "column 'context' holds None and no text"),
        ({**ROW, "question": 7}, "column 'question' holds 7 and no text"),
        ({**ROW, "answers": "dog"}, "column 'answers' holds 'dog' and no answers"),
        (SILENT, "has no answer in column 'answers' .*'?who runs.*set `no_answer: true`"),
    ],
)
def test_rows_that_cannot_be_read(make: Callable[..., Model], row: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(task_of(make()).examples(row, seen()))


# ---- scores ----


@pytest.mark.parametrize(
    ("given_text", "gold", "expected_f1", "expected_exact"),
    [
        ("The Cat!", ["cat"], 1, 1),
        ("the cat sat", ["cat sat down"], 0.8, 0),  # 2 of 2 and 2 of 3
        ("a b b", ["b b c"], 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3), 0),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("", ["cat"], 0, 0),
        ("cat", ["dog", "a cat"], 1, 1),
        ("5,000", ["5000"], 1, 1),
        ("2000–01", ["200001"], 0, 0),  # SQuAD's script takes away ASCII's punctuation only
        ("光荣", ["光荣和ω-force"], 2 * (2 / 2) * (2 / 4) / (2 / 2 + 2 / 4), 0),
        ("《光荣》。", ["光荣"], 1, 1),
        ("在 1990年", ["1990年"], 0.8, 0),
        ("とうきょう", ["とうきょう都"], 2 * 1 * (5 / 6) / (1 + 5 / 6), 0),
        ("서울은", ["서울"], 0.8, 0),
    ],
)
def test_exact_match_and_f1(
    given_text: str, gold: list[str], expected_f1: float, expected_exact: float
) -> None:
    assert f1(given_text, gold) == pytest.approx(expected_f1)
    assert exact(given_text, gold) == expected_exact


@given(*[st.lists(st.sampled_from("cat dog A the red, a-b x.".split()), max_size=6)] * 2)
def test_f1_is_the_harmonic_mean(first: list[str], second: list[str]) -> None:
    """Against precision and recall counted token by token, in English."""
    given_text, gold = " ".join(first), " ".join(second)
    kept = [[w.strip(",.").replace("-", "").lower() for w in part] for part in (first, second)]
    a, b = ([w for w in part if w not in ("a", "the")] for part in kept)
    assert (units(given_text), units(gold)) == (a, b)
    rest, hits = list(b), 0
    for word in a:
        if word in rest:
            rest.remove(word)
            hits += 1
    if not a or not b:
        expected = float(a == b)
    elif not hits:
        expected = 0.0
    else:
        expected = 2 * (hits / len(a)) * (hits / len(b)) / (hits / len(a) + hits / len(b))
    assert f1(given_text, [gold]) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1
    )
)
def test_the_threshold_is_the_best_there_is(rows: list[tuple[int, float, bool]]) -> None:
    margins = [float(m) for m, _, _ in rows]
    answered = [0.0 if silent else value for _, value, silent in rows]
    silence = [float(silent) for _, _, silent in rows]

    def total(threshold: float) -> float:
        pairs = zip(margins, answered, silence, strict=True)
        return sum(s if m > threshold else a for m, a, s in pairs)

    found = total(best_threshold(margins, answered, silence))
    assert found == max(total(t / 2) for t in range(-9, 10))


# ---- a whole run ----


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """How many, and of what, among other words: the number is the answer, if there is one."""
    rng = np.random.default_rng(0)
    words = ["cat", "dog", "red", "green", "the", "film", "was"]
    path = tmp_path / "questions.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(150):
            parts = rng.choice(words, rng.integers(3, 25)).tolist()
            number = ("one", "two", "three")[i % 3]
            if i % 4:
                parts.insert(int(rng.integers(len(parts))), number)
            context = " ".join(parts) + "."
            answers = [{"text": number, "start": context.index(number)}] if i % 4 else []
            row = {"question": "how many?", "context": context, "answers": answers, "id": i}
            file.write(json.dumps(row) + "\n")
    return path


def test_training_learns_and_the_bundle_gives_it_back(questions: Path, tmp_path: Path) -> None:
    qa = {
        "kind": "span",
        "train": str(questions),
        "no_answer": True,
        "max_length": 16,
        "overlap": 4,
        "test": 0.2,
    }
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {"qa": qa},
        "train": {"steps": 60, "batch_tokens": 600, "evaluate_every": 60, "precision": "fp32"},
    }
    trained = unmask.train(recipe, tmp_path / "run")
    scores = {s.metric: s.value for s in trained.scores if s.split == "test"}
    assert set(scores) == {"f1", "exact_match", "f1_answerable", "accuracy_unanswerable"}
    assert scores["f1"] > 0.9, scores
    assert "threshold" in trained.model.tasks["qa"].calibration
    again = unmask.load(trained.bundle)
    assert again.tasks["qa"].calibration == trained.model.tasks["qa"].calibration
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    ours, theirs = trained.model.predict("qa", rows), again.predict("qa", rows)
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert Counter(bool(a.text) for a in theirs)[False] > 20
    for row, answer in zip(rows, theirs, strict=True):
        if answer.best:
            assert row["context"][answer.best.start : answer.best.end] == answer.text
    found = unmask.evaluate(trained.bundle)
    assert {s["metric"]: s["value"] for s in found["scores"] if s["split"] == "test"} == scores
    assert all(set(item) >= {"truth", "answer"} for item in found["worst"])


def test_a_recipe_may_say_that_there_may_be_no_answer(
    make: Callable[..., Model], tmp_path: Path
) -> None:
    """As for a folder of transformers', which does not say it."""
    bundle.save(make(), tmp_path / "bundle")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, (SILENT, ROW))), encoding="utf-8")
    qa = {"kind": "span", "test": str(rows), "valid": None}
    for options in ({"no_answer": True}, {}):
        recipe = {"encoder": {"shape": "tiny"}, "tasks": {"qa": {**qa, **options}}}
        (tmp_path / "r.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        if options:
            found = unmask.evaluate(tmp_path / "bundle", tmp_path / "r.yaml")
            assert "accuracy_unanswerable" in {s["metric"] for s in found["scores"]}
            assert {item["truth"] for item in found["worst"]} == {"dog", "(no answer)"}
        else:
            with pytest.raises(UserError, match="test row 1: task qa: a row has no answer"):
                unmask.evaluate(tmp_path / "bundle", tmp_path / "r.yaml")


def test_questions_on_one_context_stay_together(tmp_path: Path) -> None:
    from unmask.data.splits import split_rows

    path = tmp_path / "rows.jsonl"
    rows = [{**ROW, "question": f"{i}?", "context": f"{i % 10} {CONTEXT}"} for i in range(100)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = SpanOptions(train=str(path), valid=0.2)  # type: ignore[arg-type]
    splits = split_rows("qa", options, 0)
    assert splits.train is not None
    assert splits.valid is not None
    assert len(splits.valid) == 20
    assert not {r["context"] for r in splits.train} & {r["context"] for r in splits.valid}
