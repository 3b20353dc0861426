"""Several processes, started by torchrun and talking over gloo, train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import unmask
from unmask.batch import Example
from unmask.batch import Sequence as Tokens
from unmask.training.checkpoint import newest
from unmask.training.processes import Processes
from unmask.training.share import cut, deal, share_out
from unmask.training.stream import Chunk

WORKER = Path(__file__).parent / "many_processes.py"
STEPS = 20


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Exact arithmetic, and no dropout, whose draws depend on how an update is packed."""
    tiny_recipe["encoder"]["style"] = "modern"
    for task in tiny_recipe["tasks"].values():
        task["valid"] = None
    tiny_recipe["tasks"]["mood"]["head"] = {"dropout": 0}
    # Muon iterates in bf16, so that its weights differ by more than its losses.
    tiny_recipe["train"] |= {"optimiser": "adamw", "precision": "fp32"}
    tiny_recipe["train"] |= {"steps": STEPS, "batch_tokens": 400}
    return tiny_recipe


def torchrun(processes: int, jobs: list[dict[str, Any]], folder: Path) -> subprocess.Popen[str]:
    file = folder / f"jobs-{processes}-{len(list(folder.glob('jobs-*')))}.json"
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*command, f"--nproc-per-node={processes}", WORKER, file],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(run: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([sorted(line["loss"].values()) for line in lines if "loss" in line])


def test_losses_are_those_of_one_process(recipe: dict[str, Any], tmp_path: Path) -> None:
    """1, 2 and 4 processes, weights copied or sharded, 1 microbatch or 4, one task or two."""
    one_task = {**recipe, "tasks": {"words": recipe["tasks"]["words"]}}
    settings = [
        (f"{how}-{at_once}-{len(made['tasks'])}", how, at_once, made)
        for how in ("replicate", "shard")
        for at_once in (8192, 100)
        for made in (one_task, recipe)
    ]
    for processes in (1, 2, 4):
        jobs = [
            {
                "recipe": made,
                "out": str(tmp_path / f"{processes}-{name}"),
                "changes": [f"train.parallel={how}", f"train.microbatch_tokens={at_once}"],
            }
            for name, how, at_once, made in settings
            if processes > 1 or how == "replicate"
        ]
        process = torchrun(processes, jobs, tmp_path)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    for tasks in (1, 2):
        expected = losses(tmp_path / f"1-replicate-8192-{tasks}")
        assert expected.shape[0] == STEPS
        assert expected[-1].mean() < expected[0].mean() - 0.5  # there is something to compare
        for run in tmp_path.glob(f"[124]-*-{tasks}"):
            np.testing.assert_allclose(losses(run), expected, atol=1e-5, rtol=0, err_msg=run.name)
    ours, theirs = (
        load_file(tmp_path / name / "bundle" / "model.safetensors")
        for name in ("1-replicate-8192-2", "4-shard-100-2")
    )
    for name, weight in ours.items():
        np.testing.assert_allclose(theirs[name], weight, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("how", "pull"), [("pcgrad", "even"), ("agem", "tokens"), ("null", "even")]
)
def test_projected_gradients_are_those_of_one_process(
    recipe: dict[str, Any], tmp_path: Path, how: str, pull: str
) -> None:
    """Gradients are whole before they are compared, weights copied or sharded."""
    changes = [f"train.conflicts={how}", f"train.pull={pull}", "train.microbatch_tokens=100"]
    unmask.train(recipe, tmp_path / "1", changes)
    jobs = [
        {
            "recipe": recipe,
            "out": str(tmp_path / f"2-{parallel}"),
            "changes": [*changes, f"train.parallel={parallel}"],
        }
        for parallel in ("replicate", "shard")
    ]
    process = torchrun(2, jobs, tmp_path)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    for run in ("2-replicate", "2-shard"):
        np.testing.assert_allclose(losses(tmp_path / run), losses(tmp_path / "1"), atol=1e-5)
    assert (tmp_path / "2-shard" / "conflicts.json").exists() == (how != "null")


def test_going_on_with_another_number_of_processes(recipe: dict[str, Any], tmp_path: Path) -> None:
    changes = ["train.save_every=5", "train.optimiser=muon", "train.parallel=shard"]
    job = {"recipe": recipe, "changes": changes}
    unmask.train(recipe, tmp_path / "whole", changes)
    for processes, more in ((2, {"end_at": 8}), (4, {"end_at": 13, "resume": True})):
        process = torchrun(processes, [{**job, "out": str(tmp_path / "run"), **more}], tmp_path)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert "the run had processes 2 and has 4 now" in said
    unmask.train(recipe, tmp_path / "run", changes, resume=True)
    expected = losses(tmp_path / "whole")
    assert len(expected) == STEPS
    np.testing.assert_allclose(losses(tmp_path / "run"), expected, atol=1e-5, rtol=0)


def test_a_process_that_dies_ends_the_run_and_costs_nothing_saved(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    job = {"recipe": recipe, "out": str(tmp_path / "run"), "changes": ["train.save_every=5"]}
    process = torchrun(2, [{**job, "exit_at": 13}], tmp_path)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    found = newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.state["meter"]["steps"] == 10
    process = torchrun(2, [{**job, "resume": True}], tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert len(losses(tmp_path / "run")) == STEPS


def test_scoring_on_the_way_while_sharded(recipe: dict[str, Any], tmp_path: Path) -> None:
    path = recipe["tasks"]["words"]["train"]
    recipe["tasks"] = {
        "mood": {**recipe["tasks"]["mood"], "valid": 0.2},
        "tongue": {**recipe["tasks"]["mood"], "valid": 0.2, "label": "lang"},  # shares its pass
        "found": {"kind": "detect", "train": path, "valid": 0.2},
        "pairs": {"kind": "order", "train": path, "valid": 0.2, "input": ["text", "label"]},
    }
    changes = ["train.parallel=shard", "train.steps=6", "train.evaluate_every=2"]
    unmask.train(recipe, tmp_path / "1", changes)
    process = torchrun(
        2, [{"recipe": recipe, "out": str(tmp_path / "2"), "changes": changes}], tmp_path
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    one, two = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("1", "2"))
    assert [(s["task"], s["metric"], s["rows"]) for s in one] == [
        (s["task"], s["metric"], s["rows"]) for s in two
    ]
    values = [[s["value"] for s in scores if s["metric"] == "loss"] for scores in (one, two)]
    np.testing.assert_allclose(*values, atol=1e-3)


def examples(*lengths: int) -> list[Example]:
    from unmask.batch import Segment

    return [Example((Tokens((Segment(np.arange(n)),)),), ()) for n in lengths]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_example_is_counted_once(size: int) -> None:
    own = examples(9, 3, 4, 12, 5, 1)
    chunks = [Chunk("a", own, 6), Chunk("b", own[:1], 1)]
    shares = [share_out(chunks, 12, Processes(rank, size)) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1  # all make the same steps
    for place in zip(*shares, strict=True):
        assert len({micro.task for micro in place}) == 1
    counted = [
        e.length for s in shares for m in s if m.counted and m.task == "a" for e in m.examples
    ]
    assert sorted(counted) == [1, 3, 4, 5, 9, 12]
    assert sum(m.counted for share in shares for m in share if m.task == "b") == 1


def test_hands_are_even_and_pieces_fit() -> None:
    own = examples(*range(1, 40))
    totals = [sum(e.length for e in hand) for hand in deal(own, 4)]
    assert max(totals) - min(totals) <= 4
    pieces = cut(own, 50)
    assert [e for piece in pieces for e in piece] == own
    assert all(sum(e.length for e in piece) <= 50 for piece in pieces)
    assert [len(piece) for piece in cut(examples(80, 80), 50)] == [1, 1]
