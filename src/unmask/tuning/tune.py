"""`unmask tune`: the fastest faithful form of a bundle on this machine, kept in the bundle."""

from __future__ import annotations

import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from unmask import bundle as bundles
from unmask import files, progress
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.held import own_run, rows_of
from unmask.machine.threads import available_cpus, threads_each
from unmask.model import Model
from unmask.runtime.engines import ENGINES
from unmask.runtime.exits import GONE, has_exits
from unmask.runtime.stored import CHOICE, FORMS, TORCH, Settings, lacks, put, split
from unmask.tuning.contract import Tolerance, measure, refusals
from unmask.tuning.making import make

log = logging.getLogger("unmask")

PRECISIONS = ("fp32", "bf16")  # that are tried unasked: nothing is quantised unless it is asked for
BASE = f"{TORCH}-fp32"
ROUNDS = 3  # of each setting; the middle one counts
FEWEST = 8
_TEXTS, _EACH = 96, 32  # texts that speed is measured on, and more for each processor


@dataclass
class Tried:
    """What became of a form: its settings and speed, its contract, or why it was not kept."""

    form: str
    settings: Settings | None = None
    texts_per_second: float | None = None
    ratio: float | None = None  # to torch in fp32
    refused: list[str] = field(default_factory=list)
    contract: dict[str, Any] | None = None


def tune(
    path: Path,
    texts: Sequence[str] | None = None,
    to: Sequence[str] = (),
    tolerance: Tolerance | None = None,
    rows: int = 500,
) -> dict[str, Any]:
    """Try forms on texts, keep the fastest within the tolerance in the bundle; what was found.

    `to` names forms (`openvino-int8`), precisions or engines; without it everything in fp32 and
    bf16 is tried that this machine can run. Texts are those of the bundle's held-out rows unless
    given. Nothing is kept where a form that was asked for is refused: that is a UserError.
    """
    if not bundles.is_bundle(path):
        raise UserError(f"{path} is no bundle: make one with `unmask import`")
    tolerance = tolerance or Tolerance()
    model = bundles.load(path)
    labelled = _labelled(path, model, rows)
    texts = _texts(model, texts, labelled)[:rows]
    tried = [Tried(name) for name in _wanted(to)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        _once(model, texts),
        progress.bar("tune", len(tried), unit="") as advance,
    ):
        for one in tried:
            _try(one, path, model, Path(scratch) / one.form, texts, labelled, tolerance)
            advance(1, one.form)
        if to and all(one.refused for one in tried[1:]):
            said = "; ".join(f"{one.form}: {', '.join(one.refused)}" for one in tried[1:])
            raise UserError(f"nothing was kept, for no form is within the tolerance: {said}")
        best = max((one for one in tried if not one.refused), key=lambda one: one.ratio or 0)
        found = _found(best, tried, tolerance, len(texts))
        _keep(path, best, Path(scratch) / best.form, found)
    return found


