"""What a chain works with: the rows a model was trained on and is scored on, and other texts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask import bundle
from unmask.batch import Batch, Example, collate
from unmask.data.sources import Rows, read, require
from unmask.data.splits import Splits
from unmask.errors import UserError
from unmask.evaluation.held import last_run, own_run, rows_of
from unmask.evaluation.pairs import Held
from unmask.interop import resolve
from unmask.jobs import batches_by_tokens
from unmask.model import ROW_TOKENS, Model
from unmask.recipe import Run, Source
from unmask.shrink.importance import Losses
from unmask.tasks import Draw, Task, row_rng
from unmask.tasks.words import joined

log = logging.getLogger("unmask")

_ROWS = 256  # of each task, by which importance is measured
_TOKENS = 2048  # of a grid then


@dataclass(frozen=True)
class Material:
    """The bundle's recipe with its rows, where there is one, and texts without labels."""

    run: Run | None
    splits: Mapping[str, Splits]
    texts: Rows | None

    def spoken(self) -> Iterator[str]:
        """The given texts, or else those of the training rows."""
        if self.texts is not None:
            yield from (row["text"] for row in self.texts if isinstance(row["text"], str))
            return
        for name, own in self.splits.items():
            assert self.run is not None
            for row in own.train or ():
                for column in self.run.tasks[name].spelt:
                    value = row.get(column)
                    if isinstance(value, list) and all(isinstance(one, str) for one in value):
                        value = joined(value)[0]
                    if isinstance(value, str):
                        yield value

    def sample(self, count: int) -> list[str]:
        """Some texts to measure speed on, of those scored on where there are any."""
        for name, held in self.held().items():
            assert self.run is not None
            column = self.run.tasks[name].inputs[0]
            found = [row[column] for row in held.rows if isinstance(row.get(column), str)]
            if found:
                return [one for one in found if one.strip()][:count]
        return list(islice((one for one in self.spoken() if one.strip()), count))

    def held(self, first: str = "test") -> dict[str, Held]:
        """The rows to score each task on: of this split, or else of the other one."""
        found: dict[str, Held] = {}
        for name, own in self.splits.items():
            for split in (first, "valid" if first == "test" else "test"):
                rows = getattr(own, split)
                if rows is not None:
                    found[name] = Held(split, rows, 0)
                    break
        return found

    def valid(self) -> dict[str, Rows]:
        """The rows to fit calibration on."""
        return {name: own.valid for name, own in self.splits.items() if own.valid is not None}

    def train(self) -> dict[str, Rows]:
        """The rows that tasks learnt from."""
        return {name: own.train for name, own in self.splits.items() if own.train is not None}

    def losses(self, model: Model) -> Losses:
        """Losses that say what matters: the tasks' on training rows, or of all that comes out."""
        told = False
        for name, own in self.splits.items():
            if own.train is not None and name in model.tasks:
                told = True
                task, head = model.tasks[name], partial(_loss, model, model.tasks[name])
                yield from ((batch, partial(head, batch)) for batch in _grids(task, own.train))
        if told:
            return
        if self.texts is None:
            raise UserError(
                "what matters in this model cannot be measured without rows: it has no recipe "
                "whose training rows can be read; give --recipe, or --texts"
            )
        torch.manual_seed(0)
        texts = [one for one in islice(self.spoken(), _ROWS) if one.strip()]
        examples = [model.pooled_example(one) for one in texts]
        for batch in _packed(examples):
            yield batch, partial(_anything, model, batch)


def material(
    source: str, model: Model, recipe: Path | None, texts: Sequence[Path], needed: bool
) -> Material:
    """The rows and texts there are for a bundle; `needed`: a UserError where there are neither."""
    folder = resolve(source)
    own = own_run(folder) if bundle.is_bundle(folder) else None
    run = own if recipe is None else last_run(recipe)
    splits: dict[str, Splits] = {}
    for name, options in (run.tasks if run else {}).items():
        own_task = model.tasks.get(name)
        if own_task and own_task.kind == options.kind and not own_task.inward:
            if recipe is not None:  # it says which columns its rows have
                changes = {key: getattr(options, key) for key in type(options).reading}
                own_task.options = own_task.options.model_copy(update=changes)
            try:
                splits[name], _ = rows_of(name, options, run.train.seed if run else 0)
            except UserError as error:
                log.warning(
                    "task %s: its rows cannot be read, so it is not scored: %s", name, error
                )
    if recipe is not None and not any(name in model.tasks for name in (run.tasks if run else ())):
        raise UserError(
            f"the recipe's tasks ({', '.join(run.tasks if run else ())}) are none of the "
            f"bundle's ({', '.join(model.tasks) or 'none'}): give them the same names and kinds"
        )
    given = None
    if texts:
        given = read(Source(path=[str(path) for path in texts]))
        require(given, ["text"])
    if needed and not splits and given is None:
        raise UserError(
            f"{source} has no recipe whose rows can be read: give one with --recipe, or texts with "
            "--texts"
        )
    return Material(run if splits else None, splits, given)


def _grids(task: Task[Any, Any], rows: Rows) -> Iterator[Batch]:
    """Grids of a task's first rows, with their truth."""
    examples: list[Example] = []
    for i, row in zip(range(_ROWS), rows, strict=False):
        draw = Draw(row_rng(0, task.name, 0, i), learn=False, others=rows)
        examples += task.examples(row, draw)
    return _packed(examples)


def _packed(examples: Sequence[Example]) -> Iterator[Batch]:
    for numbers in batches_by_tokens([e.length for e in examples], _TOKENS):
        yield collate([examples[i] for i in numbers], ROW_TOKENS)


def _loss(model: Model, task: Task[Any, Any], batch: Batch) -> Tensor:
    outputs, batch = model(task, batch.to(model.device))
    return task.loss(outputs, batch)


def _anything(model: Model, batch: Batch) -> Tensor:
    """A sum of all that comes out with signs by chance: none of it cancels out on average."""
    wanted = model.encoder(batch.to(model.device), narrow=True).wanted
    return (wanted * torch.randint(2, wanted.shape, device=wanted.device).mul(2).sub(1)).sum()
