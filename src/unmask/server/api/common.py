"""What every interface does: find the model, ask it, and say how the answer came about."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from unmask.server.asks import Answered, Ask
from unmask.server.body import check_count
from unmask.server.errors import Refusal, bad_input
from unmask.server.fleet import Fleet
from unmask.server.served import Outcome, Served
from unmask.tasks import Task

ModelName = Annotated[
    str | None, Query(max_length=200, description="which model (the first unless said)")
]
TaskName = Annotated[
    str | None, Query(max_length=200, description="which task (the only one of its kind)")
]
One = TypeVar("One")
# Of a list that is wrong throughout, the first error is enough: a million take seconds to make.
Many = Annotated[list[One], Field(fail_fast=True)]
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": said,
        "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
    }
    for status, said in {
        400: "the body is no JSON that is read",
        401: "no valid key",
        403: "not for this key, or not from there",
        404: "no such model or task",
        408: "the body came too slowly",
        413: "too much in one request",
        415: "the body is encoded in a way that is not read",
        422: "the request is not as it must be",
        429: "overloaded: try again after the seconds that Retry-After says",
        431: "headers too large",
        500: "the model failed",
        503: "no worker is ready",
        504: "no answer in time",
    }.items()
}


class Body(BaseModel):
    """A request's body. Keys that others' clients send and that mean nothing here are let pass."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Strict(BaseModel):
    """A body of our own interface, whose misspelt keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def served_by(request: Request, model: str | None) -> Served:
    """The model of this name, or the first."""
    fleet: Fleet = request.app.state.fleet
    served = fleet.get(model)
    said = request.scope.setdefault("state", {}).setdefault("said", {})
    said["model"] = served.name
    return served


def task_of(
    served: Served, kinds: Sequence[str], name: str | None = None, reads: Sequence[str] = ()
) -> Task[Any, Any]:
    """The task of this name, which must be of these kinds; or the only one of them.

    `reads` names modalities that it must read.
    """
    wanted = " or ".join(kinds) + (f" of {' and '.join(reads)}" if reads else "")
    if name is not None:
        task = served.reader.task(name)
        if task.kind not in kinds:
            message = f"task {name} is of kind {task.kind}; this asks for {' or '.join(kinds)}"
            raise Refusal(422, "wrong_kind", message)
        if not modalities_of(task) >= set(reads):
            message = f"task {name} reads {task.options.modality}; this asks for {wanted}"
            raise Refusal(422, "wrong_kind", message)
        return task
    tasks = served.reader.tasks.values()
    found = [own for own in tasks if own.kind in kinds and modalities_of(own) >= set(reads)]
    if not found:
        raise Refusal(404, "no_such_task", f"model {served.name} has no {wanted} task")
    if len(found) > 1:
        names = ", ".join(task.name for task in found)
        raise Refusal(422, "which_task", f"say which task by ?task=NAME; there are {names}")
    return found[0]


def modalities_of(task: Task[Any, Any]) -> set[str]:
    """What its rows may hold."""
    return set(task.options.modality.split("+"))


def count_in(parameters: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number among a client's parameters."""
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise bad_input(f"{name}: a whole number from 1 to 100, not {value!r:.40}")
    return value


def only(parameters: Mapping[str, Any], *known: str) -> None:
    """Refuse parameters that are not served, rather than answer as if they had been heard."""
    for name, value in parameters.items():
        if name not in known and value is not None:
            raise bad_input(f"parameter {name!r:.80} is not served here; {', '.join(known)} may be")


def check_items(request: Request, count: int) -> None:
    """Refuse no items, and more than a request may have."""
    if not count:
        raise Refusal(422, "no_items", "there is nothing to answer: give a text")
    check_count(count, request.app.state.settings.items)


async def outcomes_of(request: Request, served: Served, asks: Sequence[Ask]) -> list[Outcome]:
    """What is answered to each, each item's error its own."""
    check_items(request, len(asks))
    return await served.ask(asks, seconds_of(request))


async def answers_of(request: Request, served: Served, asks: Sequence[Ask]) -> list[Answered]:
    """The same for interfaces that know no error of one item: the first is that of all."""
    outcomes = await outcomes_of(request, served, asks)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Refusal):
            where = f"item {number}: " if len(outcomes) > 1 else ""
            raise Refusal(outcome.status, outcome.code, where + outcome.message)
    return [outcome for outcome in outcomes if isinstance(outcome, Answered)]


def seconds_of(request: Request) -> float:
    """How long the client waits at most: X-Request-Timeout in seconds, or the server's limit."""
    most: float = request.app.state.settings.timeout
    given = request.headers.get("x-request-timeout")
    if given is None:
        return most
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise Refusal(422, "bad_input", "X-Request-Timeout is a number of seconds above 0")
    return min(seconds, most)


def no_cuts(served: Served, answers: Iterable[Answered]) -> None:
    """Refuse texts that were cut, for a client that asked for whole ones (`truncate: false`)."""
    for answer in answers:
        if answer.dropped:
            total = answer.tokens + answer.dropped
            message = f"a text has {total} tokens, and {answer.tokens} are read (truncate: false)"
            raise Refusal(413, "too_long", message)


async def respond(
    request: Request,
    served: Served,
    outcomes: Sequence[Outcome],
    value: Any,
    media: str = "application/json",
    large: bool = False,
) -> Response:
    """The answer, with headers that say by what it was computed, of how much, and for how long.

    `value` may be a function that makes it: an answer to many items, or one that is `large` though
    there are few, is made and written off the event loop.
    """
    answers = [one for one in outcomes if isinstance(one, Answered)]
    tokens, dropped = sum(a.tokens for a in answers), sum(a.dropped for a in answers)
    cached = sum(a.cached for a in answers)
    request.state.said.update(items=len(outcomes), tokens=tokens, dropped=dropped, cached=cached)
    headers = {
        "x-model": quote(served.name),
        "x-form": served.form,
        "x-precision": served.precision,
        "x-compute-type": str(served.hello["device"]),
        "x-compute-tokens": str(tokens),
        "x-truncated-tokens": str(dropped),
        "x-cached-items": str(cached),
        "x-queue-time": _milliseconds(a.queued for a in answers),
        "x-inference-time": _milliseconds(a.computed for a in answers),
    }

    def write() -> bytes:
        made = value() if callable(value) else value
        return made if isinstance(made, bytes) else to_json(made)

    body = await asyncio.to_thread(write) if large or len(outcomes) > _FEW else write()
    return Response(body, media_type=media, headers=headers)


_FEW = 8  # items whose answers are written faster than a thread is woken


def _milliseconds(seconds: Iterable[float]) -> str:
    return str(round(1000 * max(seconds, default=0.0)))
