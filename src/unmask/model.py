"""A model: one encoder, its text input, and the tasks with their heads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from unmask.batch import Batch, Example, collate, collate_alike, together
from unmask.encoder import Encoder, Exits, Form, Hidden, Pooling
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.inputs.readers import readers
from unmask.inputs.text import TextInput
from unmask.jobs import WINDOW, Cell, Joint, ahead, alike, chunks, in_batches, unseen
from unmask.tasks import KINDS, OPTIONS, Answer, Generate, Row, Task, TextAnswer
from unmask.tasks.cells import mixed
from unmask.tasks.embed import EmbedOptions
from unmask.tasks.hedging import check, hedged, unpromised

log = logging.getLogger("unmask")

SomeExample = TypeVar("SomeExample", bound=Example)
Result = TypeVar("Result")
Precision = Literal["fp32", "bf16"]

_ANYTHING = EmbedOptions.model_validate(
    {"input": {name: name for name in EmbedOptions.modalities}, "label": "label"}
)
ROW_TOKENS = 64  # columns of a grid of short sequences: fills well, and attention stays cheap


class Model(nn.Module):
    """What `unmask.load` gives: encode, hidden, fill, predict, and PyTorch's own module."""

    def __init__(
        self,
        encoder: Encoder,
        text: TextInput,
        tasks: Mapping[str, Task[Any, Any]] | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        if text.vocab_size > encoder.config.vocab_size:
            raise UserError(
                f"the tokenizer has {text.vocab_size} ids but the encoder only "
                f"{encoder.config.vocab_size} token vectors: they do not belong together"
            )
        self.encoder = encoder
        self.text = text
        text.beside = readers(encoder.config)
        for reader in text.beside.values():
            reader.files = text.files  # a model made of another's text may read no more than that
        self.tasks = dict(tasks or {})
        # A task may be called `train` or `type`; a module's child may not.
        self.heads = nn.ModuleDict({f"{name}_head": head for name, head in (heads or {}).items()})
        self.pooling = pooling
        self.precision: Precision = "fp32"  # of torch
        self.form: Form | None = None  # the trunk as it was compiled; None: torch computes it
        self.exits: Mapping[str, Exits] = {}  # of tasks that may answer from a lower layer
        # What was fitted to the weights themselves, of tasks that have a form's own in its place.
        self.of_weights: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {}
        self.eval()

    # ---- what a user calls ----

    def tokenize(self, text: str, pair: str | None = None) -> Encoded:
        """Tokens, ids and offsets of a text or a pair, as the encoder will see them."""
        return self.text.encode(text, pair)

    def hidden(self, text: str, pair: str | None = None) -> Tensor:
        """The last hidden states of a text: (T, D), one row a token. They are not logits."""
        self.eval()
        example = _said(Example((self.tokenize(text, pair).sequence(),), ()))
        with torch.inference_mode(), self.autocast():
            hidden: Hidden = self.encoder(collate([example]).to(self.device))
            assert hidden.last is not None  # not narrowed to the positions that a head wants
            return hidden.last[0].float().cpu()

    def encode(
        self,
        texts: str | Row | Sequence[str | Row],
        progress: Callable[[int], None] | None = None,
        width: int | None = None,
    ) -> Tensor:
        """One vector a text: (n, D), pooled and normalised as the checkpoint was trained to.

        Anything else is a mapping, such as `{"image": "cat.png"}` or `{"text": …, "image": …}`.

        One that was not trained for it gives the normalised mean of its hidden states. `width`
        keeps that many of each vector's first numbers, for a model that has learnt to put what
        matters there (`widths` of a task of kind `embed`): (n, width).
        """
        texts = [texts] if isinstance(texts, str | Mapping) else texts
        examples = (self.pooled_example(text) for text in texts)
        return self.vectors((_said(e) for e in examples), progress, width)

    def rank(
        self, task: str, query: str, documents: Sequence[str], top: int = 10
    ) -> list[tuple[str, float]]:
        """The likeliest answers to a query among documents, best first, with their relevance.

        By a task on pairs: `rerank` gives a probability, `embed` a cosine.
        """
        if self.task(task).kind not in ("embed", "rerank"):
            raise UserError(
                f"task {task} is of kind {self.tasks[task].kind}: only `embed` and `rerank` rank"
            )
        answers = self.predict(task, [(query, document) for document in documents])
        found = [(d, float(a.relevance)) for d, a in zip(documents, answers, strict=True)]
        return sorted(found, key=lambda item: -item[1])[:top]

    def fill(self, text: str, top: int = 5) -> Any:
        """The likeliest tokens for each [MASK] of a text, by the bundle's `mlm` task.

        Several are filled one after the other, the surest first, so that they go together.
        """
        tasks = [task for task in self.tasks.values() if task.kind == "mlm"]
        if not tasks:
            raise UserError(
                "this model has no masked-language head to fill with; "
                "train one with a task of kind `mlm`"
            )
        if self.text.mask_token not in text:
            raise UserError(f"the text has no {self.text.mask_token} to fill: {text!r}")
        answer: Any = self.predict(tasks[0].name, text, top=top, jointly=True)[0]
        if len(answer.guesses) < text.count(self.text.mask_token):
            raise UserError(
                f"a {self.text.mask_token} of the text lies beyond the {answer.tokens} tokens that "
                "are read; shorten it"
            )
        return answer

    def predict(
        self,
        task: str | Sequence[str],
        rows: Cell | Iterable[Cell | tuple[Cell, ...] | Row],
        progress: Callable[[int], None] | None = None,
        **options: Any,
    ) -> list[Any]:
        """The task's answers for texts, pairs, or rows with its input columns, in their order.

        A picture or a recording is given as its bytes, or by its path.

        For a list of tasks there is one dict a row, with each task's answer under its name. Tasks
        that read the same tokens share one pass through the encoder. With `coverage`, answers are
        sets or intervals that hold the truth so often; with `risk` they say whether to abstain.
        """
        names = [task] if isinstance(task, str) else list(dict.fromkeys(task))
        known = [self.task(name) for name in names]
        for one in known:
            check(one, options, self.computes_in)
        rows = [rows] if isinstance(rows, Cell) else rows
        jobs = ((one, unseen(one, row, i)) for i, row in enumerate(rows) for one in known)
        found = list(self.answers_to(jobs, unpromised(options), progress))
        each = [hedged(one, found[k :: len(names)], options, self.computes_in)
                for k, one in enumerate(known)]  # fmt: skip
        if isinstance(task, str):
            return each[0]
        return [dict(zip(names, own, strict=True)) for own in zip(*each, strict=True)]

    def write(
        self, task: str, row: str | tuple[str, ...] | Row, **options: Any
    ) -> Generator[str, None, TextAnswer]:
        """The text that a task of kind `generate` writes for a row, in parts as it is written.

        Joined, they are what `predict` gives; the generator returns that whole answer.
        """
        own = self.task(task)
        if not isinstance(own, Generate):
            raise UserError(f"task {task} is of kind {own.kind}: only `generate` writes")
        example = unseen(own, row, 0)
        self.eval()
        found = own.stream(self.encoder, self.head(task), example, options)
        while True:
            try:
                # Entered anew for each part: what the reader does in between is none of it.
                with torch.inference_mode(), self.autocast():
                    part = next(found)
            except StopIteration as end:
                answer: TextAnswer = end.value
                return answer
            yield part

    # ---- what the rest of the house uses ----

    def pooled_example(self, text: str | Row) -> Example:
        """A text whose vector is wanted, or a row with other modalities."""
        if isinstance(text, str):
            sequence = self.text.encode(text).sequence()
        else:
            sequence = mixed("encode", _ANYTHING, self.text, text, None)
        return Example((sequence,), (self.how_to_pool.wanted(sequence.length),))

    def vectors(
        self,
        examples: Iterable[Example],
        progress: Callable[[int], None] | None = None,
        width: int | None = None,
    ) -> Tensor:
        """One vector for each of `pooled_example`'s: (n, D), or (n, width)."""
        most = self.encoder.config.hidden_size
        if width is not None and not 1 <= width <= most:
            raise UserError(f"width {width}: this model's vectors are {most} wide")
        found = list(self.run(examples, self._pool, progress=progress))
        vectors = (torch.stack(found) if found else torch.zeros(0, most))[:, :width]
        return nn.functional.normalize(vectors, dim=-1) if self.how_to_pool.normalise else vectors

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.encoder.parameters()).device

    def task(self, name: str) -> Task[Any, Any]:
        """The task of that name; a UserError lists those there are."""
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none: it is a bare encoder"
            raise UserError(f"this model has no task {name!r}; its tasks: {known}")
        return self.tasks[name]

    def head(self, task: str) -> nn.Module:
        """The head of the task of that name."""
        return self.heads[f"{task}_head"]

    @property
    def form_name(self) -> str:
        """What computes the trunk: a form, such as `openvino-int8`, or `torch-fp32`."""
        return self.form.name if self.form else f"torch-{self.computes_in}"

    @property
    def computes_in(self) -> str:
        """The precision of the trunk: fp32, bf16 or int8; `exits` where answers may come early."""
        if self.exits:
            return "exits" if self.precision == "fp32" else f"exits-{self.precision}"
        return self.form.precision if self.form else self.precision

    def fitted(self, task: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A task's calibration and the tensors beside it, as fitted to the weights themselves."""
        own = self.task(task)
        return self.of_weights.get(task, (own.calibration, own.tensors))

    def train(self, mode: bool = True) -> Model:
        """Torch's own; a model that learns leaves behind the form that was made of it."""
        if mode and (self.form is not None or self.exits):
            log.warning("%s is of the weights before training: torch computes now", self.form_name)
            self.form, self.exits = None, {}
            for name, (calibration, tensors) in self.of_weights.items():
                self.tasks[name].calibration, self.tasks[name].tensors = calibration, tensors
            self.of_weights = {}
        return super().train(mode)

    @property
    def how_to_pool(self) -> Pooling:
        """The checkpoint's own pooling, or the usual one."""
        return self.pooling or Pooling()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that this model computes in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def forward(
        self,
        task: Task[Any, Any],
        batch: Batch,
        hidden: Hidden | None = None,
        shift: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Batch]:
        """A task's outputs for a batch, and the batch as the task prepared it.

        Hidden states that are known need not be computed. `shift` (B, T, D) is added to the
        embeddings.
        """
        head = self.head(task.name)
        batch = task.prepare(batch, head)
        if task.name in self.exits and hidden is None and shift is None:
            logits, layers = self.exits[task.name].logits(self.encoder, head, batch)
            return {"logits": logits, "layers": layers}, batch
        if hidden is None and shift is None and not task.inward:
            hidden, seen = self._seen([task], batch)
            return task.outputs(head, hidden, seen), batch
        if hidden is None:
            adapter = task.options.adapter
            hidden = self.encoder(batch, shift, narrow=True, adapter=adapter, layers=task.inward)
        return task.outputs(head, hidden, batch), batch

    def _seen(self, tasks: Sequence[Task[Any, Any]], batch: Batch) -> tuple[Hidden, Batch]:
        """What the heads of these tasks, of one adapter, see of a batch, and the batch as seen.

        A form pools where one task's head would: there is then one wanted vector a sequence.
        """
        adapter = tasks[0].options.adapter
        form = self._form_for(batch, adapter)
        if form is None:
            return self.encoder(batch, narrow=True, adapter=adapter), batch
        pools = tasks[0].pools if len(tasks) == 1 else None
        if pools is None:
            return Hidden(form.wanted(batch), None), batch
        owner = torch.arange(batch.sequences, device=batch.owner.device)
        return Hidden(form.pooled(batch, pools), None), replace(batch, wanted_owner=owner)

    def _form_for(self, batch: Batch, adapter: str | None) -> Form | None:
        """The form, where there is one and it serves this batch."""
        return self.form if self.form is not None and self.form.serves(batch, adapter) else None

    def shared_outputs(
        self, tasks: Sequence[Task[Any, Any]], batches: Sequence[Batch]
    ) -> list[dict[str, Tensor]]:
        """Outputs of several tasks, whose batches are of the same sequences, from one pass."""
        hidden, _ = self._seen(tasks, together(batches))
        wanted = torch.split(hidden.wanted, [len(batch.wanted) for batch in batches])
        return [
            task.outputs(self.head(task.name), Hidden(x, None), batch)
            for task, x, batch in zip(tasks, wanted, batches, strict=True)
        ]

    def answers(
        self,
        task: Task[Any, Any],
        examples: Iterable[Example],
        options: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Answer]:
        """A task's answers to examples, in their order."""
        return task.predict(self.runner(task, progress), examples, options or {})

    def runner(
        self, task: Task[Any, Any], progress: Callable[[int], None] | None = None
    ) -> _Runner:
        """What runs examples through the encoder and the head of this task's name."""
        return _Runner(self, task, progress)

    def answers_to(
        self,
        jobs: Iterable[tuple[Task[Any, Any], Example]],
        options: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Answer]:
        """Answers to examples of several tasks, in their order.

        Examples of different tasks whose sequences are the same go through the encoder once, and
        each head gets the positions that its task wants. A task that changes its batches, or
        needs more than one pass, keeps to itself.
        """
        for chunk in ahead(chunks(jobs, WINDOW), WINDOW):
            results: dict[int, Answer] = {}
            for group in alike(chunk):
                tasks = [chunk[i][0] for i in group[0]]
                examples = [[chunk[i][1] for i in numbers] for numbers in group]
                if len(tasks) > 1:
                    found = self._shared(tasks, examples, progress)
                else:
                    alone = self.answers(tasks[0], (own[0] for own in examples), options, progress)
                    found = ((answer,) for answer in alone)
                for numbers, answers in zip(group, found, strict=True):
                    results.update(zip(numbers, answers, strict=True))
            yield from (results[i] for i in range(len(chunk)))

    def _shared(
        self,
        tasks: Sequence[Task[Any, Any]],
        examples: Sequence[Sequence[Example]],
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[Answer, ...]]:
        """Answers of all tasks from one pass; each of `examples` holds one of each task."""

        def think(own: Sequence[Joint]) -> list[tuple[Answer, ...]]:
            apart = list(zip(*(joint.parts for joint in own), strict=True))
            batches = self.grids(apart)
            outputs = self.shared_outputs(tasks, batches)
            found = [task.answers(outputs[k], batches[k], apart[k]) for k, task in enumerate(tasks)]
            return list(zip(*found, strict=True))

        joints = (Joint(own[0].sequences, (), parts=tuple(own)) for own in examples)
        return self.run(joints, think, progress and (lambda n: progress(n * len(tasks))))

    def grid(self, examples: Iterable[Example]) -> Batch:
        """Examples for the encoder, where the weights are: packed, or in rows for a form."""
        (batch,) = self.grids([list(examples)])
        return batch

    def grids(self, parts: Sequence[Sequence[Example]]) -> list[Batch]:
        """The same for several lists of examples, of the very same sequences: on one grid."""
        batches = collate_alike(parts, 0 if self.form else ROW_TOKENS)
        return [batch.to(self.device) for batch in batches]

    def run(
        self,
        examples: Iterable[SomeExample],
        finish: Callable[[Sequence[SomeExample]], Sequence[Result]],
        progress: Callable[[int], None] | None = None,
        batch_tokens: int = 4096,
        by_form: bool = True,
    ) -> Iterator[Result]:
        """Let `finish` make one result of each example, some at a time; results in their order.

        Examples are sorted by length within a window and packed up to `batch_tokens` positions a
        batch, so that next to nothing is padding; each result is the same as for the text alone.
        A form has one sequence a row, and several batches under way at a time; not so where
        `finish` asks the encoder itself, and not `by_form`.
        """
        if any(part.training for part in (self, self.encoder, *self.heads.values())):
            self.eval()  # it costs more than to look, and to look at every part costs too
        form = self.form if by_form else None

        def compute(own: Sequence[SomeExample]) -> Sequence[Result]:
            with torch.inference_mode(), self.autocast():
                return finish(own)

        if form is None:
            return in_batches(examples, compute, batch_tokens, progress)
        tokens = min(batch_tokens, form.batch_tokens)
        return in_batches(examples, compute, tokens, progress, form.streams, padded=True)

    def _pool(self, examples: Sequence[Example]) -> list[Tensor]:
        batch = self.grid(examples)
        if (form := self._form_for(batch, None)) is not None:
            return list(form.pooled(batch, self.how_to_pool.mode).cpu())
        hidden: Hidden = self.encoder(batch, narrow=True)
        x = self.how_to_pool.pool(hidden.wanted, batch.wanted_owner, batch.sequences)
        return list(x.cpu())

    def task_records(self) -> list[dict[str, Any]]:
        """The tasks as plain data for a bundle."""
        return [
            {
                "name": t.name,
                "options": t.options.model_dump(mode="json"),
                "facts": t.facts,
                "calibration": self.fitted(t.name)[0],
            }
            for t in self.tasks.values()
        ]


@dataclass(frozen=True)
class _Runner:
    """One task's way through a model."""

    model: Model
    task: Task[Any, Any]
    progress: Callable[[int], None] | None

    def __call__(
        self,
        examples: Iterable[Example],
        finish: Callable[[dict[str, Tensor], Batch, Sequence[Example]], list[Result]],
    ) -> Iterator[Result]:
        def think(own: Sequence[Example]) -> list[Result]:
            outputs, prepared = self.model(self.task, self.model.grid(own))
            return finish(outputs, prepared, own)

        return self.model.run(examples, think, self.progress)

    def steps(
        self,
        examples: Iterable[Example],
        work: Callable[[Encoder, nn.Module, Sequence[Example]], list[Answer]],
        tokens: int,
    ) -> Iterator[Answer]:
        head = self.model.head(self.task.name)
        think = partial(work, self.model.encoder, head)
        return self.model.run(examples, think, self.progress, tokens, by_form=False)


def _said(example: Example) -> Example:
    (sequence,) = example.sequences
    if sequence.dropped:
        total = sequence.length + sequence.dropped
        log.warning("a text of %d tokens was cut to %d", total, sequence.length)
    return example


def task_from_record(record: Mapping[str, Any], text: TextInput) -> Task[Any, Any]:
    """A task as `Model.task_records` described it, without its tensors."""
    kind = record["options"]["kind"]
    if kind not in KINDS:
        raise UserError(
            f"task {record['name']!r} is of kind {kind!r}, which this version of unmask lacks; "
            "install a newer one"
        )
    options = OPTIONS[kind].model_validate(record["options"])
    return KINDS[kind](
        record["name"], options, text, record["facts"], record.get("calibration", {})
    )
