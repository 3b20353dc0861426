"""From a model to another library's folder."""

from __future__ import annotations

from pathlib import Path

from unmask.errors import UserError
from unmask.interop import Checkpoint, write_checkpoint, write_sentence_transformers
from unmask.model import Model
from unmask.tasks.classify import ClassifyOptions


def save_as(model: Model, path: str | Path, format: str, task: str | None = None) -> None:
    """Write a model's encoder and one task's head as `huggingface` or `sentence-transformers`."""
    folder = Path(path)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not empty: choose another folder or remove it")
    if format == "sentence-transformers":
        write_sentence_transformers(to_checkpoint(model, None), folder)
    else:
        if task is None and len(model.tasks) == 1:
            task = next(iter(model.tasks))
        if task is None and model.tasks:
            raise UserError(f"say which head with --task; there are: {', '.join(model.tasks)}")
        write_checkpoint(to_checkpoint(model, task), folder)


def to_checkpoint(model: Model, name: str | None) -> Checkpoint:
    """The encoder, with the head of one task."""
    task = model.task(name) if name else None
    classify = task.options if task and isinstance(task.options, ClassifyOptions) else None
    return Checkpoint(
        config=model.encoder.config,
        encoder=model.encoder,
        text=model.text,
        heads={task.kind: model.heads[task.name]} if task else {},
        labels=tuple(task.facts["labels"]) if task and classify else (),
        multi_label=bool(classify and classify.multi_label),
        head_configs={"classify": classify.head} if classify else {},
        pooling=model.pooling,
    )
