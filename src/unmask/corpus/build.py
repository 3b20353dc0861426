"""Building a corpus, read from top to bottom."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from unmask import files, progress, recipe
from unmask.corpus.matching import match_part, parts
from unmask.corpus.normalise import REASONS
from unmask.corpus.options import CorpusRecipe
from unmask.corpus.page import render
from unmask.corpus.reading import read_unit, units
from unmask.corpus.sketching import sketch_block
from unmask.corpus.statistics import statistics
from unmask.corpus.work import Work, opened
from unmask.corpus.writing import write_shard
from unmask.data.corpus import LAYOUT, MANIFEST, TOKENIZER, is_corpus
from unmask.engines import Engine, Run, Stage
from unmask.engines import engine as engine_of
from unmask.errors import UserError
from unmask.machine.threads import available_cpus

log = logging.getLogger("unmask")

# What a process takes before it has work, and what its work takes beside what it is given.
_BASE, _STAGE = 160 << 20, 192 << 20
LEAST = 2 * _BASE + _STAGE
PAGE, FIGURES = "statistics.html", "statistics.json"


def build(
    source: str | Path | Mapping[str, Any],
    out: str | Path,
    changes: Iterable[str] = (),
    memory: int = 2 << 30,
    workers: int | None = None,
    engine: Engine = "processes",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Build the corpus of a recipe (a file, or its content) in the folder `out`; its statistics.

    `memory` is for all processes together, in bytes; `workers` as many as there are processors and
    as it has room for, unless said. The result is the same whatever they and the engine are. What
    is under way stands in `OUT.work`. After a kill the same call goes on from there, and it is
    removed at the end. A corpus that stands at `out` is replaced only with `overwrite`, by a whole
    one.
    """
    content = source if isinstance(source, Mapping) else Path(source)
    options = recipe.checked(CorpusRecipe, recipe.read(content, changes))
    workers = _workers(memory, workers)
    out = Path(out).absolute()
    if overwrite and not is_corpus(str(out)) and not files.empty_or_new(out):
        raise UserError(f"{out} is there and is no corpus: choose another folder with --out")
    folder = out.with_name(f"{out.name}.work")
    plan = {
        "layout": LAYOUT,
        "recipe": options.model_dump(mode="json"),
        "tokenizer": files.sha256(_tokenizer(options)),
        "units": units(options.sources),
    }
    with files.told_of_disk(folder), Work(folder).locked():
        left = folder / "plan.json"
        known = files.read_json(left) if left.exists() else None
        if known == plan and (out / MANIFEST).exists() and not Work(folder).corpus.exists():
            _clear(folder)  # it was killed when nothing but that was left to do
            return dict(files.read_json(out / FIGURES))
        if out.exists() and not overwrite:
            if known is None:
                _clear(folder)
            raise UserError(f"{out} is there already: choose another folder, or give --overwrite")
        _begin(folder, plan, known, options, overwrite)
        work = opened(folder)
        with engine_of(engine, workers) as run:
            _each(run, "read", read_unit, folder, len(work.plan["units"]))
            if not work.blocks:
                why = _nothing(work)
                _clear(folder)  # nothing in it is worth going on with
                raise UserError(why)
            _warn_of_empty(work)
            _each(run, "sketch", sketch_block, folder, len(work.blocks))
            room = (memory - _BASE) // workers - _BASE
            files.write_json(folder / "parts.json", parts(work, room))
            _each(run, "compare", match_part, folder, work.parts)
            _each(run, "tokenise", write_shard, folder, len(work.shards))
        return _finish(work, out)


def _each(run: Run, name: str, stage: Stage, folder: Path, units: int) -> None:
    with progress.bar(name, units, unit="units") as advance:
        for _ in run(stage, folder, units):
            advance(1)


def _warn_of_empty(work: Work) -> None:
    """Say which of several sources gave no document, as where `only` chooses none."""
    read = Counter[int]()
    for number, unit in enumerate(work.plan["units"]):
        groups = files.read_json(work.read(number))["groups"].values()
        read[unit["source"]] += sum(group["read"] for group in groups)
    for number, source in enumerate(work.recipe.sources):
        if not read[number]:
            log.warning("`sources.%d` (%s) gives no document", number, source.path)


