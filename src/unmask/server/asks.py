"""What is asked of a model: a task of a row, why it answers so, or a vector; and the answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from pydantic_core import from_json
from tokenizers import Tokenizer

from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.jobs import unseen
from unmask.model import task_from_record
from unmask.server.errors import Refusal, bad_input
from unmask.server.outlines import WORK, outlined, outlines
from unmask.server.why import cost
from unmask.tasks import Row, Task

log = logging.getLogger("unmask.server")

_LONG = 1 << 12  # characters of a cell
_PAGES = 1 << 16  # characters of a row, which take some hundredth of a second to tokenise
CUT = 64  # tokens of a text beyond what is read take about as long as one that is computed


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

    def key(self, model: str, row: bytes) -> bytes:
        """All that an answer depends on, as a hash: the model, what is asked, and the row's digest.

        It is the text and not its tokens: answers quote characters, and different texts may have
        the same tokens. Of pictures and recordings it is all of their bytes, as they were written.
        """
        said = json.dumps([model, self.task, self.lane])
        return hashlib.sha256(said.encode() + row).digest()


def digests(asks: Sequence[Ask]) -> list[bytes]:
    """What tells each ask's row from others; several tasks of one row share the work."""
    found = {id(row): _digest(row) for row in {id(a.row): a.row for a in asks}.values()}
    return [found[id(ask.row)] for ask in asks]


def _digest(row: str | tuple[str, ...] | Row) -> bytes:
    if isinstance(row, Mapping):
        plain: Any = {name: _short(cell) for name, cell in row.items()}
    else:
        plain = [*map(_short, row)] if isinstance(row, tuple) else _short(row)
    said = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).digest()


def _short(cell: Any) -> Any:
    """A long cell as its hash, by which Python's lock is not held as long as JSON would.

    No request can hold what stands for it, since NUL is refused.
    """
    if not isinstance(cell, str) or len(cell) < _LONG:
        return cell
    return {"\0": hashlib.sha256(cell.encode("utf-8", "surrogatepass")).hexdigest()}


@dataclass(frozen=True)
class Answered:
    """One answer: `vector` (D,) float32 is a text's; a task's, or why it answers so, is `raw` JSON.

    JSON is as the worker wrote it: it is small to keep, and what is only sent on is never read.
    """

    tokens: int
    dropped: int
    vector: np.ndarray | None = None
    raw: bytes = b""
    cached: bool = False
    queued: float = 0.0  # seconds that it waited
    computed: float = 0.0  # seconds that its batch took

    @property
    def record(self) -> dict[str, Any]:
        """A task's answer, read anew each time: its `answer`, `short` in a line, how to `draw`."""
        record: dict[str, Any] = from_json(self.raw)
        return record

    @property
    def size(self) -> int:
        """Bytes, for the cache."""
        return len(self.raw) if self.vector is None else self.vector.nbytes


@dataclass(frozen=True)
class Read:
    """An ask whose tokens are known; asks of the same `content` share a pass.

    Patches and frames are tokens too. `cost` is what the queue counts: the tokens that all passes
    read, those that were only cut off, and what there is to decode.
    """

    tokens: int
    dropped: int
    content: Any
    cost: int


class Reader:
    """What the server knows of a model without its weights: its tokenizer and its tasks.

    Made of what a worker says when it is ready.
    """

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self.text = TextInput(Tokenizer.from_str(hello["tokenizer"]), hello["max_length"])
        self.text.beside = outlined(hello["encoder"])
        self.tasks: dict[str, Task[Any, Any]] = {
            record["name"]: task_from_record(record, self.text) for record in hello["tasks"]
        }

    def is_slow(self, ask: Ask) -> bool:
        """Whether its row may take long to read: pictures, recordings, texts of many pages."""
        task = self.tasks.get(ask.task or "")
        if task is not None and task.options.others:
            return True
        cells = ask.row.values() if isinstance(ask.row, Mapping) else ask.row
        cells = (cells,) if isinstance(cells, str) else cells
        return sum(len(cell) for cell in cells if isinstance(cell, str)) > _PAGES

    def read(self, ask: Ask) -> Read | Refusal:
        """Tokenise, off the event loop; a Refusal says what is wrong with this ask alone."""
        try:
            if ask.task is None:
                if not isinstance(ask.row, str):
                    return bad_input("a vector is of one text")
                encoded = self.text.encode(ask.row)
                price = len(encoded.ids) + encoded.dropped // CUT
                return Read(len(encoded.ids), encoded.dropped, object(), price)
            task = self.tasks[ask.task]
            example = unseen(task, ask.row, 0)
            price = example.length if ask.why is None else cost(task, example, ask.why)
        except UserError as error:
            return bad_input(str(error).removeprefix("row 1: "))
        except Refusal as refusal:
            return refusal
        except StopIteration:
            return bad_input("there is nothing to answer in this row")
        except Exception as error:  # rows of strangers; others in the request have their answers
            log.error("a row could not be read: %s", type(error).__name__)
            return bad_input("this row cannot be read: do its cells hold what the task asks for?")
        content: Any = object()
        beside = outlines(example.sequences)
        if task.one_pass:
            files = tuple(one.digest for one in beside)
            content = (task.options.adapter, tuple(s.content for s in example.sequences), files)
        dropped = sum(sequence.dropped for sequence in example.sequences)
        price += sum(one.work for one in beside) // WORK + dropped // CUT
        return Read(example.length, dropped, content, price)

    def task(self, name: str) -> Task[Any, Any]:
        """The task of this name; a Refusal lists those there are."""
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none: it gives vectors only"
            raise Refusal(404, "no_such_task", f"no task {name!r} here; the tasks: {known}")
        return self.tasks[name]
