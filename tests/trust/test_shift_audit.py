"""Sets that are alike are not told apart, others are; leaks and planted labels are found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import jensenshannon

from unmask.errors import UserError
from unmask.trust.audit import audit
from unmask.trust.labels import probabilities, suspects
from unmask.trust.overlap import overlaps
from unmask.trust.shift import shift
from unmask.trust.sketch import Sketch, add_up, distances, divergence, parts, random_features, words

Command = Callable[..., subprocess.CompletedProcess[str]]


def units(seed: int, rows: int, moved: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, 8)) + moved
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def test_sketches_add_up_and_travel_as_data() -> None:
    texts = ["a film", "the cat sleeps", "我是程序员", "one two three four"]
    labels, x = ["p", "n", "p", "n"], units(0, 4)
    whole = add_up(parts(texts, labels, x))
    halves = add_up(parts(texts[:2], labels[:2], x[:2])) + add_up(
        parts(texts[2:], labels[2:], x[2:])
    )
    again = Sketch.from_record(json.loads(json.dumps(halves.record())))
    for one in (halves, again):
        assert one.rows == 4
        assert one.labels == whole.labels
        for ours, theirs in (
            (one.lengths, whole.lengths),
            (one.words, whole.words),
            (one.features, whole.features),
        ):
            np.testing.assert_allclose(ours, theirs)
    assert all(abs(v) < 1e-9 for k, v in distances(whole, again).items() if k != "vectors")


def test_distances_are_those_of_others() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.random(20), rng.random(20)
    assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert divergence(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)
    a, b = units(0, 300), units(1, 300, 0.5)
    near = np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 2)  # the kernel itself
    np.testing.assert_allclose(random_features(a) @ random_features(b).T, near, atol=0.35)
    found = np.mean(random_features(a), 0) @ np.mean(random_features(b), 0)
    assert found == pytest.approx(near.mean(), abs=0.05)
    assert words("The 猫 sat, 2 times") == ["the", "猫", "sat", "2", "times"]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "\n".join(f"{t},{x}" for t, x in rows), encoding="utf-8")
    return path


def many(word: str, count: int, seed: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    nouns = ["film", "cat", "dog", "world", "time", "room"]
    return [
        (f"the {nouns[rng.integers(6)]} {nouns[rng.integers(6)]} {word} {rng.integers(50)}",
         "ab"[rng.integers(2)])
        for _ in range(count)
    ]  # fmt: skip


def test_shift_knows_alike_from_different(sentiment: Path, tmp_path: Path) -> None:
    a = write(tmp_path / "a.csv", many("was", 120, 0))
    b = write(tmp_path / "b.csv", many("was", 120, 1))
    c = write(tmp_path / "c.csv", [(f"{t} {t} invoice", "b") for t, _ in many("costs", 120, 2)])
    bundle = str(sentiment / "run" / "bundle")
    alike, other = shift(a, b, bundle), shift(a, c, bundle)
    assert set(alike["distances"]) == {"lengths", "vocabulary", "labels", "vectors"}
    for name, one in alike["distances"].items():
        assert one["distance"] <= 2 * max(one["by_chance"], 0.001), name
    for one in other["distances"].values():
        assert one["distance"] > one["by_chance"]
        assert one["p"] == 0.01
    assert other["distances"]["vocabulary"]["says"] == "other words are used"
    assert alike["classifier"]["auc"] < 0.65
    assert other["classifier"]["auc"] > 0.95
    assert other["words"]["second"][0]["word"] in ("invoice", "costs")
    assert other["words"]["new_in_second"] > 0.1
    assert "vectors" not in shift(a, c)["distances"]


def test_overlaps_are_exact_or_near() -> None:
    train = ["How do I activate my card today?", "What is the exchange rate?", "x"]
    held = ["how do I  ACTIVATE my card today?", "How can I activate my card today?", "Hello", "x"]
    found = {m.row: m for m in overlaps(held, train, 0.6)}
    assert found[0].similarity == 1.0
    assert (found[1].like, found[1].similarity < 1) == (0, True)
    assert 2 not in found
    assert found[3].like == 2
    assert overlaps([], train) == overlaps(held, []) == []


@pytest.mark.parametrize("classes", [4, 310])
def test_planted_label_errors_lead_the_list(classes: int) -> None:
    """With few labels by logistic regression, with hundreds by the nearest mean."""
    rng = np.random.default_rng(0)
    each = 40 if classes == 4 else 8
    labels = np.repeat(np.arange(classes), each)
    centres = rng.normal(size=(classes, 32))
    x = centres[labels] + rng.normal(size=(len(labels), 32)) * 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    wrong = rng.choice(len(labels), len(labels) // 20, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % classes
    p = probabilities(x, given, np.arange(len(x)))
    found = suspects(p, given, [str(c) for c in range(classes)])
    top = [one.row for one in found[: len(wrong)]]
    assert len(set(top) & set(wrong.tolist())) >= (0.85 if classes == 4 else 0.7) * len(wrong)
    for one in found[:5]:
        assert one.instead == str(labels[one.row])
    if classes == 4:
        right = probabilities(x, labels, np.arange(len(x)))
        assert not suspects(right, labels, list("0123"))


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    rows = [(f"the film number {i} was {w}", x) for i in range(30)
            for w, x in (("good", "pos"), ("bad", "neg"))]  # fmt: skip
    rows[10] = (rows[10][0], "neg")  # planted
    rows.append(("THE film number 3 was good", "neg"))  # clashes with a row above
    write(tmp_path / "train.csv", rows)
    test = [("a wholly new text", "pos"), (rows[4][0].upper(), "pos"), (rows[4][0] + "!", "pos")]
    write(tmp_path / "test.csv", test)
    recipe = {
        "encoder": {"shape": "tiny"},
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(tmp_path / "train.csv"),
                "valid": None,
                "test": str(tmp_path / "test.csv"),
            },
            "rare": {
                "kind": "classify",
                "train": str(tmp_path / "test.csv"),
                "valid": None,
            },
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def test_audit_names_file_and_row(leaky: Path) -> None:
    found = audit(leaky / "r.yaml")
    assert found["vectors"] == "characters"  # a new encoder has learnt nothing yet
    mood, rare = found["tasks"]
    (leak,) = mood["leaks"]
    assert (leak["rows"], leak["same"], leak["near"]) == (3, 1, 1)
    first = leak["listed"][0]
    assert (first["split"], first["row"], first["like"]["row"]) == ("test", 2, 5)
    assert first["like"]["file"].endswith("train.csv")
    (clash,) = mood["clashes"]
    assert clash["labels"] == {"pos": 1, "neg": 1}
    assert [row["row"] for row in clash["rows"]] == [7, 61]
    assert (mood["labels"]["listed"][0]["row"], mood["labels"]["listed"][0]["instead"]) in [
        (11, "pos"),
        (61, "pos"),
    ]
    assert rare["labels"] is None
    assert any("fewer than two labels" in note for note in rare["notes"])


def test_audit_of_a_bundle_uses_its_trunk(sentiment: Path) -> None:
    found = audit(sentiment / "run" / "bundle")
    (task,) = found["tasks"]
    assert found["vectors"].endswith("bundle")
    assert task["rows"]["test"] == 144
    assert task["labels"]["rows"] == 288
    with pytest.raises(UserError, match="no task 'music'"):
        audit(sentiment / "run" / "bundle", only="music")


def test_every_command(sentiment: Path, leaky: Path, command: Command) -> None:
    bundle = sentiment / "run" / "bundle"
    train, test = sentiment / "train.csv", sentiment / "test.csv"
    answers: Any = json.loads(
        command("predict", bundle, "The film was good.", "--json", "--option", "coverage=0.8",
                "--option", "risk=0.4").stdout
    )  # fmt: skip
    assert {"set", "abstains", "promise", "known", "strangeness"} <= answers[0].keys()
    table = command("predict", bundle, "The film was good.", "--option", "coverage=0.8")
    assert "promised" in table.stdout
    assert "0.8 of such sets hold the truth" in table.stderr
    wrong = command("predict", bundle, "A text", "--option", "coverage=1.5", code=2)
    assert "between 0 and 1" in wrong.stderr
    scores = command("eval", bundle, "--html", "scores.html").stdout
    assert "sets and intervals" in scores
    assert "AURC" in scores
    said = command("calibrate", bundle, "again").stdout
    assert "wrote again" in said
    shown = command("check", bundle, "--count", 5, "--html", "b.html").stdout
    assert "95 % interval" in shown
    assert "accuracy against typos, zh" in shown
    assert "other words are used" in command("shift", train, leaky / "train.csv").stdout
    assert "vectors" in command("shift", train, test, "--bundle", bundle, "--json").stdout
    assert "also stand" in command("audit", leaky / "r.yaml").stdout
    for name in ("calibrate", "check", "shift", "audit"):
        assert "Example: unmask" in command(name, "--help").stdout
    assert "no behaviour tests" in command("check", bundle, "--language", "xx", code=2).stderr
    assert "no column 'none'" in command("shift", train, test, "--text", "none", code=2).stderr
