"""A bulk job: what is asked, the folder it is under way in, and how it goes on after a kill.

OUT.work holds the plan and the parts. A part is a stretch of the input's rows; the line of the
journal about it is written last, so a part whose line is there is done. What is in a part depends
on the plan and its number alone, whoever makes it: so the output is that of a job never disturbed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from unmask import bundle, files, progress
from unmask.bulk.joining import join
from unmask.bulk.parts import Part, answer, embed
from unmask.data.sources import Rows, files_of, read, require
from unmask.engines import Engine
from unmask.engines import engine as engine_of
from unmask.errors import UserError
from unmask.interop import resolve
from unmask.machine.memory import give_back_freed_memory
from unmask.machine.threads import threads_each, use_available_cpus
from unmask.model import Model
from unmask.progress import Advance
from unmask.recipe import Source
from unmask.runtime.stored import load

log = logging.getLogger("unmask")

LAYOUT = 1
ROWS = 4096  # of a part
SUFFIXES = {"predict": (".csv", ".jsonl", ".parquet"), "embed": (".npy", ".jsonl", ".parquet")}
_OURS = ("lock", "plan.json", "parts", "journal", "failed.jsonl")


@dataclass(frozen=True)
class Found:
    """What a job came to."""

    rows: int
    failed: int
    cut: int  # rows of which some text was cut


@dataclass(frozen=True)
class Job:
    """A job in its folder, opened once a process."""

    folder: Path
    given: Model | None = None  # the model, where it is open already

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is asked."""
        plan: dict[str, Any] = files.read_json(self.folder / "plan.json")
        return plan

    @cached_property
    def rows(self) -> Rows:
        """The input."""
        return read(Source(path=self.plan["input"]))

    @cached_property
    def model(self) -> Model:
        """The model that answers."""
        return self.given or load(self.plan["model"])

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-len(self.rows) // int(self.plan["part"]))

    def places(self, number: int) -> range:
        """The rows of a part."""
        size = int(self.plan["part"])
        return range(number * size, min((number + 1) * size, len(self.rows)))

    def line(self, number: int) -> Path:
        """What the journal says of a part."""
        return self.folder / "journal" / f"{number:06d}.json"

    def content(self, number: int) -> Path:
        """A part's answers or vectors."""
        suffix = "npy" if self.plan["verb"] == "embed" else "jsonl"
        return self.folder / "parts" / f"{number:06d}.{suffix}"

    def make(self, number: int, advance: Advance | None = None) -> None:
        """Make a part, unless it is done."""
        if self.line(number).exists():
            return
        part = Part(self.model, self.rows, self.places(number), self.plan, advance)
        make = embed if self.plan["verb"] == "embed" else answer
        with files.told_of_disk(self.folder):
            said = make(part, self.content(number))
            files.write_json(self.line(number), said)
        give_back_freed_memory()  # so that memory does not grow with the number of parts


