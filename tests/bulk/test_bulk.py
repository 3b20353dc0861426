"""Files of any size: nothing lost, nothing twice, in order, whatever comes between."""

from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from typer.testing import CliRunner

from unmask import bundle, files, load
from unmask.bulk.job import Found, run
from unmask.bulk.parts import NOT_FINITE
from unmask.cli.app import app
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks.classify import Classify, ClassifyOptions

WORDS = ["the", "cat", "dog", "film", "was", "good", "bad", "great", "dull", "runs", "sleeps"]
PREDICT = {"columns": ["text"], "tasks": ["mood"], "options": {}}
EMBED = {"columns": ["text"], "width": None, "modality": "text"}


@pytest.fixture
def source(tmp_path: Path, make_encoder: Callable[..., Encoder], text: TextInput) -> str:
    """A tiny bundle with a classifier."""
    encoder = make_encoder()
    mood = Classify("mood", ClassifyOptions(), text, {"labels": ["bad", "good"]})
    torch.manual_seed(0)
    model = Model(encoder, text, {"mood": mood}, {"mood": mood.build(encoder)})
    bundle.save(model, tmp_path / "bundle")
    return str(tmp_path / "bundle")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two hundred rows, many of them alike."""
    dice = random.Random(0)
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for i in range(200):
            words = dice.choices(WORDS, k=dice.randint(1, 9))
            file.write(json.dumps({"id": i, "text": " ".join(words)}) + "\n")
    return path


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_those_of_the_model_in_order(source: str, rows: Path, tmp_path: Path) -> None:
    model = load(source)
    texts = [row["text"] for row in _read(rows)]
    expected = model.predict("mood", texts)
    vectors = model.encode(texts).numpy()
    for suffix in (".jsonl", ".csv", ".parquet"):
        out = tmp_path / f"out{suffix}"
        found = run("predict", source, rows, out, PREDICT, part=64)
        assert found == Found(200, 0, 0)
        if suffix == ".jsonl":
            table = _read(out)
        elif suffix == ".csv":
            with out.open(newline="") as file:
                table = list(csv.DictReader(file))
        else:
            table = parquet.read_table(out).to_pylist()
        assert [int(row["id"]) for row in table] == list(range(200))
        assert [row["prediction"] for row in table] == [answer.short for answer in expected]
        np.testing.assert_allclose(
            [float(row["probability"]) for row in table],
            [max(answer.probabilities.values()) for answer in expected],
            atol=1e-5,
        )
    for suffix in (".npy", ".jsonl", ".parquet"):
        out = tmp_path / f"vectors{suffix}"
        run("embed", source, rows, out, EMBED, part=64)
        if suffix == ".npy":
            own = np.load(out, allow_pickle=False)
        elif suffix == ".jsonl":
            own = np.array([row["vector"] for row in _read(out)])
        else:
            read = parquet.read_table(out)
            assert read.schema.field("vector").type == pa.list_(pa.float32())
            own = np.array([row["vector"] for row in read.to_pylist()])
        np.testing.assert_allclose(own, vectors, atol=1e-5)
    left = {path.name for path in tmp_path.iterdir()}
    assert not [name for name in left if "work" in name or "failed" in name or name[0] == "."]


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy"])
def test_killed_several_times_the_output_is_the_same_bytes(
    source: str, rows: Path, tmp_path: Path, name: str
) -> None:
    asked, verb = (EMBED, "embed") if name.endswith("npy") else (PREDICT, "predict")
    run(verb, source, rows, tmp_path / f"whole-{name}", asked, part=8)
    out = tmp_path / name
    work = out.with_name(f"{name}.work")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unmask.bulk.job"])  # imported once, not by each process
    given = (verb, source, rows, out, asked, "processes", 1, 8)
    dice, before, kills = random.Random(1), 0, 0
    for target in (1, 5, 11, 16, 22):
        process = context.Process(target=run, args=given)
        process.start()
        while process.is_alive() and len(list(work.glob("journal/0*.json"))) < target:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.01)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        done = len(list(work.glob("journal/0*.json")))
        assert done >= before  # what was done is done
        before = done
    assert kills >= 3
    assert not out.exists() or kills < 5
    run(*given)
    assert out.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert not work.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_ray_gives_the_same_bytes(source: str, rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    torch.set_num_threads(1)
    run("predict", source, rows, tmp_path / "here.jsonl", PREDICT, part=64)
    run("predict", source, rows, tmp_path / "ray.jsonl", PREDICT, engine="ray", part=64)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_several_processes_give_the_same_bytes(source: str, rows: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run("embed", source, rows, tmp_path / "one.npy", EMBED, part=64)
    run("embed", source, rows, tmp_path / "two.npy", EMBED, workers=2, part=64)
    assert (tmp_path / "two.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


def test_rows_that_fail_are_set_aside_and_the_rest_is_done(source: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["the cat", None, "a dog", "the film", None, "the cat"]
    path.write_text("\n".join(json.dumps({"text": text, "id": 7}) for text in texts))
    found = run("predict", source, path, tmp_path / "out.jsonl", PREDICT, part=4)
    assert found == Found(6, 2, 0)
    done = [row["text"] for row in _read(tmp_path / "out.jsonl")]
    assert done == ["the cat", "a dog", "the film", "the cat"]
    aside = _read(tmp_path / "out.jsonl.failed.jsonl")
    assert [one["row"] for one in aside] == [2, 5]
    assert "holds None and no text" in aside[0]["reason"]
    assert aside[1]["input"] == {"text": None, "id": 7}
    run("embed", source, path, tmp_path / "v.npy", EMBED, part=4)
    vectors = np.load(tmp_path / "v.npy")
    assert np.isnan(vectors).all(1).tolist() == [False, True, False, False, True, False]
    path.write_text(json.dumps({"text": "fine"}))
    run("predict", source, path, tmp_path / "out.jsonl", PREDICT)
    assert not (tmp_path / "out.jsonl.failed.jsonl").exists()  # it was of another job


@pytest.mark.parametrize("how", ["refused", "not finite"])
def test_what_fails_in_the_model_is_found_out_row_by_row(
    source: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    whole = Model.vectors
    odd = load(source).pooled_example("the film").sequences[0].content

    def picky(self: Model, examples: Any, *rest: Any) -> torch.Tensor:
        examples = list(examples)
        bad = [example.sequences[0].content == odd for example in examples]
        if any(bad) and how == "refused":
            raise UserError("not this one")
        vectors = whole(self, examples, *rest)
        vectors[torch.tensor(bad)] = torch.nan
        return vectors

    monkeypatch.setattr(Model, "vectors", picky)
    path = tmp_path / "three.txt"
    path.write_text("the cat\nthe film\nthe dog\n")
    assert run("embed", source, path, tmp_path / "v.parquet", EMBED) == Found(3, 1, 0)
    kept = parquet.read_table(tmp_path / "v.parquet").to_pylist()
    assert [row["text"] for row in kept] == ["the cat", "the dog"]
    (aside,) = _read(tmp_path / "v.parquet.failed.jsonl")
    assert aside["row"] == 2
    assert aside["reason"] == ("not this one" if how == "refused" else f"row 2: {NOT_FINITE}")


def test_rows_that_are_alike_are_made_once(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("the cat\n" * 50 + "the dog\n" * 50)
    seen: list[int] = []
    whole = Model.vectors

    def counted(self: Model, examples: Any, *rest: Any) -> torch.Tensor:
        examples = list(examples)
        seen.append(len(examples))
        return whole(self, examples, *rest)

    monkeypatch.setattr(Model, "vectors", counted)
    run("embed", source, path, tmp_path / "v.npy", EMBED)
    assert seen == [2]
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors[:50] == vectors[0]).all()
    assert (vectors[50:] == vectors[99]).all()


def test_what_was_begun_otherwise_is_not_mixed(
    source: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("unmask.bulk.job.join", stop)
        with pytest.raises(KeyboardInterrupt):
            run("predict", source, rows, out, PREDICT, part=64)
    with pytest.raises(UserError, match="begun with another model, input or options"):
        run("predict", source, rows, out, {**PREDICT, "options": {"top": 1}}, part=64)
    rows.write_text('{"text": "other"}')
    with pytest.raises(UserError, match="begun with another"):
        run("predict", source, rows, out, PREDICT, part=64)
    assert not out.exists()


def test_mistakes_are_one_line_and_leave_nothing(source: str, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="the output of embed is"):
        run("embed", source, rows, tmp_path / "out.csv", EMBED)
    with pytest.raises(UserError, match="no column 'words'"):
        run("embed", source, rows, out, {"columns": ["words"], "width": None, "modality": "text"})
    (tmp_path / "bad.jsonl").write_text('{"text": null}\n' * 3)
    with pytest.raises(UserError, match="none of the 3 rows can be answered: row 1"):
        run("embed", source, tmp_path / "bad.jsonl", out, EMBED)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]
    out.with_name("out.jsonl.work").mkdir()
    (tmp_path / "out.jsonl.work" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"holds 'thesis\.txt'"):
        run("embed", source, rows, out, EMBED)


def test_a_full_disk_is_one_line_and_the_rest_goes_on_later(
    source: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, count = np.save, iter(range(100))

    def full(*given: Any, **more: Any) -> None:
        if next(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(*given, **more)

    out = tmp_path / "v.npy"
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(UserError, match="No space left on device"):
            run("embed", source, rows, out, EMBED, part=32)
    assert not out.exists()
    assert len(list(tmp_path.glob("v.npy.work/journal/*.json"))) == 2
    run("embed", source, rows, out, EMBED, part=32)
    run("embed", source, rows, tmp_path / "w.npy", EMBED, part=32)
    assert out.read_bytes() == (tmp_path / "w.npy").read_bytes()


def test_the_commands(source: str, rows: Path, tmp_path: Path) -> None:
    do = CliRunner()
    out = tmp_path / "out.parquet"
    words = ["predict", source, "--input", str(rows), "--output", str(out), "--part", "50"]
    done = do.invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 200
    assert parquet.read_table(out).num_rows == 200
    vectors = tmp_path / "v.npy"
    words = ["embed", source, "--input", str(rows), "--output", str(vectors), "--width", "4"]
    assert do.invoke(app, words).exit_code == 0
    assert np.load(vectors).shape == (200, 4)
    assert files.sha256(vectors)
    wide = do.invoke(app, [*words[:-1], "400"])
    assert isinstance(wide.exception, UserError)
