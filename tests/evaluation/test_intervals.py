"""Intervals agree with SciPy's, cover what they should, and follow from the scores themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score

from unmask.encoder import Encoder
from unmask.evaluation.bootstrap import RESAMPLES, intervals, intervals_by_score
from unmask.evaluation.scores import Judged, cells, figure, scores
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import KINDS, Draw, Tally, Task, row_rng
from unmask.tasks.classify import Classify, ClassifyOptions, LabelAnswer

ROWS = [
    {"text": "the film was good. it was great", "label": "pos"},
    {"text": "the film was very bad. it was dull", "label": "neg"},
    {"text": "a cat sleeps. a dog runs. the cat is red", "label": "pos"},
    {"text": "hello world. how are you", "label": "neg"},
] * 3
ROWS = [  # with the columns of all kinds
    {
        **row,
        "tags": [{"start": 0, "end": len(row["text"].split()[0]), "label": "first"}],
        "question": "who sleeps",
        "context": f"{row['text']} the cat dog",
        "answers": [{"text": "dog", "start": len(row["text"]) + 9}],
        "names": {"en": f"{row['text']} {i}", "de": f"world {i}"},
    }
    for i, row in enumerate(ROWS)
]
TOLD: dict[str, dict[str, Any]] = {  # how a kind is to read them
    "regress": {"values": {"neg": 0, "pos": 1}},
    "rerank": {"input": ["text", "context"]},
    "match": {"input": "names"},
}


def classify(text: TextInput, labels: Sequence[str], **options: Any) -> Classify:
    return Classify("it", ClassifyOptions(**options), text, {"labels": list(labels)})


def answered(text: TextInput, guesses: Sequence[Any], labels: Sequence[str]) -> list[LabelAnswer]:
    """Answers that are sure of these labels."""
    return [
        LabelAnswer(
            tokens=3,
            dropped=0,
            probabilities={x: float(x in guess) for x in labels},
            labels=tuple(guess),
        )
        for guess in guesses
    ]


def test_means_agree_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2, size=300)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high, resamples = intervals(Tally.of_means(it=values), np.arange(300))["it"]
    assert resamples == RESAMPLES
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.07 * width)
    assert high == pytest.approx(theirs.high, abs=0.07 * width)
    assert intervals(Tally.of_means(it=values), np.arange(300))["it"] == (low, high, resamples)


def test_scores_that_follow_from_no_sums_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=120)
    y = x + rng.normal(size=120)

    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a, b)[0, 1])

    theirs = bootstrap(
        (x, y), correlation, n_resamples=2000, method="percentile", paired=True,
        vectorized=False, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = intervals_by_score(lambda i: {"r": correlation(x[i], y[i])}, np.arange(120))["r"]
    width = theirs.high - theirs.low
    assert found[0] == pytest.approx(theirs.low, abs=0.2 * width)
    assert found[1] == pytest.approx(theirs.high, abs=0.2 * width)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        low, high, _ = intervals(Tally.of_means(it=rng.random(120) < 0.7), np.arange(120))["it"]
        held.append(low <= 0.7 <= high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_answers_of_one_row_are_drawn_together() -> None:
    """Ten answers that say the same know no more than one."""
    hits = np.random.default_rng(0).random(100) < 0.6
    alone = intervals(Tally.of_means(it=hits), np.arange(100))["it"]
    tenfold = intervals(Tally.of_means(it=np.repeat(hits, 10)), np.repeat(np.arange(100), 10))
    assert tenfold["it"] == pytest.approx(alone)
    by_score = intervals_by_score(
        lambda i: {"it": float(np.repeat(hits, 10)[i].mean())}, np.repeat(np.arange(100), 10)
    )
    assert by_score["it"][:2] == pytest.approx(alone[:2], abs=0.02)


def test_where_nothing_varies_there_is_no_interval() -> None:
    assert intervals(Tally.of_means(it=np.ones(8)), np.arange(8)) == {}
    assert intervals_by_score(lambda i: {"it": float("nan")}, np.arange(8)) == {}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_classify_scores_as_scikit_learn_does(data: st.DataObject) -> None:
    """On all rows, and on any sample of them that the tally's sums stand for."""
    labels = "abcd"
    text: Any = None  # the scores read no text
    n = data.draw(st.integers(1, 12))
    several = data.draw(st.booleans())
    some = st.lists(st.sampled_from(labels), unique=True, max_size=3)
    one = st.sampled_from(labels).map(lambda x: [x])
    truth, guess = (
        data.draw(st.lists(some if several else one, min_size=n, max_size=n)) for _ in range(2)
    )
    which = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    task = classify(text, labels, multi_label=several)
    rows = [{"label": x if several else x[0]} for x in truth]
    tally = task.tally(answered(text, guess, labels), rows)
    sums = np.bincount(which, minlength=n)[None] @ tally.counts
    found = {metric: float(values[0]) for metric, values in tally.scores(sums).items()}
    table = [[[x in own for x in labels] for own in side] for side in (truth, guess)]
    t, g = (np.array(side, dtype=int)[which] for side in table)
    if several:
        expected = {
            "f1_micro": f1_score(t, g, average="micro", zero_division=0),
            "f1_macro": f1_score(t, g, average="macro", zero_division=0),
            "exact_match": accuracy_score(t, g),
        }
    else:
        t, g = t.argmax(1), g.argmax(1)
        expected = {
            "accuracy": accuracy_score(t, g),
            "f1_macro": f1_score(t, g, average="macro", zero_division=0),
        }
    assert found == pytest.approx(expected)


