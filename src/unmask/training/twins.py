"""The cost of togetherness: a recipe's tasks trained together, and each of them alone.

A twin is a run of one of the tasks: the same encoder to start from, the same vocabulary, rows,
options and seed, and of the budget what the task has of it in the mixture.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unmask import bundle, files, recipe
from unmask.data.splits import split_rows
from unmask.errors import UserError
from unmask.evaluation.bootstrap import LEVEL
from unmask.evaluation.page.twins import render
from unmask.evaluation.pairs import Scored, compare, held_rows, scored
from unmask.model import Model
from unmask.recipe import NewTokenizer, Run
from unmask.tasks import OPTIONS
from unmask.training.guard import LostError
from unmask.training.processes import first_process
from unmask.training.run import train
from unmask.training.stream import MixedStream

log = logging.getLogger("unmask")

UPDATES, UPDATE_TOKENS = 100, 2048  # that are drawn to see how the mixture shares its tokens
LEAST = 300  # updates of a twin with a budget of tokens; a few dozen large ones would teach little
_OURS = ("together", "alone", "twins.json", "twins.html")


@dataclass(frozen=True)
class Twins:
    """The runs of a folder: one together and one a task, for each seed."""

    run: Run
    folder: Path
    seeds: Sequence[int]
    lost: set[str] = field(default_factory=set)  # tasks whose twin cannot be trained

    @property
    def held(self) -> list[str]:
        """The tasks that have rows to be compared on."""
        return [n for n, o in self.run.tasks.items() if o.test is not None or o.valid is not None]

    @property
    def compared(self) -> list[str]:
        """Those of them that have a twin."""
        return [name for name in self.held if name not in self.lost]

    def together(self, seed: int) -> Path:
        """The run folder of all tasks."""
        return self.folder / "together" / f"seed-{seed}"

    def alone(self, task: str, seed: int) -> Path:
        """The run folder of a task's twin."""
        return self.folder / "alone" / task / f"seed-{seed}"

    def of_all(self, seed: int) -> dict[str, Any]:
        """The recipe with this seed."""
        data = self.run.dump()
        data["train"]["seed"] = seed
        return data

    def of_one(self, task: str, seed: int, size: float) -> dict[str, Any]:
        """The recipe of a twin, with this much of the budget."""
        data = self.of_all(seed)
        data["tasks"] = {task: data["tasks"][task]}
        data["train"] |= {"conflicts": None, "pull": "tokens"}  # of several tasks
        encoder = self.run.encoder
        learnt = isinstance(encoder.tokenizer, NewTokenizer)
        if learnt or (encoder.shape is not None and encoder.tokenizer is None):
            vocabulary = self.together(seed) / "bundle" / "tokenizer.json"
            data["encoder"]["tokenizer"] = str(vocabulary)
        unit, whole = self.run.train.budget
        if unit == "tokens":
            batch = data["train"]["batch_tokens"]
            least = min(LEAST, whole / batch)
            data["train"]["batch_tokens"] = max(min(batch, round(size / least)), 1)
        return recipe.read(data, [f"train.{unit}={size}"])


def twins(
    source: str | Path | Mapping[str, Any],
    out: str | Path,
    changes: Iterable[str] = (),
    seeds: int = 3,
) -> dict[str, Any] | None:
    """Train a recipe together and each of its tasks alone, with several seeds, and compare them.

    Runs go into folders under `out`; what is finished there is used again, and what was broken off
    goes on. The result is plain data, also in `twins.json` and, to be read, in `twins.html`; it is
    None in all processes but the first.
    """
    if seeds < 1:
        raise UserError(f"seeds: {seeds} are none; give 2 at least, or 1 for a first look")
    data = recipe.read(source if isinstance(source, Mapping) else Path(source), changes)
    runs = recipe.parse(data, OPTIONS)
    if len(runs) > 1:
        raise UserError(
            f"the recipe has stages ({', '.join(runs)}): train the early ones first, and compare "
            "a recipe that starts from their bundle by `encoder: {from: BUNDLE}`"
        )
    (run,) = runs.values()
    if len(run.tasks) < 2:
        raise UserError(
            f"the recipe has one task, {', '.join(run.tasks)}: there is nothing that it could be "
            "together with"
        )
    folder = Path(out)
    _check_room(folder)
    first = run.train.seed
    own = Twins(run, folder, range(first, first + seeds))
    if not own.compared:
        raise UserError("no task of the recipe has held-out rows: give it `test` or `valid`")
    sizes = _train_all(own)
    if not first_process():
        return None
    name = None if isinstance(source, Mapping) else str(source)
    found = _report(own, sizes, name)
    files.write_json(folder / "twins.json", found)
    files.write_text(folder / "twins.html", render(found))
    return found


