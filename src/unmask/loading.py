"""From a folder or a hub id to a model, whatever the layout."""

from __future__ import annotations

import logging
from pathlib import Path

from unmask import bundle
from unmask.interop import Checkpoint, read_checkpoint, resolve
from unmask.model import Model
from unmask.recipe import Inputs
from unmask.tasks import KINDS, Task
from unmask.tasks.classify import ClassifyOptions
from unmask.tasks.mlm import MlmOptions
from unmask.tasks.rerank import RerankOptions
from unmask.tasks.span import SpanOptions
from unmask.tasks.tag import TagOptions

log = logging.getLogger("unmask")


def load(source: str | Path) -> Model:
    """A bundle, a Hugging Face or sentence-transformers folder, package://… or a hub id.

    What a checkpoint brings becomes a task: its masked-language head is the task `mlm`, its
    classification head the task `classify`, or `rerank` where it has one label, its token
    classification head the task `tag`, its question-answering head the task `span`. Weights
    compute in fp32 unless `precision` is set.
    """
    path = resolve(str(source))
    return bundle.load(path) if bundle.is_bundle(path) else from_checkpoint(read_checkpoint(path))


def from_checkpoint(checkpoint: Checkpoint) -> Model:
    """A model of another library's checkpoint."""
    tasks: dict[str, Task] = {}  # type: ignore[type-arg]
    found = dict(checkpoint.heads)
    if "mlm" in checkpoint.heads:
        tasks["mlm"] = KINDS["mlm"]("mlm", MlmOptions(), checkpoint.text)
    if "classify" in checkpoint.heads and len(checkpoint.labels) == 1:  # a cross-encoder
        head = checkpoint.head_configs["classify"]
        tasks["rerank"] = KINDS["rerank"]("rerank", RerankOptions(head=head), checkpoint.text)
        found["rerank"] = found.pop("classify")
    elif "classify" in checkpoint.heads:
        pictures = checkpoint.config.image is not None
        options = ClassifyOptions(
            input=Inputs(image="image") if pictures else "text",
            multi_label=checkpoint.multi_label,
            head=checkpoint.head_configs["classify"],
        )
        facts = {"labels": list(checkpoint.labels)}
        tasks["classify"] = KINDS["classify"]("classify", options, checkpoint.text, facts)
    if "span" in checkpoint.heads:
        span = SpanOptions(head=checkpoint.head_configs["span"])
        tasks["span"] = KINDS["span"]("span", span, checkpoint.text)
    if "tag" in checkpoint.heads:
        head = checkpoint.head_configs["tag"]
        # How its tags are meant is not written there, so no order of them is ruled out.
        meant = {"tags": list(checkpoint.labels), "strict": False}
        tasks["tag"] = KINDS["tag"]("tag", TagOptions(head=head), checkpoint.text, meant)
    for name in found.keys() - tasks.keys():
        log.warning("the checkpoint's %r head is left out: no kind of task here uses it", name)
    heads = {name: found[name] for name in tasks}
    return Model(checkpoint.encoder, checkpoint.text, tasks, heads, checkpoint.pooling)
