"""Sets that are alike are not told apart, others are; leaks and planted labels are found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import jensenshannon
from typer.testing import CliRunner

from unmask.cli.app import app
from unmask.errors import UserError
from unmask.trust.audit import audit
from unmask.trust.labels import probabilities, suspects
from unmask.trust.overlap import overlaps
from unmask.trust.shift import shift
from unmask.trust.sketch import Sketch, add_up, distances, divergence, parts, random_features, words


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


def test_every_command(
    sentiment: Path, leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: each of its own would load PyTorch again."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.exception
        return done.output

    def mistake(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert isinstance(done.exception, UserError)
        return str(done.exception)

    bundle = sentiment / "run" / "bundle"
    train, test = sentiment / "train.csv", sentiment / "test.csv"
    text, wish = "The film was good.", "coverage=0.8"
    table = command("predict", bundle, text, "--option", wish, "--option", "risk=0.4")
    assert "promised" in table
    assert "0.8 of such sets hold the truth" in table
    assert "known" in table
    assert "between 0 and 1" in mistake("predict", bundle, "A text", "--option", "coverage=1.5")
    assert "sets and intervals" in command("eval", bundle, "--html", "scores.html")
    assert "Hold the truth" in (tmp_path / "scores.html").read_text(encoding="utf-8")
    assert "wrote again" in command("calibrate", bundle, "again")
    shown = command("check", bundle, "--count", 5, "--html", "b.html")
    assert "95 % interval" in shown
    assert "accuracy against typos, zh" in shown
    assert "other words are used" in command("shift", train, leaky / "train.csv")
    found = json.loads(command("shift", train, test, "--json"))
    assert set(found["distances"]) == {"lengths", "vocabulary", "labels"}
    assert "also stand" in command("audit", leaky / "r.yaml")
    for name in ("calibrate", "check", "shift", "audit"):
        assert "Example: unmask" in command(name, "--help")
    assert "no behaviour tests" in mistake("check", bundle, "--language", "xx")
    assert "no column 'none'" in mistake("shift", train, test, "--text", "none")


def test_a_promise_as_a_person_types_it(sentiment: Path, tmp_path: Path) -> None:
    words = ["predict", str(sentiment / "run" / "bundle"), "A film.", "--json", "--option"]
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *words, "coverage=0.8"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (answer,) = json.loads(done.stdout)
    assert {"set", "promise", "known", "strangeness"} <= answer.keys()
    assert "0.8 of such sets" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *words, "coverage=much"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().endswith("write coverage=0.9")
