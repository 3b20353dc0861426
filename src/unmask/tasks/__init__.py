"""The kinds of task: one file a kind, one line here."""

from typing import Any

from unmask.recipe import TaskOptions
from unmask.tasks.base import Answer, Draw, Row, Task, row_rng
from unmask.tasks.classify import Classify
from unmask.tasks.contrast import Contrast
from unmask.tasks.detect import Detect
from unmask.tasks.distil import Distil
from unmask.tasks.embed import Embed
from unmask.tasks.generate import Generate
from unmask.tasks.generation.answer import TextAnswer
from unmask.tasks.match import Match
from unmask.tasks.mlm import Mlm
from unmask.tasks.order import Order
from unmask.tasks.reconstruct import Reconstruct
from unmask.tasks.regress import Regress
from unmask.tasks.rerank import Rerank
from unmask.tasks.span import Span
from unmask.tasks.tag import Tag
from unmask.tasks.tally import Choices, Tally
from unmask.tasks.transcribe import Transcribe

KINDS: dict[str, type[Task[Any, Any]]] = {
    kind.kind: kind
    for kind in (
        Classify,
        Regress,
        Tag,
        Span,
        Embed,
        Rerank,
        Generate,
        Transcribe,
        Match,
        Mlm,
        Detect,
        Order,
        Reconstruct,
        Distil,
    )
}
OPTIONS: dict[str, type[TaskOptions]] = {name: kind.Options for name, kind in KINDS.items()}

__all__ = [
    "KINDS",
    "OPTIONS",
    "Answer",
    "Choices",
    "Contrast",
    "Draw",
    "Generate",
    "Row",
    "Tally",
    "Task",
    "TextAnswer",
    "row_rng",
]