# But those that read no text, and the one without a truth of its own.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"transcribe", "reconstruct", "distil"}))
def test_every_kind_has_intervals_about_its_scores(
    kind: str, text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    options = KINDS[kind].Options(**TOLD.get(kind, {}))
    task: Task[Any, Any] = KINDS[kind]("it", options, text, KINDS[kind].study("it", options, ROWS))
    encoder = make_encoder()
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    judged = []
    for i, row in enumerate(ROWS):
        examples = list(task.examples(row, Draw(row_rng(0, "it", 0, i), others=ROWS)))
        judged.append(Judged(row, tuple(model.answers(task, examples))))
    found = scores(task, "test", judged, "fp32", resample=True)
    (cell,) = cells(task, "test", judged, "fp32", resample=True)  # all rows are in one
    assert cell == next(score for score in found if score.metric == task.headline)
    with_interval = [score for score in found if score.low is not None]
    # Where all answers score the same, no resample differs.
    assert with_interval or all(score.value in (0.0, 1.0) for score in found)
    for score in with_interval:
        assert score.low is not None
        assert score.high is not None
        assert score.value is not None
        assert score.low <= score.value <= score.high
    answers = [a for one in judged for a in one.answers]
    rows = [one.row for one in judged for _ in one.answers]
    if (tally := task.tally(answers, rows)) is not None:
        assert tally.total() == pytest.approx(task.score(answers, rows), abs=1e-4, nan_ok=True)


def test_a_score_that_cannot_be_had_says_why(text: TextInput) -> None:
    from unmask.tasks.detect import Detect, DetectAnswer, DetectOptions, Verdict

    task = Detect("it", DetectOptions(), text, {"generator": 0.25})
    answer = DetectAnswer(tokens=3, dropped=0, verdicts=(Verdict("a", 0.2, False, True),))
    found = {
        s.metric: s.record()
        for s in scores(task, "test", [Judged({"text": "a"}, (answer,))] * 4, "fp32", resample=True)
    }
    assert found["roc_auc"]["value"] is None
    assert "nothing to tell apart" in found["roc_auc"]["reason"]
    assert figure(found["roc_auc"]).startswith("– (no token was replaced")
    assert "low" not in found["roc_auc"]
    assert "reason" not in found["loss"]
    assert figure(found["loss"]) == "0.2231"
    assert figure({"value": 0.94123, "low": 0.9331, "high": 0.9487}) == "0.9412 (0.933–0.949)"
