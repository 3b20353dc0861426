"""From a recipe to a model and rows, all checked before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from unmask.batch import Example
from unmask.data.duplicates import comparable, duplicates
from unmask.data.sources import Rows
from unmask.data.splits import Splits, split_rows
from unmask.encoder import AdaptedLinear, HeadConfig, Pooling
from unmask.errors import UserError
from unmask.interop import usual_head
from unmask.model import Model
from unmask.recipe import Run, TaskOptions
from unmask.tasks import KINDS, Draw, Task, row_rng
from unmask.tasks.base import said_of
from unmask.training.centroids import begin_at_centroids
from unmask.training.int8 import texts_of
from unmask.training.odd_tags import warn_of_odd_tags
from unmask.training.start import start_of
from unmask.training.teacher import Teacher, teachers_of

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Prepared:
    """A model whose tasks and heads are the recipe's, and each task's rows."""

    model: Model
    splits: dict[str, Splits]
    teachers: dict[str, Teacher]

    def compute_in(self, precision: Literal["bf16", "fp32"]) -> None:
        """Let the model, and its teachers, compute in this precision where it is to be had."""
        self.model.precision = fitting_precision(precision, self.model.device)
        for teacher in self.teachers.values():
            teacher.model.precision = self.model.precision

    def rows(self, split: str) -> dict[str, Rows]:
        """The rows of one split by task, where there are any."""
        found = {name: getattr(own, split) for name, own in self.splits.items()}
        return {name: rows for name, rows in found.items() if rows is not None}


def prepare(run: Run, device: torch.device, resumed: Model | None = None) -> Prepared:
    """Read all rows, learn what the tasks must know, and make or load the encoder.

    A `resumed` model knows all that already: only the rows are read.
    """
    torch.manual_seed(run.train.seed)
    for name, options in run.tasks.items():
        if options.train is None:
            raise UserError(f"`tasks.{name}.train` is missing: where do its rows come from?")
    splits = {
        name: split_rows(name, options, run.train.seed) for name, options in run.tasks.items()
    }
    if resumed is not None:
        return _ready(_resumed(run, resumed), run, splits, device)
    trains = {name: own.train for name, own in splits.items() if own.train is not None}
    facts = {
        name: KINDS[options.kind].study(name, options, trains[name])
        for name, options in run.tasks.items()
    }
    start = start_of(run, trains)
    tasks = {name: _task(name, options, start, facts[name]) for name, options in run.tasks.items()}
    known = {name: found for name, task in tasks.items() if (found := _known_head(task, start))}
    heads = {name: task.build(start.encoder) for name, task in tasks.items()}
    for name, task in tasks.items():
        if name in known:
            heads[name].load_state_dict(known[name].state_dict())
        elif task.take_over(heads[name], [start.head(other) for other in start.tasks]):
            log.info("task %s: its new head begins with what one of the start has learnt", name)
    if run.train.frozen:  # what the start could do it can still do
        tasks = {**start.tasks, **tasks}
        heads = {name: heads.get(name) or start.head(name) for name in tasks}
    model = Model(start.encoder, start.text, tasks, heads, _pooling(tasks, start))
    prepared = _ready(model, run, splits, device)
    warn_of_odd_tags(run.tasks, splits)
    for name, rows in trains.items():
        model.tasks[name].look_over(rows)
        if name not in known:
            begin_at_centroids(model, model.tasks[name], rows)
    return prepared


def _ready(model: Model, run: Run, splits: dict[str, Splits], device: torch.device) -> Prepared:
    for name in run.tasks:
        adapter = model.tasks[name].options.adapter
        known = model.encoder.config.adapters
        if adapter is not None and adapter not in known:
            raise UserError(
                f"task {name}: there is no adapter {adapter!r}; name it in `encoder.adapters`"
                + (f", where there are {', '.join(known)}" if known else "")
            )
        if run.train.frozen and model.tasks[name].inward:
            raise UserError(f"task {name}: kind distil teaches the trunk, which is frozen")
        if run.train.frozen and adapter is None and getattr(run.tasks[name], "reverse", None):
            raise UserError(
                f"task {name}: with `reverse` the encoder unlearns its labels, and train.frozen "
                "lets it learn nothing; leave one of them out"
            )
        if run.train.parallel == "shard" and model.tasks[name].inward:
            raise UserError(
                f"task {name}: kind distil looks into layers whose weights are whole; set "
                "train.parallel: replicate"
            )
        if run.train.r_drop and type(model.tasks[name]).divergence is Task.divergence:
            raise UserError(
                f"task {name}: train.r_drop compares distributions, and the kind "
                f"{model.tasks[name].kind} gives none; leave it out"
            )
    _check_held_out({name: model.tasks[name] for name in run.tasks}, splits)
    _warn_of_duplicates(run, splits)
    if run.train.frozen:
        _freeze(model, run)
    own = {name: model.tasks[name] for name in run.tasks}
    if run.train.simulate:
        texts_of(model, {n: s.train for n, s in splits.items() if s.train is not None})
    return Prepared(model.to(device), splits, teachers_of(own, model, device))


def _freeze(model: Model, run: Run) -> None:
    """Let only the heads of the recipe's tasks and its adapters learn."""
    model.requires_grad_(False)
    for name in run.tasks:
        model.head(name).requires_grad_(True)
    for part in model.encoder.modules():
        if isinstance(part, AdaptedLinear):
            for adapter in run.encoder.adapters:
                part.adapter(adapter).requires_grad_(True)


