"""From a model to another library's folder."""

from __future__ import annotations

from pathlib import Path

from unmask import files
from unmask.errors import UserError
from unmask.interop import Checkpoint, write_checkpoint, write_sentence_transformers
from unmask.model import Model
from unmask.tasks.classify import Classify
from unmask.tasks.tag import Tag


def save_as(model: Model, path: str | Path, format: str, task: str | None = None) -> None:
    """Write a model's encoder and one task's head as `huggingface` or `sentence-transformers`."""
    folder = Path(path)
    if not files.empty_or_new(folder):
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
    found = Checkpoint(
        config=model.encoder.config,
        encoder=model.encoder,
        text=model.text,
        pooling=model.how_to_pool,
    )
    if name is not None:
        task = model.task(name)
        found.heads = {task.kind: model.head(name)}
        if isinstance(task, Classify | Tag):
            found.labels = tuple(task.labels)
            found.head_configs = {task.kind: task.head}
        if isinstance(task, Classify):
            found.multi_label = task.options.multi_label
    return found
