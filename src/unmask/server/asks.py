"""What is asked of a model: a task of a row, why it answers so, or a vector; and the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.jobs import unseen
from unmask.model import task_from_record
from unmask.server.errors import Refusal, bad_input
from unmask.server.why import cost
from unmask.tasks import Row, Task


@dataclass(frozen=True)
class Ask:
    """One task of one row; without a task, the vector of a text.

    `width` keeps a vector's first numbers, as `Model.encode` does. With `why` the task's answer is
    explained: by a `method`, or by the attention of a `layer`.
    """

    row: str | tuple[str, ...] | Row
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    width: int | None = None
    why: Mapping[str, Any] | None = None

    @cached_property
    def lane(self) -> str:
        """Asks of one lane can share a batch."""
        if self.task is None:
            return f"vector {self.width}"
        if self.why is not None:
            return "why " + json.dumps(dict(self.why), sort_keys=True)
        return "task " + json.dumps(dict(self.options), sort_keys=True)

    def key(self, model: str) -> bytes:
        """All that an answer depends on, as a hash: the model, what is asked, and the text.

        It is the text and not its tokens: answers quote characters, and different texts may have
        the same tokens.
        """
        row = list(self.row) if isinstance(self.row, tuple) else self.row
        said = json.dumps([model, self.task, self.lane, row], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).digest()


@dataclass(frozen=True)
class Answered:
    """One answer. `record` holds a task's, `vector` (D,) float32 a text's.

    An explanation is `raw`: JSON as it is sent on, since it may be large.
    """

    tokens: int
    dropped: int
    record: Mapping[str, Any] = field(default_factory=dict)
    vector: np.ndarray | None = None
    raw: bytes = b""
    cached: bool = False
    queued: float = 0.0  # seconds that it waited
    computed: float = 0.0  # seconds that its batch took
    size: int = 0  # bytes, for the cache


@dataclass(frozen=True)
class Read:
    """An ask whose tokens are known; asks of the same `content` share a pass."""

    tokens: int
    dropped: int
    content: Any
    cost: int  # tokens that are computed for it


class Reader:
    """What the server knows of a model without its weights: its tokenizer and its tasks.

    Made of what a worker says when it is ready.
    """

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self.text = TextInput(Tokenizer.from_str(hello["tokenizer"]), hello["max_length"])
        self.tasks: dict[str, Task[Any, Any]] = {
            record["name"]: task_from_record(record, self.text) for record in hello["tasks"]
        }

    def read(self, ask: Ask) -> Read | Refusal:
        """Tokenise, off the event loop; a Refusal says what is wrong with this ask alone."""
        try:
            if ask.task is None:
                if not isinstance(ask.row, str):
                    return bad_input("a vector is of one text")
                encoded = self.text.encode(ask.row)
                return Read(len(encoded.ids), encoded.dropped, object(), len(encoded.ids))
            task = self.tasks[ask.task]
            example = unseen(task, ask.row, 0)
            price = example.length if ask.why is None else cost(task, example, ask.why)
        except UserError as error:
            return bad_input(str(error).removeprefix("row 1: "))
        except Refusal as refusal:
            return refusal
        except StopIteration:
            return bad_input("there is nothing to answer in this row")
        content: Any = object()
        if task.one_pass:
            content = (task.options.adapter, tuple(s.content for s in example.sequences))
        dropped = sum(sequence.dropped for sequence in example.sequences)
        return Read(example.length, dropped, content, price)

    def task(self, name: str) -> Task[Any, Any]:
        """The task of this name; a Refusal lists those there are."""
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none: it gives vectors only"
            raise Refusal(404, "no_such_task", f"no task {name!r} here; the tasks: {known}")
        return self.tasks[name]