def _resumed(run: Run, model: Model) -> Model:
    """The model of a checkpoint, its tasks as the recipe has them now."""
    kinds = {name: t.kind for name, t in model.tasks.items()}
    own = {name: t.kind for name, t in run.tasks.items()}
    if own != kinds and not (run.train.frozen and own.items() <= kinds.items()):
        raise UserError(
            f"the checkpoint's tasks are {', '.join(model.tasks)}: other tasks cannot go on from "
            "it; start from its bundle with `encoder: {from: …}`"
        )
    tasks = {n: _task(n, options, model, model.tasks[n].facts) for n, options in run.tasks.items()}
    for name, task in tasks.items():
        if getattr(task, "head", None) != getattr(model.tasks[name], "head", None):
            raise UserError(f"task {name}: a run's head stays what it is; choose another folder")
    tasks = {name: tasks.get(name, known) for name, known in model.tasks.items()}
    heads = {name: model.head(name) for name in tasks}
    return Model(model.encoder, model.text, tasks, heads, model.pooling)


def _task(
    name: str, options: TaskOptions, start: Model, facts: Mapping[str, Any]
) -> Task[Any, Any]:
    if options.max_length and options.max_length > start.text.max_length:
        raise UserError(
            f"task {name}: max_length {options.max_length} is over the {start.text.max_length} "
            "tokens that this encoder reads"
        )
    if getattr(options, "head", ...) is None:  # the kind has a head to choose
        head = usual_head(options.kind, start.encoder.config)
        options = options.model_copy(update={"head": head})
    if getattr(options, "pooling", ...) is None:
        options = options.model_copy(update={"pooling": start.how_to_pool.mode})
    return KINDS[options.kind](name, options, start.text, facts)


def _pooling(tasks: Mapping[str, Task[Any, Any]], start: Model) -> Pooling | None:
    """How the trained model makes vectors of texts: as a task learns to, else as the start does."""
    found = {name: task.pooling for name, task in tasks.items() if task.pooling is not None}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} by {pooling.mode}" for name, pooling in found.items())
        raise UserError(f"a model has one way to pool, and its tasks have several: {said}")
    return next(iter(found.values()), start.pooling)


def _known_head(task: Task[Any, Any], start: Model) -> torch.nn.Module | None:
    """The head that the start already has for the same task.

    The same: of this name (or of the name of its kind, as in an imported checkpoint), kind and
    facts, with a head made alike.
    """
    for name, known in start.tasks.items():
        alike = _without_dropout(known) == _without_dropout(task)
        same = known.kind == task.kind and known.meaning == task.meaning and alike
        if same and name in (task.name, known.kind):
            log.info("task %s: goes on from the head %r of the start", task.name, name)
            return start.head(name)
    return None


def _without_dropout(task: Task[Any, Any]) -> HeadConfig | None:
    """What of a task's head decides its weights; None where the kind has no choice of heads."""
    head: HeadConfig | None = getattr(task, "head", None)
    return head and head.model_copy(update={"dropout": 0.0})


def _check_held_out(tasks: Mapping[str, Task[Any, Any]], splits: Mapping[str, Splits]) -> None:
    """Rows that cannot be scored are found now, not after hours of training."""
    for name, task in tasks.items():
        for split in ("valid", "test"):
            rows: Sequence[Any] | None = getattr(splits[name], split)
            if rows is None:
                continue
            task.check(rows, split)
            if next(_examples(task, rows, split), None) is None:
                raise UserError(f"task {name}: no row of its {split} split has anything to score")


def _examples(task: Task[Any, Any], rows: Sequence[Any], split: str) -> Iterator[Example]:
    for i, row in enumerate(rows):
        with said_of(f"{split} row {i + 1}"):
            draw = Draw(row_rng(0, task.name, 0, i), learn=False, others=rows)
            yield from task.examples(row, draw)


def _warn_of_duplicates(run: Run, splits: Mapping[str, Splits]) -> None:
    """Say which held-out rows stand in the training rows too."""
    for name, own in splits.items():
        held = {s: rows for s in ("valid", "test") if (rows := getattr(own, s)) is not None}
        if own.train is None or not held:
            continue
        if not comparable(list(held.values()), own.train):
            log.warning(
                "task %s: texts and a corpus cannot be compared, so whether held-out rows stand "
                "in the training rows is not known", name
            )  # fmt: skip
            continue
        found = duplicates(list(held.values()), own.train, run.tasks[name].inputs)
        for split, one in zip(held, found, strict=True):
            if one.count:
                log.warning("task %s, %s: %s: scores on them are of memory", name, split, one)


def fitting_precision(wanted: str, device: torch.device) -> Any:
    """bf16 where the processor computes in it, else fp32, and said."""
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() if device.type == "cpu" else True
    if wanted == "bf16" and not native:
        log.warning("this processor has no bf16 arithmetic: training in fp32 instead")
        return "fp32"
    return wanted
