"""Why a task answers as it does, and where the encoder looks meanwhile; of one row at a time."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field
from pydantic_core import to_json

from unmask.explain.explain import METHODS
from unmask.server.api.common import ERRORS, Strict, answers_of, respond, served_by
from unmask.server.api.native import Item, Name, about_of, row_of
from unmask.server.asks import Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import bad_input
from unmask.server.served import Served

router = APIRouter(route_class=StrictRoute, responses=ERRORS, tags=["tasks"])


class ExplainRequest(Strict):
    """One text, pair or row, and what is to be explained of it."""

    input: Item = Field(description="a text, a pair as a list of texts, or a row as an object")
    method: str = Field(
        "integrated_gradients", max_length=100, description=f"one of {', '.join(METHODS)}"
    )
    answer: str | None = Field(
        None, max_length=1000, description="another answer than the model's own, such as a label"
    )
    by: Literal["word", "token"] = "word"
    check: bool = Field(
        False, description="measure how faithful the scores are; several times slower"
    )
    model: str | None = Field(None, max_length=200)


class AttentionRequest(Strict):
    """One text, pair or row, and the layer whose attention is wanted."""

    input: Item
    layer: int | None = Field(None, ge=1, le=1000, description="from 1; the last unless said")
    model: str | None = Field(None, max_length=200)


@router.post("/v1/tasks/{task}/explain")
async def explain(request: Request, task: Name, body: ExplainRequest) -> Response:
    """Scores of a row's words: how much each speaks for the answer."""
    served = served_by(request, body.model)
    served.reader.task(task)
    if body.method not in METHODS:
        raise bad_input(f"method {body.method!r}: choose of {', '.join(METHODS)}")
    why = {"method": body.method, "answer": body.answer, "by": body.by, "check": body.check}
    return await _told(request, served, Ask(row_of(body.input), task, why=why), "explanation")


@router.post("/v1/tasks/{task}/attention")
async def attention(request: Request, task: Name, body: AttentionRequest) -> Response:
    """Where one layer looks, by head, from each token to each."""
    served = served_by(request, body.model)
    served.reader.task(task)
    layers = int(served.hello["encoder"]["num_layers"])
    layer = layers if body.layer is None else body.layer
    if layer > layers:
        raise bad_input(f"layer {layer}: this encoder has layers 1 to {layers}")
    ask = Ask(row_of(body.input), task, why={"layer": layer})
    return await _told(request, served, ask, "attention")


async def _told(request: Request, served: Served, ask: Ask, name: str) -> Response:
    """What the worker wrote, in our envelope; it may be large, so it is not read on the way."""
    answers = await answers_of(request, served, [ask])
    about: dict[str, Any] = {**about_of(served, answers), "cached": answers[0].cached}
    value = b'%s,"%s":%s}' % (to_json(about)[:-1], name.encode(), answers[0].raw)
    return await respond(request, served, answers, value)
