"""From a recipe to a model and rows, all checked before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.data.duplicates import duplicates
from unmask.data.sources import Rows
from unmask.data.splits import Splits, split_rows
from unmask.encoder import Encoder, EncoderConfig, HeadConfig, preset
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import learn
from unmask.interop import usual_head
from unmask.loading import load
from unmask.model import Model
from unmask.recipe import NewTokenizer, Run, TaskOptions
from unmask.tasks import KINDS, Draw, Task, row_rng

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Prepared:
    """A model whose tasks and heads are the recipe's, and each task's rows."""

    model: Model
    splits: dict[str, Splits]

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
        model = _resumed(run, resumed)
        _check_held_out(model.tasks, splits)
        return Prepared(model.to(device), splits)
    trains = {name: own.train for name, own in splits.items() if own.train is not None}
    facts = {
        name: KINDS[options.kind].study(name, options, trains[name])
        for name, options in run.tasks.items()
    }
    start = _start(run, trains)
    tasks = {name: _task(name, options, start, facts[name]) for name, options in run.tasks.items()}
    heads = {name: _head(task, start) for name, task in tasks.items()}
    model = Model(start.encoder, start.text, tasks, heads, start.pooling)
    _check_held_out(tasks, splits)
    _warn_of_duplicates(run, splits)
    return Prepared(model.to(device), splits)


def _resumed(run: Run, model: Model) -> Model:
    """The model of a checkpoint, its tasks as the recipe has them now."""
    if {name: t.kind for name, t in run.tasks.items()} != {
        name: t.kind for name, t in model.tasks.items()
    }:
        raise UserError(
            f"the checkpoint's tasks are {', '.join(model.tasks)}: other tasks cannot go on from "
            "it; start from its bundle with `encoder: {from: …}`"
        )
    tasks = {n: _task(n, options, model, model.tasks[n].facts) for n, options in run.tasks.items()}
    for name, task in tasks.items():
        if getattr(task, "head", None) != getattr(model.tasks[name], "head", None):
            raise UserError(f"task {name}: a run's head stays what it is; choose another folder")
    heads = {name: model.head(name) for name in tasks}
    return Model(model.encoder, model.text, tasks, heads, model.pooling)


def _start(run: Run, rows: Mapping[str, Rows]) -> Model:
    """The pretrained model to start from, or a new encoder of the recipe's shape."""
    options = run.encoder
    changes: dict[str, Any] = {
        key: value
        for key in ("dropout", "attention_dropout")
        if (value := getattr(options, key)) is not None
    }
    if options.source is not None:
        model = load(options.source)
        if changes:
            config = EncoderConfig(**(model.encoder.config.model_dump() | changes))
            encoder = Encoder(config)
            encoder.load_state_dict(model.encoder.state_dict())
            model = Model(
                encoder,
                model.text,
                model.tasks,
                {name: model.head(name) for name in model.tasks},
                model.pooling,
            )
        return model
    wanted = options.tokenizer or NewTokenizer()
    if isinstance(wanted, NewTokenizer):
        log.info("learning a vocabulary of %d pieces", wanted.vocab_size)
        tokenizer = learn(lambda: _texts(run, rows), wanted)
    else:
        folder = Path(wanted)
        file = folder / "tokenizer.json" if folder.is_dir() else folder
        tokenizer = TextInput.read(file).tokenizer
    assert options.shape is not None  # EncoderOptions has either a source or a shape
    if options.max_positions is not None:
        changes["max_positions"] = options.max_positions
    text = TextInput(tokenizer)
    config = preset(
        options.shape, options.style or "classic", vocab_size=_round_up(text.vocab_size), **changes
    )
    text.max_length = config.max_positions
    return Model(Encoder(config), text)


def _round_up(size: int, multiple: int = 64) -> int:
    """Vocabularies of a round size multiply faster."""
    return -(-size // multiple) * multiple


def _texts(run: Run, rows: Mapping[str, Rows]) -> Iterator[str]:
    for name, options in run.tasks.items():
        for row in rows[name]:
            for column in options.inputs:
                if isinstance(row.get(column), str):
                    yield row[column]


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
    return KINDS[options.kind](name, options, start.text, facts)


def _head(task: Task[Any, Any], start: Model) -> torch.nn.Module:
    """A new head, or the one that the start already has for the same task.

    The same: of this name (or of the name of its kind, as in an imported checkpoint), kind and
    facts, with a head made alike.
    """
    head = task.build(start.encoder)
    for name, known in start.tasks.items():
        alike = _without_dropout(known) == _without_dropout(task)
        same = known.kind == task.kind and known.facts == task.facts and alike
        if same and name in (task.name, known.kind):
            head.load_state_dict(start.head(name).state_dict())
            log.info("task %s: goes on from the head %r of the start", task.name, name)
    return head


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
            draws = (Draw(row_rng(0, name, 0, i), others=rows) for i in range(len(rows)))
            examples = (
                e for row, draw in zip(rows, draws, strict=True) for e in task.examples(row, draw)
            )
            if next(examples, None) is None:
                raise UserError(f"task {name}: no row of its {split} split has anything to score")


def _warn_of_duplicates(run: Run, splits: Mapping[str, Splits]) -> None:
    """Say which held-out rows stand in the training rows too."""
    for name, own in splits.items():
        held = {s: rows for s in ("valid", "test") if (rows := getattr(own, s)) is not None}
        if own.train is None or not held:
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
