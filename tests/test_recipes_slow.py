"""Every recipe of the house trains as it stands, and learns something. Minutes each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import unmask
from unmask.data.splits import split_rows
from unmask.recipe import parse, read
from unmask.tasks import OPTIONS

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe(path: Path, tmp_path: Path) -> None:
    for name in set(re.findall(r"\$\{(\w+)\}", path.read_text())) - os.environ.keys():
        pytest.skip(f"set {name}, where this recipe's rows are")
    data = read(path)
    tasks = data.get("tasks", {}).values()
    sources = [data["encoder"].get("from"), *(task.get("train") for task in tasks)]
    for made in {s for s in sources if isinstance(s, str) and s.startswith("runs/")}:
        if not Path(made.partition("{")[0]).exists():
            pytest.skip(f"make {made} first, as the recipe says")
    trained = unmask.train(path, tmp_path / "run")
    run = list(parse(read(path), OPTIONS).values())[-1]
    for name, options in run.tasks.items():
        split = "test" if options.test is not None else "valid"
        if getattr(options, split) is None:  # it is only there to be learnt from
            continue
        score = next(
            s
            for s in trained.scores
            if s.task == name and s.split == split and s.metric == trained.model.task(name).headline
        )
        # Of entities; of all texts; of a document among five; else of the hidden words.
        usual = {"tag": 0.4, "embed": 0.0, "rerank": 0.46, "span": 0.3}.get(options.kind, 0.05)
        if options.kind == "classify":
            rows = split_rows(name, options, run.train.seed).test
            assert rows is not None
            counts = Counter(str(row[options.label]) for row in rows)
            usual = counts.most_common(1)[0][1] / counts.total()
        assert score.value > usual + 0.1, (name, score)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_cube_for_a_few_updates(tmp_path: Path) -> None:
    """Its rows, its training, every cell, both pages, and the twins of two seeds."""
    if "UNMASK_DATA" not in os.environ:
        pytest.skip("set UNMASK_DATA, where its rows come from")
    (tmp_path / "recipes").symlink_to(RECIPES[0].parent)
    bench = RECIPES[0].parent.parent / "bench" / "cube.py"
    command = [sys.executable, bench, "--rows", "rows", "--limit", "12", "--held", "4"]
    command += ["--out", "out", "--result", "result.json"]
    command += ["encoder.shape=tiny", "encoder.tokenizer.vocab_size=800"]
    command += ["train.tokens=6000", "train.batch_tokens=500", "train.evaluate_every=100"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert len(set(found["kinds"].values())) == 10
    assert len(found["languages"]) == 17
    assert len(found["domains"]) == 9
    assert found["modalities"] == ["audio", "image", "text"]
    assert found["cells"]["measured"] + found["cells"]["no_score"] == sum(
        len(cube["cells"]) for cube in found["cube"]
    )
    assert found["peers"].keys() == found["ours"].keys() == found["kinds"].keys()
    assert all(size > 10_000 for size in found["page_bytes"].values())
