"""Every recipe of the house trains as it stands, and learns something. Minutes each."""

from __future__ import annotations

import os
import re
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
