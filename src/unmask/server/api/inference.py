"""text-embeddings-inference's other routes: /predict, /tokenize, /info, /health, /metrics."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response

from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.inputs.text import TextInput
from unmask.server.api.common import (
    ERRORS,
    Body,
    Many,
    ModelName,
    TaskName,
    answers_of,
    check_items,
    no_cuts,
    respond,
    served_by,
    task_of,
)
from unmask.server.api.labels import LABELLED, labels_of
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import Refusal, bad_input
from unmask.tasks import Task

router = APIRouter(route_class=StrictRoute, responses=ERRORS, tags=["inference"])


class PredictRequest(Body):
    """`POST /predict`: a text, a pair, or a list of texts or of pairs."""

    inputs: str | Many[str | Many[str]]
    truncate: bool | None = None
    raw_scores: bool = False


class TokenizeRequest(Body):
    """`POST /tokenize`."""

    inputs: str | Many[str]
    add_special_tokens: bool = True


@router.post("/predict")
async def predict(
    request: Request, body: PredictRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The labels of each text with their probabilities, the likeliest first."""
    if body.raw_scores:
        raise bad_input("raw_scores: probabilities are given, as the task is calibrated")
    served = served_by(request, model)
    own = task_of(served, LABELLED, task)
    several = isinstance(body.inputs, list)
    items = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    rows = [tuple(item) if isinstance(item, list) else item for item in items]
    answers = await answers_of(request, served, [Ask(row, own.name) for row in rows])
    if body.truncate is False:
        no_cuts(served, answers)
    found = [labels_of(answer) for answer in answers]
    return await respond(request, served, answers, found if several else found[0])


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeRequest, model: ModelName = None) -> Response:
    """The tokens of each text with their ids and characters, as many as the model reads."""
    served = served_by(request, model)
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    check_items(request, len(texts))
    read = await asyncio.to_thread(lambda: [_encoded(served.reader.text, text) for text in texts])
    counts = [Answered(len(one.ids), one.dropped) for one in read]
    whole = body.add_special_tokens
    return await respond(request, served, counts, lambda: [_tokens(one, whole) for one in read])


def _encoded(text: TextInput, one: str) -> Encoded:
    try:
        return text.encode(one)
    except UserError as error:
        raise bad_input(str(error)) from None


def _tokens(encoded: Encoded, whole: bool) -> list[dict[str, Any]]:
    """What is said of each token; unless `whole`, not of [CLS] and its like."""
    special = encoded.special.tolist()
    return [
        {
            "id": int(number),
            "text": token,
            "special": special[i],
            "start": None if special[i] else int(start),
            "stop": None if special[i] else int(stop),
        }
        for i, (number, token, (start, stop)) in enumerate(
            zip(encoded.ids, encoded.tokens, encoded.offsets, strict=True)
        )
        if whole or not special[i]
    ]


@router.get("/info")
async def info(request: Request, model: ModelName = None) -> Response:
    """What is served: the model, its tasks with what they read, its limits, its card."""
    served = served_by(request, model)
    settings, hello = request.app.state.settings, served.hello
    tasks = [
        {
            "name": task.name,
            "kind": task.kind,
            "inputs": list(task.options.inputs),
            "reads": _reads(task),
            "labels": task.facts.get("labels"),
        }
        for task in served.reader.tasks.values()
    ]
    value = {
        "model_id": served.name,
        "model_sha": hello["sha256"],
        "model_dtype": served.precision,
        "model_type": {"embedding": {"pooling": hello["pooling"]["mode"]}},
        "form": served.form,
        "tasks": tasks,
        "models": list(request.app.state.fleet.models),
        "max_input_length": served.reader.text.max_length,
        "max_batch_tokens": settings.batch_tokens,
        "max_client_batch_size": settings.items,
        "max_concurrent_requests": settings.connections,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "max_body_bytes": settings.body_bytes,
        "image": hello["encoder"]["image"],
        "audio": hello["encoder"]["audio"],
        "dimensions": served.width,
        "mask_token": _mask(served.reader.text),
        "scores": hello["scores"],
        "card": hello["card"],
        "version": version("unmask"),
    }
    return await respond(request, served, [], value)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The names that are served, as OpenAI's clients list them."""
    names = request.app.state.fleet.models
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "unmask"} for name in names]
    return {"object": "list", "data": data}


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """200 while every model has a worker; 503 otherwise, and when the server is about to end."""
    if request.app.state.fleet.draining or not request.app.state.fleet.healthy:
        raise Refusal(503, "not_ready", "no worker is ready; one is being started", 1.0)
    return {"status": "ok"}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    text = request.app.state.metrics.text([*request.app.state.fleet.models.values()])
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/admin/reload")
async def reload(request: Request) -> dict[str, str]:
    """Load every model anew; no request is lost. What became of each."""
    said: dict[str, str] = await request.app.state.fleet.reload()
    return said


def _reads(task: Task[Any, Any]) -> dict[str, str]:
    """What each input column holds: text, image or audio."""
    beside = {column: modality for modality, column in task.options.others.items()}
    return {column: beside.get(column, "text") for column in task.options.inputs}


def _mask(text: Any) -> str | None:
    return text.mask_token if text.special_id("mask") is not None else None