def run(
    verb: str,
    model: str,
    source: Path,
    output: Path,
    asked: Mapping[str, Any],
    engine: Engine = "processes",
    workers: int = 1,
    part: int = ROWS,
    given: Model | None = None,
) -> Found:
    """Answer all rows of `source` into `output`, or go on with that where it was killed.

    `model` is a bundle or another source of one, and `given` the same where it is open already.
    `asked` is for `predict` its tasks, columns and options, for `embed` its column and width.
    Rows that cannot be answered are put into OUTPUT.failed.jsonl with the reasons. What is under
    way stands in OUTPUT.work, which goes at the end.
    """
    output = output.absolute()
    if output.suffix not in SUFFIXES[verb]:
        raise UserError(f"{output}: the output of {verb} is {', '.join(SUFFIXES[verb])}")
    given = given or load(model)
    folder = output.with_name(f"{output.name}.work")
    plan = {
        "layout": LAYOUT,
        "verb": verb,
        "model": model,
        "weights": _weights(resolve(model)),
        "form": given.form_name,
        "input": str(source),
        "files": [_file(path) for path in files_of([str(source)])],
        "part": part,
        "output": output.suffix,
        **asked,
    }
    plan = json.loads(json.dumps(plan, default=str))
    _check(folder)
    with files.told_of_disk(folder), files.locked(folder):
        known = folder / "plan.json"
        if known.exists() and files.read_json(known) != plan:
            raise UserError(
                f"{folder} was begun with another model, input or options: bring those back, or "
                "remove that folder, or choose another output"
            )
        files.write_json(known, plan)
        job = Job(folder, given)
        try:
            require(job.rows, asked["columns"])
        except UserError:
            _clear(folder)
            raise
        try:
            _make_all(job, engine, workers)
        except BaseException:  # Ctrl-C too
            log.info("what is done is kept in %s: the same command goes on from there", folder)
            raise
        said = [files.read_json(job.line(number)) for number in range(job.parts)]
        found = Found(
            len(job.rows), sum(len(one["failed"]) for one in said), sum(one["cut"] for one in said)
        )
        if found.failed == found.rows:
            _clear(folder)
            raise UserError(f"none of the {found.rows} rows can be answered: {_first(said)}")
        parts = [(job.places(n), job.content(n)) for n in range(job.parts)]
        aside, whole = folder / "failed.jsonl", folder / f"joined{output.suffix}"
        join(job.rows, job.plan, parts, said, whole, aside)
        if found.failed:
            aside.replace(failed_file(output))
        else:
            failed_file(output).unlink(missing_ok=True)  # of a job before
        whole.replace(output)
        _clear(folder)
    if found.failed:
        log.warning(
            "%d of %d rows could not be answered and are in %s; the first: %s",
            found.failed, found.rows, failed_file(output), _first(said),
        )  # fmt: skip
    return found


def _make_all(job: Job, engine: Engine, workers: int) -> None:
    """Make all parts that are not there, on this machine or on many."""
    left = [number for number in range(job.parts) if not job.line(number).exists()]
    if len(left) < job.parts:
        log.info("going on in %s: %d of %d parts are done", job.folder,
                 job.parts - len(left), job.parts)  # fmt: skip
    if not left:
        return
    alone = engine == "processes" and workers == 1
    if alone:
        use_available_cpus()
    threads = 1 if engine == "ray" else threads_each(workers)
    rows = sum(len(job.places(number)) for number in left)
    with progress.bar(job.plan["verb"], rows) as advance, engine_of(engine, workers) as work:
        stage = partial(_here, job, left, advance) if alone else partial(_there, left, threads)
        for _ in work(stage, job.folder, len(left)):
            if not alone:
                advance(rows / len(left))


def _here(job: Job, left: Sequence[int], advance: Advance, folder: Path, unit: int) -> None:
    job.make(left[unit], advance)


def _there(left: Sequence[int], threads: int, folder: Path, unit: int) -> None:
    """In another process, which keeps the model for its next part."""
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)  # a form's streams heed it
    torch.set_num_threads(threads)
    plan = (folder / "plan.json").stat()
    _opened(folder, plan.st_ino, plan.st_mtime_ns).make(left[unit])


def failed_file(output: Path) -> Path:
    """Where the rows go that could not be answered."""
    return output.with_name(f"{output.name}.failed.jsonl")


@lru_cache(maxsize=1)
def _opened(folder: Path, plan: int, written: int) -> Job:
    return Job(folder)


def _clear(folder: Path) -> None:
    """Remove the work, the journal before the plan that it is of."""
    shutil.rmtree(folder / "journal", ignore_errors=True)
    (folder / "plan.json").unlink()
    shutil.rmtree(folder)


def _check(folder: Path) -> None:
    """Refuse a folder of another sort where work would stand."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is where work under way would stand: move that file away")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    odd = sorted(name for name in there if not name.startswith((".", "joined."))
                 and name not in _OURS)  # fmt: skip
    if odd:
        raise UserError(
            f"{folder} is where work under way would stand, and it holds {odd[0]!r}: move that "
            "away, or choose another output"
        )


def _weights(folder: Path) -> Any:
    """What tells a model's files from others."""
    if bundle.is_bundle(folder):
        return files.sha256(folder / bundle.MANIFEST)
    return [_file(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _file(path: Path) -> list[Any]:
    state = path.stat()
    return [str(path.absolute()), state.st_size, state.st_mtime_ns]


def _first(said: Sequence[Mapping[str, Any]]) -> str:
    """Why the first of the rows that failed did."""
    return str(next(reason for one in said for _, reason in one["failed"]))
