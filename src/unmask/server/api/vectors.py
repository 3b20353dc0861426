"""Vectors as OpenAI's clients and text-embeddings-inference's ask for them, and as raw bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import Field

from unmask.server.api.common import (
    ERRORS,
    Body,
    Many,
    ModelName,
    TaskName,
    answers_of,
    no_cuts,
    respond,
    served_by,
    task_of,
)
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import Refusal
from unmask.server.served import Served

router = APIRouter(route_class=StrictRoute, responses=ERRORS, tags=["vectors"])

Texts = str | Many[str]


class OpenAIRequest(Body):
    """`POST /v1/embeddings`. Texts, or token ids as OpenAI's clients may send them: not read."""

    input: Texts
    model: str | None = Field(None, max_length=200)
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


class EmbedRequest(Body):
    """`POST /embed`."""

    inputs: Texts
    normalize: bool | None = True
    truncate: bool | None = Field(None, description="false: refuse texts that would be cut")
    dimensions: int | None = Field(None, ge=1)


class RerankRequest(Body):
    """`POST /rerank`."""

    query: str
    texts: Many[str]
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None


class Pairs(Body):
    """A sentence, and those that it is compared with."""

    source_sentence: str
    sentences: Many[str]


class SimilarityRequest(Body):
    """`POST /similarity`."""

    inputs: Pairs


@router.post("/v1/embeddings")
async def openai(request: Request, body: OpenAIRequest) -> Response:
    """OpenAI's interface. A `model` that is not served by that name means the first one."""
    known = body.model in request.app.state.fleet.models
    served = served_by(request, body.model if known else None)
    texts = _texts(body.input)
    answers = await _vectors(request, served, texts, body.dimensions)
    coded = body.encoding_format == "base64"
    tokens = sum(answer.tokens for answer in answers)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}

    def value() -> Any:
        data = [
            {"object": "embedding", "index": i, "embedding": _coded(a) if coded else _floats(a)}
            for i, a in enumerate(answers)
        ]
        return {"object": "list", "data": data, "model": served.name, "usage": usage}

    return await respond(request, served, answers, value)


@router.post("/embed")
async def embed(request: Request, body: EmbedRequest, model: ModelName = None) -> Response:
    """One vector a text, as JSON; with `Accept: application/octet-stream` raw float32 (n, D)."""
    served = served_by(request, model)
    answers = await embedded(request, served, body)
    if "application/octet-stream" in request.headers.get("accept", ""):
        raw = b"".join(a.vector.astype("<f4").tobytes() for a in answers if a.vector is not None)
        response = await respond(request, served, answers, raw, "application/octet-stream")
        width = body.dimensions or served.width
        response.headers["x-shape"] = f"{len(answers)},{width}"
        return response
    return await respond(request, served, answers, lambda: [*map(_floats, answers)])


async def embedded(request: Request, served: Served, body: EmbedRequest) -> list[Answered]:
    """The vectors that a body of TEI's or the hub's asks for."""
    normalised = bool(served.hello["pooling"]["normalise"])
    if body.normalize is False and normalised:
        message = "normalize: the vectors of this model are always of length 1"
        raise Refusal(422, "bad_input", message)
    answers = await _vectors(request, served, _texts(body.inputs), body.dimensions)
    if body.normalize and not normalised:
        answers = [replace(a, vector=_unit(a.vector)) for a in answers if a.vector is not None]
    if body.truncate is False:
        no_cuts(served, answers)
    return answers


@router.post("/rerank")
async def rerank(
    request: Request, body: RerankRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """How relevant each text is to the query, the most relevant first.

    By the model's `rerank` task; where it has none, by the cosine of its vectors.
    """
    served = served_by(request, model)
    kinds = {own.kind for own in served.reader.tasks.values()}
    if task is None and "rerank" not in kinds:
        answers = await _vectors(request, served, [body.query, *body.texts], None)
        scores = _cosines(answers)
    else:
        own = task_of(served, ["rerank"], task)
        asks = [Ask((body.query, text), own.name) for text in body.texts]
        answers = await answers_of(request, served, asks)
        field = "logit" if body.raw_scores else "relevance"
        scores = [float(answer.record["answer"][field]) for answer in answers]
    if body.truncate is False:
        no_cuts(served, answers)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ranked = [
        {"index": i, "score": scores[i], **({"text": body.texts[i]} if body.return_text else {})}
        for i in order
    ]
    return await respond(request, served, answers, ranked)


@router.post("/similarity")
async def similarity(
    request: Request, body: SimilarityRequest, model: ModelName = None
) -> Response:
    """The cosine of each sentence with the first."""
    served = served_by(request, model)
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    answers = await _vectors(request, served, texts, None)
    return await respond(request, served, answers, _cosines(answers))


async def _vectors(
    request: Request, served: Served, texts: Sequence[str], width: int | None
) -> list[Answered]:
    if width is not None and width > served.width:
        message = f"dimensions {width}: this model's vectors have {served.width}"
        raise Refusal(422, "bad_input", message)
    return await answers_of(request, served, [Ask(text, width=width) for text in texts])


def _texts(given: Texts) -> list[str]:
    return [given] if isinstance(given, str) else given


def _coded(answer: Answered) -> str:
    """The bytes of a vector, little-endian float32, in base64."""
    assert answer.vector is not None
    return base64.b64encode(answer.vector.astype("<f4").tobytes()).decode()


def _floats(answer: Answered) -> Any:
    return None if answer.vector is None else answer.vector.tolist()


def _cosines(answers: Sequence[Answered]) -> list[float]:
    """Of each vector with the first, whatever their lengths: (n,)."""
    x = _unit(np.stack([answer.vector for answer in answers if answer.vector is not None]))
    return [float(value) for value in np.clip(x[1:] @ x[0], -1, 1)]


def _unit(x: np.ndarray) -> np.ndarray:
    """Vectors (…, D) brought to length 1."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.maximum(length, 1e-12), dtype=np.float32)
