"""Our own interface: any task, or many tasks of the same texts in one request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from pydantic_core import to_json

from unmask.server.api.common import (
    ERRORS,
    Many,
    ModelName,
    Strict,
    check_items,
    outcomes_of,
    respond,
    seconds_of,
    served_by,
)
from unmask.server.api.files import File, accepts, read
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import Refusal
from unmask.server.guard import refused
from unmask.server.options import check_options
from unmask.server.served import Outcome, Served

router = APIRouter(route_class=StrictRoute, responses=ERRORS, tags=["tasks"])

Item = str | Many[str] | dict[str, Any]
Name = Annotated[str, Path(max_length=200)]


class TaskRequest(Strict):
    """Texts, pairs (lists of texts) or rows (objects with a task's columns).

    Pictures and recordings stand in their columns, or alone in place of a text, in base64.
    """

    input: str | dict[str, Any] | Many[Item] = Field(
        description="one text or row, or a list; each item of a list is a text, a pair as a list "
        "of texts, or a row as an object with the task's input columns; pictures and recordings "
        "are base64, never a path or an address"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="how the task answers")
    model: str | None = Field(None, max_length=200)
    stream: bool = Field(False, description="of one text to be written: in parts, as it is written")


class ManyRequest(Strict):
    """Several tasks of the same items. Those that read the same tokens share a pass."""

    tasks: Many[str] | dict[str, dict[str, Any]] = Field(
        description="names, or names with each task's options", min_length=1, max_length=64
    )
    input: str | dict[str, Any] | Many[Item]
    model: str | None = Field(None, max_length=200)


@router.post("/v1/tasks/{task}", openapi_extra=accepts(TaskRequest, "image/*", "audio/*"))
async def one_task(request: Request, task: Name, model: ModelName = None) -> Response:
    """One task's answers; an item that is wrong has an `error` in its place.

    A body may be a picture or a recording itself: it is the one item then.
    """
    given = await read(request, TaskRequest, types=("image/", "audio/"))
    served = served_by(request, model if isinstance(given, File) else given.model or model)
    own = served.reader.task(task)
    body = TaskRequest(input=given.row(own)) if isinstance(given, File) else given
    check_options(own, body.options)
    items = _items(body.input)
    if body.stream:
        return await _written(request, served, Ask(row_of(items[0]), task, body.options), items)
    asks = [Ask(row_of(item), task, body.options) for item in items]
    outcomes = await outcomes_of(request, served, asks)
    _raise_if_all(outcomes)
    results = [result_of(outcome) for outcome in outcomes]
    about = {"task": task, "kind": own.kind, **about_of(served, outcomes)}
    return await respond(request, served, outcomes, {**about, "results": results})


@router.post("/v1/tasks")
async def many_tasks(request: Request, body: ManyRequest) -> Response:
    """The answers of several tasks to each item, under the tasks' names."""
    served = served_by(request, body.model)
    tasks = body.tasks if isinstance(body.tasks, dict) else dict.fromkeys(body.tasks, None)
    for name, options in tasks.items():
        check_options(served.reader.task(name), options or {})
    items = _items(body.input)
    check_items(request, len(items) * len(tasks))
    asks = [
        Ask(row_of(item), name, options or {}) for item in items for name, options in tasks.items()
    ]
    outcomes = await outcomes_of(request, served, asks)
    _raise_if_all(outcomes)
    width = len(tasks)
    results = [
        dict(zip(tasks, map(result_of, outcomes[i : i + width]), strict=True))
        for i in range(0, len(outcomes), width)
    ]
    value = {**about_of(served, outcomes), "results": results}
    return await respond(request, served, outcomes, value)


def result_of(outcome: Outcome) -> dict[str, Any]:
    """An answer as the page and our client read it, or its error."""
    if isinstance(outcome, Refusal):
        return {"error": {"code": outcome.code, "message": outcome.message}}
    counts = {"tokens": outcome.tokens, "dropped": outcome.dropped, "cached": outcome.cached}
    return {**outcome.record, **counts}


def about_of(served: Served, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """By what answers were computed, and of how many tokens."""
    answers = [one for one in outcomes if isinstance(one, Answered)]
    return {
        "model": served.name,
        "sha256": served.hello["sha256"],
        "form": served.form,
        "precision": served.precision,
        "usage": {
            "tokens": sum(one.tokens for one in answers),
            "dropped": sum(one.dropped for one in answers),
        },
    }


async def _written(
    request: Request, served: Served, ask: Ask, items: Sequence[Item]
) -> StreamingResponse:
    """Server-sent events: `data: {"part": …}` as it is written, then the whole `result`."""
    if served.reader.task(str(ask.task)).kind != "generate" or len(items) != 1:
        raise Refusal(422, "no_stream", "only one text of a task of kind generate comes in parts")
    parts = served.write(ask, seconds_of(request))
    first = await anext(parts)  # what is wrong from the start has a status of its own

    async def events() -> AsyncIterator[bytes]:
        try:
            yield _event(served, first)
            async for part in parts:
                yield _event(served, part)
        except Refusal as refusal:
            yield b"data: " + refused(refusal, "/v1/")[0] + b"\n\n"
        finally:
            await parts.aclose()
        yield b"data: [DONE]\n\n"

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-model": quote(served.name), "x-form": served.form},
    )


def _event(served: Served, part: str | Answered) -> bytes:
    if isinstance(part, str):
        return b"data: " + to_json({"part": part}) + b"\n\n"
    said = {**about_of(served, [part]), "result": result_of(part)}
    return b"data: " + to_json(said) + b"\n\n"


def _items(given: str | dict[str, Any] | list[Item]) -> list[Item]:
    items: list[Item] = given if isinstance(given, list) else [given]
    if not items:
        raise Refusal(422, "no_items", "there is nothing to answer: give a text")
    return items


def row_of(item: Item) -> str | tuple[str, ...] | Mapping[str, Any]:
    """An item as a task reads it."""
    return tuple(item) if isinstance(item, list) else item


def _raise_if_all(outcomes: Sequence[Outcome]) -> None:
    """Where nothing could be answered, the first error is the request's."""
    wrong = [one for one in outcomes if isinstance(one, Refusal)]
    if len(wrong) == len(outcomes):
        raise wrong[0]
