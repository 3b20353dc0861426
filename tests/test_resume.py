"""A run that was killed goes on as if it had never stopped."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import unmask
from unmask import bundle
from unmask.errors import UserError
from unmask.files import sha256
from unmask.training import loop as loops
from unmask.training.checkpoint import newest
from unmask.training.stop import Stop

UNMASK = Path(sys.executable).parent / "unmask"


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Two tasks, dropout, scores on the way, a checkpoint every other update."""
    tiny_recipe["train"] |= {
        "steps": 12,
        "save_every": 2,
        "evaluate_every": 5,
        "optimiser": "muon",
        "batch_warmup": 0.5,
    }
    return tiny_recipe


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C raises, as in a process of one's own, whatever other tests made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class KilledError(Exception):
    """What stands for a kill where one process is enough."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run dies in the midst of this update."""
    whole = loops.gradient

    def gradient(model: Any, chunks: Any, options: Any, number: int, *more: Any) -> Any:
        if number == step:
            monkeypatch.setattr(loops, "gradient", whole)
            raise KilledError
        return whole(model, chunks, options, number, *more)

    monkeypatch.setattr(loops, "gradient", gradient)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock said."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same(a: Path, b: Path) -> None:
    """Two runs left the same log, scores and weights, bit for bit."""
    assert log_of(a) == log_of(b)
    assert (a / "scores.json").read_text() == (b / "scores.json").read_text()
    ours, theirs = (load_file(run / "bundle" / "model.safetensors") for run in (a, b))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("optimiser", ["adamw", "stable_adamw", "muon"])
def test_going_on_is_never_having_stopped(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimiser: str
) -> None:
    recipe["train"]["optimiser"] = optimiser
    unmask.train(recipe, tmp_path / "whole")
    for step in (1, 4, 9, 12):  # before the first checkpoint, right after one, after a score
        kill_at(step, monkeypatch)
        with pytest.raises(KilledError):
            unmask.train(recipe, tmp_path / "broken", resume=True)
    unmask.train(recipe, tmp_path / "broken", resume=True)
    same(tmp_path / "whole", tmp_path / "broken")
    assert len(list((tmp_path / "broken" / "checkpoints").glob("step-*"))) == 1


def test_scales_of_int8_are_found_again(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = unmask.train(recipe, tmp_path / "plain")
    recipe["train"]["simulate"] = "int8"
    unmask.train(recipe, tmp_path / "whole")
    kill_at(9, monkeypatch)  # between two evaluations, at which scales are measured
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "broken")
    unmask.train(recipe, tmp_path / "broken", resume=True)
    same(tmp_path / "whole", tmp_path / "broken")
    assert log_of(tmp_path / "whole") != log_of(tmp_path / "plain")  # it does something
    ours, theirs = (load_file(tmp_path / run / "bundle" / "model.safetensors")
                    for run in ("whole", "plain"))  # fmt: skip
    assert ours.keys() == theirs.keys()  # and a bundle is what it was
    assert {t.dtype for t in ours.values()} == {torch.float32}
    assert plain.model.form_name == bundle.load(tmp_path / "whole" / "bundle").form_name


@pytest.mark.parametrize("other", [{"frozen": True}, {"parallel": "shard"}])
def test_int8_needs_a_trunk_that_learns(
    recipe: dict[str, Any], tmp_path: Path, other: dict[str, Any]
) -> None:
    recipe["train"] |= {"simulate": "int8", **other}
    with pytest.raises(UserError, match=r"simulate and .* do not go together"):
        unmask.train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "generate", "target": "said"}, "task other writes"),
        ({"kind": "mlm", "adapter": "small"}, "task other has an adapter"),
        ({"kind": "reconstruct", "input": {"image": "picture"}}, "task other reads more than text"),
    ],
)
def test_int8_is_for_tasks_that_a_form_serves(
    recipe: dict[str, Any], tmp_path: Path, task: dict[str, Any], said: str
) -> None:
    """What it refuses leaves the run alone that stands there."""
    unmask.train(recipe, tmp_path / "run")
    stood = sha256(tmp_path / "run" / "bundle" / "model.safetensors")
    rows = tmp_path / "rows.jsonl"
    picture = tmp_path / "picture.png"
    Image.new("RGB", (16, 16), "red").save(picture)
    row = {"text": "some text", "said": "some more", "picture": str(picture)}
    rows.write_text("".join(json.dumps(row | {"text": f"text {i}"}) + "\n" for i in range(12)))
    recipe["encoder"] |= {"adapters": {"small": {"rank": 2}}, "image": {"size": 16, "patch": 8}}
    recipe["tasks"]["other"] = {"train": str(rows), "valid": None, **task}
    recipe["train"]["simulate"] = "int8"
    with pytest.raises(UserError, match=said):
        unmask.train(recipe, tmp_path / "run", overwrite=True)
    assert sha256(tmp_path / "run" / "bundle" / "model.safetensors") == stood