def _check_room(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder: choose another with --out")
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    if strange := [name for name in there if name not in _OURS and not name.startswith(".")]:
        raise UserError(
            f"{folder} holds {strange[0]!r}, which is not of twins: choose another with --out"
        )


def _train_all(own: Twins) -> dict[str, float]:
    """Train what is not trained yet; the budget of each twin comes back."""
    unit, size = own.run.train.budget
    sizes: dict[str, float] = {}
    number, total = 0, len(own.seeds) * (1 + len(own.compared))
    for seed in own.seeds:
        number += 1
        log.info("run %d of %d: together, seed %d", number, total, seed)
        trained = train(own.of_all(seed), own.together(seed), resume=True)
        sizes = sizes or _sizes(own.run, unit, size, trained.model)
        for task in own.compared:
            number += 1
            log.info("run %d of %d: %s alone, seed %d", number, total, task, seed)
            try:
                train(own.of_one(task, seed, sizes[task]), own.alone(task, seed), resume=True)
            except LostError as error:
                if own.run.train.lost_task != "leave":
                    raise
                log.warning("%s alone: %s", task, error)
                own.lost.add(task)
    if not own.compared:
        raise UserError("no task has a twin: no loss of theirs is finite")
    return sizes


def _sizes(run: Run, unit: str, size: float, model: Model) -> dict[str, float]:
    """The budget of each task's twin: the same epochs, or its share of steps, tokens, minutes.

    The share is of the tokens that the mixture draws, since an update is so many tokens.
    """
    if unit == "epochs":
        return dict.fromkeys(run.tasks, size)
    rows = {name: split_rows(name, o, run.train.seed).train for name, o in run.tasks.items()}
    known = {name: own for name, own in rows.items() if own is not None}
    stream = MixedStream.of({name: model.task(name) for name in known}, known, run)
    tokens = dict.fromkeys(known, 0)
    for update in range(UPDATES):
        for chunk in stream.take(UPDATE_TOKENS, update / UPDATES):
            tokens[chunk.task] += chunk.tokens
    shares = {name: size * own / sum(tokens.values()) for name, own in tokens.items()}
    if unit == "minutes":
        return shares
    return {name: max(round(share), 1) for name, share in shares.items()}


def _report(own: Twins, sizes: Mapping[str, float], name: str | None) -> dict[str, Any]:
    """What the runs of the folder scored, and what they took."""
    held = {task: held_rows(task, own.run.tasks[task], own.seeds) for task in own.compared}
    together: dict[str, list[Scored]] = {task: [] for task in own.compared}
    for i, seed in enumerate(own.seeds):
        model = bundle.load(own.together(seed) / "bundle")
        for task in own.compared:
            together[task].append(scored(model, task, held[task][i]))
    tasks: list[dict[str, Any]] = []
    for task in own.compared:
        alone: list[Scored] = []
        for i, seed in enumerate(own.seeds):
            twin = bundle.load(own.alone(task, seed) / "bundle")
            alone.append(scored(twin, task, held[task][i]))
        found = compare(twin.task(task), held[task], alone, together[task])
        taken = _mean_seconds(own.alone(task, seed) for seed in own.seeds)
        tasks.append({**found, "budget": sizes[task], "weights": _weights(twin), "seconds": taken})
    unit, size = own.run.train.budget
    return {
        "recipe": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": list(own.seeds),
        "level": LEVEL,
        "precision": model.precision,
        "notes": _notes(own, tasks),
        "tasks": tasks,
        "budget": {"unit": unit, "together": size},
        "weights": {"together": _weights(model), "alone": sum(t["weights"] for t in tasks)},
        "seconds": {
            "together": _mean_seconds(own.together(seed) for seed in own.seeds),
            "alone": sum(task["seconds"] for task in tasks),
        },
    }


def _notes(own: Twins, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to know before one reads the figures."""
    notes = []
    if len(own.seeds) == 1:
        notes.append(
            "one seed says nothing of the chance in training: intervals are of the rows alone, and "
            "another seed may turn a small difference around"
        )
    notes += [
        f"task {task}: it has no held-out rows, so it has no twin"
        for task in own.run.tasks
        if task not in own.held
    ]
    notes += [
        f"task {task}: its loss alone is not finite, so it has no twin" for task in sorted(own.lost)
    ]
    notes += [
        f"task {task}: the encoder unlearns its labels together with the others, so a drop is what "
        "was asked for"
        for task in own.compared
        if getattr(own.run.tasks[task], "reverse", 0)
    ]
    for task in tasks:
        if task["split"] == "valid":
            notes.append(
                f"task {task['task']}: it has no test rows; the rows compared on are those that "
                "chose the checkpoints"
            )
        if not task["same_rows"]:
            notes.append(
                f"task {task['task']}: each seed draws its own held-out rows, so deviations are "
                "of rows and seeds; name a file in `test` to tell them apart"
            )
    return notes


def _weights(model: Model) -> int:
    return sum(p.numel() for p in model.parameters())


def _mean_seconds(folders: Iterable[Path]) -> float:
    """How long runs trained, evaluations included."""
    return statistics.fmean(map(_seconds, folders))


def _seconds(folder: Path) -> float:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return next(float(x["seconds"]) for x in map(json.loads, reversed(lines)) if "seconds" in x)