def _try(
    one: Tried,
    path: Path,
    model: Model,
    folder: Path,
    texts: Sequence[str],
    labelled: Mapping[str, Rows],
    tolerance: Tolerance,
) -> None:
    """Make a form, measure its contract and, where it is within the tolerance, its speed."""
    kind = split(one.form)[0]
    long = {name for name, task in model.tasks.items() if task.many_passes}
    if kind != TORCH and long and long == set(model.tasks):
        one.refused = ["all its tasks write texts, which only torch does"]
        return
    if (reason := lacks(one.form)) is not None:
        one.refused = [reason]
        return
    if kind != TORCH or one.form == BASE:  # writing is as it was
        labelled = {name: rows for name, rows in labelled.items() if name not in long}
    folder.mkdir()
    make(model, path, one.form, folder, texts)
    form = bundles.load(path)
    ways = _settings(one.form)
    put(form, folder, one.form, ways[0])
    one.contract = measure(model, form, texts, labelled)
    one.refused = refusals(one.contract, tolerance)
    if one.refused:
        return
    few = texts[:: -(-len(texts) // (_TEXTS + _EACH * available_cpus()))]
    for way in ways:
        if way != ways[0]:
            put(form, folder, one.form, way)
        speed, ratio = _speed(model, form, few)
        if one.ratio is None or ratio > one.ratio:
            one.settings, one.texts_per_second, one.ratio = way, speed, ratio


def _wanted(to: Sequence[str]) -> list[str]:
    """The forms to try, torch in fp32 first, which all are measured against."""
    every = [f"{e}-{p}" for e in (*ENGINES, TORCH) for p in ("fp32", "bf16", "int8")]
    unasked = [name for name in every if split(name)[1] in PRECISIONS]
    found = [name for one in to for name in every if one in (name, *split(name))]
    for one in to:
        if not any(one in (name, *split(name)) for name in every):
            split(one)  # says what there is
    missing = [name for name in found if name in to and lacks(name) is not None]
    if missing:
        raise UserError(f"form {missing[0]}: {lacks(missing[0])}")
    return list(dict.fromkeys([BASE, *(found if to else unasked)]))


def _settings(name: str) -> list[Settings]:
    """The ways to run a form that are worth a try."""
    most = threads_each()
    if split(name)[0] == TORCH:
        return [Settings(most, 4096, "cuda" if torch.cuda.is_available() else "cpu")]
    return [Settings(n, tokens) for n in sorted({1, most}) for tokens in (1024, 4096)]


def _speed(model: Model, form: Model, texts: Sequence[str]) -> tuple[float, float]:
    """Texts a second of a form, and how many times as many as torch in fp32 has.

    Both run in turn, so that a busy moment hits both; the first round compiles kernels.
    """
    seconds: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        marks = [time.perf_counter()]
        for one in (form, model):
            one.encode(texts)
            marks.append(time.perf_counter())
        seconds.append((marks[1] - marks[0], marks[2] - marks[1]))
    ratios = [theirs / ours for ours, theirs in seconds[1:]]
    return len(texts) / median(ours for ours, _ in seconds[1:]), median(ratios)


def _keep(path: Path, best: Tried, folder: Path, found: Mapping[str, Any]) -> None:
    """Write the form and the choice into the bundle; forms that stood there before go."""

    def write(bundle: Path) -> None:
        if has_exits(bundle):
            log.warning("%s answered early; the form that is kept now computes all layers", path)
            card = bundle / "README.md"
            said = card.read_text(encoding="utf-8") if card.is_file() else ""
            files.write_text(card, said + GONE)
        shutil.rmtree(bundle / FORMS, ignore_errors=True)
        shutil.copytree(folder, bundle / FORMS / best.form)  # empty for torch's
        files.write_json(bundle / FORMS / best.form / "contract.json", best.contract)
        files.write_json(bundle / CHOICE, found)

    bundles.change(path, write)


def _found(best: Tried, tried: Sequence[Tried], tolerance: Tolerance, texts: int) -> dict[str, Any]:
    assert best.settings is not None  # it was timed
    return {
        "form": best.form,
        "settings": asdict(best.settings),
        "texts": texts,
        "tried": [asdict(one) for one in tried],
        "tolerance": tolerance.model_dump(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cpus": available_cpus(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {
            name: version(name) for name in ("unmask", "torch", *ENGINES) if _is_there(name)
        },
    }


def _labelled(path: Path, model: Model, most: int) -> dict[str, Rows]:
    """Held-out rows of each task, as far as the recipe's can still be read."""
    run = own_run(path)
    found: dict[str, Rows] = {}
    for name, options in (run.tasks if run else {}).items():
        if name not in model.tasks:
            continue
        try:
            splits, _ = rows_of(name, options, run.train.seed if run else 0)
        except UserError as error:
            log.warning("task %s: its score is not compared (%s)", name, error)
            continue
        rows = splits.valid if splits.valid is not None else splits.test
        if rows is not None and len(rows):
            found[name] = rows[:most]
    return found


def _texts(model: Model, given: Sequence[str] | None, rows: Mapping[str, Rows]) -> list[str]:
    found = list(given or ())
    if given is None:
        for name, own in rows.items():
            found += [text for row in own for text in model.task(name).texts(row)]
    found = [text for text in dict.fromkeys(found) if text.strip()]
    if len(found) < FEWEST:
        raise UserError(
            f"forms are tried on texts, and there are {len(found)} different ones that are not "
            f"empty; give {FEWEST} or more, such as a few hundred of yours, with --texts FILE"
        )
    return found


@contextmanager
def _once(model: Model, texts: Sequence[str]) -> Iterator[None]:
    """Say once, and not for each form anew, how many texts are cut."""
    cut = sum(model.tokenize(text).dropped > 0 for text in texts)
    if cut:
        log.warning("%d of %d texts are cut to %d tokens", cut, len(texts), model.text.max_length)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _is_there(name: str) -> bool:
    return name not in ENGINES or lacks(f"{name}-fp32") is None