@pytest.mark.parametrize("valid", [None, 0.2])
def test_a_run_killed_after_its_last_update_goes_on(
    recipe: dict[str, Any], tmp_path: Path, valid: float | None
) -> None:
    for task in recipe["tasks"].values():
        task["valid"] = valid
    unmask.train(recipe, tmp_path / "whole")
    unmask.train(recipe, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "bundle")
    (tmp_path / "broken" / "scores.json").unlink()
    unmask.train(recipe, tmp_path / "broken", resume=True)
    same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.alone
@pytest.mark.parametrize("step", [5, 12])
def test_a_signal_amid_scoring_costs_nothing(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    unmask.train(recipe, tmp_path / "whole")
    whole = loops.evaluate

    def evaluate(model: Any, *more: Any) -> Any:
        if len(log_of(tmp_path / "broken")) >= step:
            signal.raise_signal(signal.SIGINT)
        return whole(model, *more)

    monkeypatch.setattr(loops, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        unmask.train(recipe, tmp_path / "broken")
    monkeypatch.setattr(loops, "evaluate", whole)
    found = newest(tmp_path / "broken" / "checkpoints")
    assert found is not None
    assert found.state["meter"]["steps"] in (step, step - 2)  # -2: lines of scores come in between
    unmask.train(recipe, tmp_path / "broken", resume=True)
    same(tmp_path / "whole", tmp_path / "broken")


def test_a_finished_run_is_left_alone(
    recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = unmask.train(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "bundle" / "manifest.json").stat().st_mtime_ns
    caplog.set_level("INFO", "unmask")
    again = unmask.train(recipe, tmp_path / "run", resume=True)
    assert "is finished" in caplog.text
    assert [s.record() for s in again.scores] == [s.record() for s in first.scores]
    assert (tmp_path / "run" / "bundle" / "manifest.json").stat().st_mtime_ns == before


def test_a_larger_budget_goes_on_when_forced(
    recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unmask.train(recipe, tmp_path / "run")
    longer = ["train.steps=16"]
    with pytest.raises(UserError, match=r"another recipe \(train.steps: 12 there, 16 here\)"):
        unmask.train(recipe, tmp_path / "run", longer, resume=True)
    unmask.train(recipe, tmp_path / "run", longer, resume=True, force=True)
    steps = [line["step"] for line in log_of(tmp_path / "run") if "loss" in line]
    assert steps == list(range(1, 17))
    assert [line["step"] for line in log_of(tmp_path / "run") if "valid" in line][-1] == 16
    assert "going on all the same" in caplog.text
    with pytest.raises(UserError, match="a run's encoder stays what it is"):
        unmask.train(
            recipe, tmp_path / "run", [*longer, "encoder.shape=mini"], resume=True, force=True
        )


def test_a_run_of_before_some_options_goes_on(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its recipe and its state lack them, and it goes on as if they were at their defaults."""
    unmask.train(recipe, tmp_path / "whole")
    kill_at(9, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    older(tmp_path / "run" / "recipe.yaml")
    checkpoint = newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    state = checkpoint.state
    state["guard"] = {"taken": state["guard"]["taken"], "norms": state["guard"]["norms"]}
    state["guard"]["lost"] = [1]
    del state["meter"]["before"], state["meter"]["since"]
    (checkpoint.path / "state.json").write_text(json.dumps(state))
    hashed(checkpoint.path, "state.json")
    unmask.train(recipe, tmp_path / "run", resume=True)
    same(tmp_path / "whole", tmp_path / "run")

    before = (tmp_path / "run" / "bundle" / "model.safetensors").stat().st_mtime_ns
    older(tmp_path / "run" / "bundle" / "recipe.yaml")
    hashed(tmp_path / "run" / "bundle", "recipe.yaml")
    unmask.train(recipe, tmp_path / "run", resume=True)  # it is finished
    assert (tmp_path / "run" / "bundle" / "model.safetensors").stat().st_mtime_ns == before


def older(path: Path) -> None:
    """Take out of a recipe what came later."""
    recipe = yaml.safe_load(path.read_text())
    for key in ("lost_task", "conflicts", "pull"):
        del recipe["train"][key]
    del recipe["mixture"]["towards"], recipe["tasks"]["mood"]["reverse"]
    for task in recipe["tasks"].values():
        del task["teacher"], task["teacher_share"]
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))


def hashed(folder: Path, name: str) -> None:
    """Let the manifest say what a file is now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_other_rows_are_said_and_refused(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(6, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    path = Path(recipe["tasks"]["mood"]["train"])
    path.write_text(path.read_text() + "the film was good,pos,en\nthe film was red,neg,en\n")
    with pytest.raises(UserError, match="other rows of mood, words"):
        unmask.train(recipe, tmp_path / "run", resume=True)
    unmask.train(recipe, tmp_path / "run", resume=True, force=True)
    with pytest.raises(UserError, match="choose one of them"):
        unmask.train(recipe, tmp_path / "run", resume=True, overwrite=True)


@pytest.mark.parametrize("harm", ["cut", "flip", "lose", "state", "manifest"])
def test_a_broken_checkpoint_gives_way_to_the_one_before(
    recipe: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    harm: str,
) -> None:
    unmask.train(recipe, tmp_path / "whole")
    kill_at(9, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    places = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in places.glob("step-*")) == ["step-000000006", "step-000000008"]
    file = (
        places / "step-000000008" / ("state.json" if harm == "state" else "optimiser.safetensors")
    )
    content = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(content[:-100])
    elif harm in ("lose", "manifest"):
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    unmask.train(recipe, tmp_path / "run", resume=True)
    assert "step-000000008" in caplog.text
    assert "this checkpoint is passed over" in caplog.text
    same(tmp_path / "whole", tmp_path / "run")


def test_stages_go_on_where_they_were(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tiny_recipe.pop("tasks")
    tiny_recipe["train"]["save_every"] = 2
    tiny_recipe["stages"] = {
        "pretrain": {"tasks": {"words": tasks["words"]}},
        "learn": {"tasks": tasks},
    }
    unmask.train(tiny_recipe, tmp_path / "whole")
    for _ in range(2):  # in the first stage, then in the second
        kill_at(5, monkeypatch)
        with pytest.raises(KilledError):
            unmask.train(tiny_recipe, tmp_path / "broken", resume=True)
    unmask.train(tiny_recipe, tmp_path / "broken", resume=True)
    same(tmp_path / "whole", tmp_path / "broken")
    same(tmp_path / "whole" / "stages" / "pretrain", tmp_path / "broken" / "stages" / "pretrain")


def test_when_no_checkpoint_is_whole_the_run_does_not_begin_anew_by_itself(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(9, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
        (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is whole: bring one back, or begin anew with --overwrite"):
        unmask.train(recipe, tmp_path / "run", resume=True)


def test_a_larger_budget_that_was_killed_is_not_finished(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmask.train(recipe, tmp_path / "run")
    longer = ["train.steps=20"]
    kill_at(15, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run", longer, resume=True, force=True)
    unmask.train(recipe, tmp_path / "run", longer, resume=True)
    steps = [line["step"] for line in log_of(tmp_path / "run") if "loss" in line]
    assert steps == list(range(1, 21))


def test_a_stage_that_is_trained_on_carries_the_later_ones_along(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    tasks = tiny_recipe.pop("tasks")
    words = {**tasks["words"], "valid": None}  # so that the last state is kept, not the best
    stages = {"one": {"tasks": {"words": words}}, "two": {"tasks": tasks}}
    tiny_recipe["stages"] = stages
    unmask.train(tiny_recipe, tmp_path / "run")
    before = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    longer = ["stages.one.train.steps=9"]
    unmask.train(tiny_recipe, tmp_path / "run", longer, resume=True, force=True)
    after = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_what_a_kill_leaves_at_the_very_end_is_tidied(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    unmask.train(recipe, run)
    (run / "scores.json").unlink()
    for left in (".scores.json.abcd1234", "checkpoints/.step-000000010.replaced"):
        (run / left).mkdir()
    for kept in (".env.settings", "checkpoints/step-000000006-mine"):
        (run / kept).mkdir()
    unmask.train(recipe, run, resume=True)
    assert (run / "scores.json").is_file()
    assert sorted(p.name for p in run.rglob(".*")) == [".env.settings"]
    assert (run / "checkpoints" / "step-000000006-mine").is_dir()


def test_a_folder_with_leftovers_alone_is_an_empty_one(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.yaml.abcd1234").write_text("enc")
    unmask.train(recipe, tmp_path / "run", resume=True)
    assert not list((tmp_path / "run").rglob(".*"))


def test_the_best_is_chosen_anew_where_it_is_gone(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(9, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "best")
    unmask.train(recipe, tmp_path / "run", resume=True)
    bundle.verify(tmp_path / "run" / "checkpoints" / "best")


def test_a_lost_log_goes_on_with_what_is_there(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (7, 11):
        kill_at(step, monkeypatch)
        with pytest.raises(KilledError):
            unmask.train(recipe, tmp_path / "run", resume=True)
        if step == 7:
            (tmp_path / "run" / "metrics.jsonl").unlink()
    unmask.train(recipe, tmp_path / "run", resume=True)
    steps = [line["step"] for line in log_of(tmp_path / "run") if "loss" in line]
    assert steps == list(range(7, 13))


def test_an_ignored_signal_stays_ignored(recipe: dict[str, Any], tmp_path: Path) -> None:
    """As for a command that a script started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.asked is None
    finally:
        signal.signal(signal.SIGINT, before)


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [UNMASK, "train", recipe, "--out", out, "--resume", *more],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def written(recipe: dict[str, Any], path: Path, steps: int) -> Path:
    recipe = copy.deepcopy(recipe)
    recipe["train"] |= {"steps": steps, "save_every": 7, "evaluate_every": 25}
    path.write_text(yaml.safe_dump(recipe))
    return path


def killed_and_resumed(recipe: dict[str, Any], tmp_path: Path, kills: int, steps: int) -> None:
    """A run killed at random moments, resumed each time, against one that was left alone."""
    path = written(recipe, tmp_path / "recipe.yaml", steps)
    began = time.monotonic()
    whole = start(path, tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr and whole.stderr.read()
    took = time.monotonic() - began
    dice = random.Random(0)
    done = finished = 0
    while done < kills:
        process = start(path, tmp_path / "broken")
        try:
            process.wait(timeout=dice.uniform(0.5, 0.95) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        else:  # it came to its end: once more from the start
            assert process.returncode == 0, process.stderr and process.stderr.read()
            same(tmp_path / "whole", tmp_path / "broken")
            finished += 1
            (tmp_path / "broken").rename(tmp_path / f"finished-{finished}")
    last = start(path, tmp_path / "broken")
    assert last.wait() == 0
    same(tmp_path / "whole", tmp_path / "broken")
    assert not list((tmp_path / "broken").rglob(".*"))


def test_sigkill_at_random_moments(recipe: dict[str, Any], tmp_path: Path) -> None:
    killed_and_resumed(recipe, tmp_path, kills=3, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sigkill_25_times(recipe: dict[str, Any], tmp_path: Path) -> None:
    killed_and_resumed(recipe, tmp_path, kills=25, steps=200)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_within_the_step(
    recipe: dict[str, Any], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path = written(recipe, tmp_path / "recipe.yaml", 100_000)
    process = start(path, tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 30:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "is saved; go on from there with --resume" in said
    assert "unmask: stopped" in said or "unmask: terminated" in said
    assert "Traceback" not in said
    steps = max(line["step"] for line in log_of(tmp_path / "run"))
    found = newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.state["meter"]["steps"] == steps  # nothing of the run is lost
    assert not list((tmp_path / "run").rglob(".*"))
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_hundred_kills_while_saving(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_saves.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "checkpoints", "100"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == 100
    assert report["amid"] >= 10, "too few of the kills met a half-written checkpoint"


def test_the_clock_of_the_run_cannot_be_set(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wall-clock time that jumps a year on and a year back changes neither budget nor log."""
    recipe["train"] |= {"minutes": 0.03}
    del recipe["train"]["steps"]
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 3e7 * (-1) ** next(jumps))
    unmask.train(recipe, tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "loss" in line]
    assert seconds == sorted(seconds)
    assert 1.8 <= seconds[-1] < 60


def test_elapsed_minutes_are_kept(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["train"] |= {"minutes": 0.05}
    del recipe["train"]["steps"]
    kill_at(9, monkeypatch)
    with pytest.raises(KilledError):
        unmask.train(recipe, tmp_path / "run")
    found = newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    used = found.state["meter"]["seconds"]
    unmask.train(recipe, tmp_path / "run", resume=True)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "loss" in line]
    assert seconds == sorted(seconds)
    assert seconds[found.state["meter"]["steps"]] > used > 0  # the first line after going on
    assert seconds[-1] >= 3.0


def test_a_full_disk_leaves_the_checkpoint_before(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmask.train(recipe, tmp_path / "whole")
    from unmask.training import checkpoint

    real = checkpoint.save_file
    writes = iter(range(100))

    def full(*args: Any) -> None:
        real(*args)
        if next(writes) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        unmask.train(recipe, tmp_path / "run")
    monkeypatch.undo()
    places = tmp_path / "run" / "checkpoints"
    for path in places.glob("step-*"):
        bundle.verify(path)
    assert not list(places.glob(".*"))
    unmask.train(recipe, tmp_path / "run", resume=True)
    same(tmp_path / "whole", tmp_path / "run")
