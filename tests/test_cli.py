"""The command, as a person types it: results, files, exit codes, one line for a mistake."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path, typed: Command) -> Command:
    """Run `unmask` in the test's own folder; `code` is the exit code to expect."""

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = typed(tmp_path, *words)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        if code == 2:
            assert len(done.stderr.strip().splitlines()) == 1
        return done

    return run


@pytest.fixture
def run_folder(tiny_recipe: dict[str, Any], tmp_path: Path, command: Command) -> Path:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny_recipe), encoding="utf-8")
    command("train", "r.yaml", "train.seed=1", "train.steps=40", "train.learning_rate=3e-3")
    return tmp_path / "runs" / "r"


def test_from_a_csv_to_predictions(reviews: Path, tmp_path: Path, command: Command) -> None:
    """Init → train --dry-run → train → eval → predict, on a file nobody has seen."""
    # `init` is told of a tiny encoder, since the pretrained one takes longer than a test should
    command("train", write_tiny(tmp_path, reviews), "--out", "start")
    said = command("init", reviews, "--encoder", "start/bundle").stdout
    assert "40 rows; classify text into the 2 values of label" in said
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert recipe["tasks"]["label"]["input"] == "text"
    schema = json.loads((tmp_path / "recipe.schema.json").read_text())
    assert "ClassifyOptions" in schema["$defs"]
    dry = command("train", "recipe.yaml", "--dry-run").stdout
    assert "[CLS]" in dry
    assert "cost: about" in dry
    assert not (tmp_path / "runs").exists()
    changes = ("train.epochs=4", "train.learning_rate=3e-3", "tasks.label.max_length=24")
    done = command("train", "recipe.yaml", *changes)
    assert "accuracy" in done.stdout
    assert "held out as test" in done.stderr
    folder = tmp_path / "runs" / "recipe"
    scored = json.loads(command("eval", folder / "bundle", "--json").stdout)
    assert scored["scores"] == json.loads((folder / "scores.json").read_text())
    assert scored["precision"] == "fp32"
    assert len(scored["worst"]) == 4
    surprises = [item["surprise"] for item in scored["worst"]]
    assert surprises == sorted(surprises, reverse=True)
    assert "worst errors" in command("eval", folder / "bundle").stdout
    long = command("predict", folder / "bundle", "a film " * 50)
    assert "1 of 1 texts were too long, and were cut" in long.stderr
    command("predict", folder / "bundle", "--input", reviews, "--output", "out.csv")
    command("predict", folder / "bundle", "--input", reviews, "--output", "out.jsonl")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines) == 40
    for row, line in zip(rows, lines, strict=True):
        assert row["prediction"] == line["prediction"]
        assert row["label"] in ("pos", "neg")  # the user's own column stays
        assert json.loads(row["probabilities"]) == line["probabilities"]
        assert sum(line["probabilities"].values()) == pytest.approx(1)


def write_tiny(folder: Path, reviews: Path) -> Path:
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {"words": {"kind": "mlm", "train": str(reviews)}},
        "train": {"steps": 2},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_fill_embed_and_many_texts(run_folder: Path, tmp_path: Path, command: Command) -> None:
    bundle = run_folder / "bundle"
    filled = json.loads(command("fill", bundle, "the [MASK] was good", "--json").stdout)
    assert len(filled["candidates"][0]) == 5
    assert "[MASK] 1" in command("fill", bundle, "the [MASK] was good", "--top", "2").stdout
    vectors = json.loads(command("embed", bundle, "a cat", "a dog").stdout)
    assert np.shape(vectors) == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    command("embed", bundle, "--input", "reviews.csv", "--output", "v.npy")
    assert np.load(tmp_path / "v.npy").shape == (40, 128)
    command("embed", bundle, "--input", "reviews.csv", "--output", "v.jsonl")
    assert len(json.loads((tmp_path / "v.jsonl").read_text().splitlines()[0])["vector"]) == 128
    table = command("predict", bundle, "--task", "mood", "the cat was good", "bad").stdout
    assert "probability" in table
    assert command("predict", bundle, "a", code=2).stderr.startswith("unmask: say which task")


def test_import_and_export(run_folder: Path, tmp_path: Path, command: Command) -> None:
    bundle = run_folder / "bundle"
    command("export", bundle, "hf", "--task", "mood")
    command("export", bundle, "st", "--format", "sentence-transformers")
    command("import", "hf", "back")
    texts = ["the cat was good", "the film was dull"]
    before = command("predict", bundle, "--task", "mood", *texts, "--json").stdout
    after = command("predict", "back", "--task", "classify", *texts, "--json").stdout
    for a, b in zip(json.loads(before), json.loads(after), strict=True):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-6)
    vectors = [json.loads(command("embed", x, *texts).stdout) for x in (bundle, "st")]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=2e-6)
    assert "not empty" in command("export", bundle, "hf", "--task", "mood", code=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "none.yaml"], "none.yaml: there is no such recipe"),
        (["train", "r.yaml", "train.epoch=1"], "did you mean `epochs`"),
        (["train", "r.yaml", "tasks.mood.train=latin.csv"], "latin.csv.*UTF-8"),
        (["train", "r.yaml", "tasks.mood.train=empty.csv"], "empty.csv"),
        (["train", "r.yaml", "tasks.mood.label=nothing"], "no column 'nothing'"),
        (["train", "r.yaml", "--out", "taken"], "taken exists and is no run folder"),
        (["eval", "nowhere"], "nowhere"),
        (["predict", "nowhere", "a text"], "no folder nowhere"),
        (["fill", "nowhere/here", "a [MASK]"], "nowhere/here"),
        (["predict", "pickled", "a text"], "pickle|safetensors"),
        (["embed", "coded", "a text"], "auto_map"),
        (["init", "latin.csv"], "latin.csv"),
        (["sing"], "No such command 'sing'"),
        (["predict"], "Missing argument"),
        (["train", "r.yaml", "--colour"], "No such option"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tiny_recipe: dict[str, Any], tmp_path: Path, command: Command, words: list[str], said: str
) -> None:
    import re

    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny_recipe), encoding="utf-8")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,a\nthé,b\n".encode("latin-1"))
    (tmp_path / "empty.csv").write_bytes(b"")
    for name in ("taken", "pickled", "coded"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "coded" / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    before = sorted(tmp_path.rglob("*"))
    error = command(*words, code=2).stderr
    assert re.search(said, error), error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [[], *([w] for w in "init train eval predict fill embed import export".split())]
)
def test_every_command_has_help_with_an_example(command: Command, words: list[str]) -> None:
    shown = command(*words, "--help").stdout
    assert "Usage" in shown
    if words:
        assert "Example: unmask" in shown


def test_help_and_import_stay_light() -> None:
    """Neither the tensors nor the reference implementation are loaded before they are needed."""
    script = (
        "import sys, unmask\nfrom unmask.cli import app\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'pyarrow', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(),
    reason="this system gives no large pages",
)
def test_large_tensors_of_the_command_stand_on_large_pages() -> None:
    code = """
import contextlib, sys
from unmask.cli.main import main
sys.argv = ["unmask", "--help"]
with contextlib.suppress(SystemExit):
    main()
import torch
kept = torch.ones(1 << 24)  # 64 MB
print(open("/proc/self/smaps_rollup").read())
"""
    left = {name: own for name, own in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run([sys.executable, "-c", code], env=left, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("AnonHugePages"))
    assert int(line.split()[1]) > 0, line