def _workers(memory: int, wanted: int | None) -> int:
    """How many processes there are, and have room."""
    if memory < LEAST:
        raise UserError(
            f"memory of {memory >> 20} MB is too little to build in: give {LEAST >> 20} MB or more"
        )
    room = (memory - _BASE) // (_BASE + _STAGE)
    workers = wanted or available_cpus()
    if workers > room:
        log.info("%d processes in place of %d: more do not fit the memory", room, workers)
    return min(workers, room)


def _tokenizer(options: CorpusRecipe) -> Path:
    """The recipe's tokenizer file, made sure to be one."""
    place = Path(options.tokenizer).expanduser()
    path = place / TOKENIZER if place.is_dir() else place
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a broken file
        raise UserError(
            f"`tokenizer`: {path} is not a tokenizer that this version reads ({error}); name a "
            "folder with tokenizer.json"
        ) from None
    if not tokenizer.get_vocab_size(with_added_tokens=True):
        raise UserError(f"`tokenizer`: {path} has an empty vocabulary")
    return path


def _begin(
    folder: Path,
    plan: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    options: CorpusRecipe,
    overwrite: bool,
) -> None:
    """Go on with what was begun, if it was the same; else begin."""
    if known == plan and Work(folder).corpus.exists():
        log.info("going on in %s", folder)
        opened(folder).sweep()
        return
    work = Work(folder)
    if known and not overwrite and work.corpus.exists() and _only_unread(work, known, plan):
        log.info("going on in %s; files that had not been read have changed", folder)
        work.sweep()
        for unit in range(len(plan["units"])):
            if not work.read(unit).exists():  # what of it was begun
                for block in work.folder.glob(f"blocks/{unit:05d}-*"):
                    block.unlink()
        files.write_json(folder / "plan.json", plan)
        return
    if known not in (None, plan) and not overwrite and any(work.folder.glob("read/*.json")):
        raise UserError(
            f"{folder} was begun with another recipe, other files or another tokenizer: bring "
            "those back, begin anew with --overwrite, or choose another folder"
        )
    _clear(folder)
    work.corpus.mkdir(parents=True)
    with files.new_file(work.tokenizer) as partial:
        shutil.copyfile(_tokenizer(options), partial)
    files.write_json(folder / "plan.json", plan)  # last: without it nothing here counts


def _only_unread(work: Work, known: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether a plan is another only in files that are not read yet, such as one just mended."""
    old, new = known["units"], plan["units"]
    return (
        {**known, "units": new} == plan
        and len(old) == len(new)
        and not any(work.read(i).exists() for i in range(len(new)) if old[i] != new[i])
    )


def _clear(folder: Path) -> None:
    """Remove all that was begun, the plan first."""
    (folder / "plan.json").unlink(missing_ok=True)
    shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    folder.rmdir()


def _nothing(work: Work) -> str:
    units = range(len(work.plan["units"]))
    groups = [g for unit in units for g in files.read_json(work.read(unit))["groups"].values()]
    reasons = sorted({reason for group in groups for reason in group["dropped"]})
    why = "; ".join(f"{reason}: {REASONS[reason]}" for reason in reasons) or "they have no rows"
    return f"no document of the sources is left ({why}): mend them, or the recipe"


def _finish(work: Work, out: Path) -> dict[str, Any]:
    """Write manifest and statistics, and move the corpus to its place in one step."""
    done = [files.read_json(work.shard(number)) for number in range(len(work.shards))]
    found = statistics(work, done)
    files.write_json(work.corpus / FIGURES, found)
    files.write_text(work.corpus / PAGE, render(found))
    shards = [one["shard"] for shard in done for one in shard["shards"]]
    manifest = {
        "layout": LAYOUT,
        "recipe": work.plan["recipe"],
        "tokenizer": {"sha256": work.plan["tokenizer"]},
        "groups": work.groups,
        "shards": sorted(shards, key=lambda shard: (shard["split"], shard["name"])),
        "files": {name: files.sha256(work.corpus / name) for name in (FIGURES, PAGE)},
    }
    files.write_json(work.corpus / MANIFEST, manifest)
    if out.exists():
        out.replace(work.folder / "replaced")
    work.corpus.replace(out)
    _clear(work.folder)
    return found
