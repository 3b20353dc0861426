"""The shapes that `huggingface_hub.InferenceClient` speaks, one route a task.

`InferenceClient().fill_mask(text, model="http://host:8000/pipeline/fill-mask")`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import Field

from unmask.server.api.common import (
    ERRORS,
    Body,
    ModelName,
    TaskName,
    answers_of,
    count_in,
    respond,
    served_by,
    task_of,
)
from unmask.server.api.labels import LABELLED, labels_of
from unmask.server.api.vectors import EmbedRequest, SimilarityRequest, embedded, similarity
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import bad_input
from unmask.server.options import check_options
from unmask.server.served import Served

router = APIRouter(
    prefix="/pipeline", route_class=StrictRoute, responses=ERRORS, tags=["huggingface"]
)
Shape = TypeVar("Shape")


class Question(Body):
    """A question, and the text that may hold its answer."""

    question: str
    context: str


class QuestionRequest(Body):
    """Of question-answering."""

    inputs: Question
    parameters: dict[str, Any] = Field(default_factory=dict)


class TextRequest(Body):
    """Of every task that reads texts."""

    inputs: str | list[str]
    parameters: dict[str, Any] = Field(default_factory=dict)


@router.post("/feature-extraction")
async def feature_extraction(
    request: Request, body: EmbedRequest, model: ModelName = None
) -> Response:
    """One vector a text, pooled as the model was trained."""
    served = served_by(request, model)
    answers = await embedded(request, served, body)

    def value() -> Any:
        return [answer.vector.tolist() for answer in answers if answer.vector is not None]

    return await respond(request, served, answers, value)


@router.post("/sentence-similarity")
async def sentence_similarity(
    request: Request, body: SimilarityRequest, model: ModelName = None
) -> Response:
    """The cosine of each sentence with the source sentence."""
    return await similarity(request, body, model)


@router.post("/fill-mask")
async def fill_mask(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The likeliest tokens for the one [MASK] of a text; for several, a list for each."""
    top = count_in(body.parameters, "top_k", 5)

    def shape(served: Served, text: str, answer: Answered) -> Any:
        mask = served.reader.text.mask_token
        found = [
            [_filled(served, text, mask, place, *one) for one in own.items()]
            for place, own in enumerate(answer.record["answer"]["candidates"])
        ]
        if not found:
            raise bad_input(f"the text has no {mask} to fill")
        return found[0] if len(found) == 1 else found

    served = served_by(request, model)
    own = task_of(served, ["mlm"], task)
    return await _each(request, served, body.inputs, own.name, {"top": top}, shape)


@router.post("/text-classification")
async def text_classification(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The labels with their probabilities."""
    served = served_by(request, model)
    own = task_of(served, LABELLED, task, reads=("text",))
    top = count_in(body.parameters, "top_k", 0) or None
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    answers = await answers_of(request, served, [Ask(text, own.name) for text in texts])
    return await respond(request, served, answers, [labels_of(answer)[:top] for answer in answers])


@router.post("/token-classification")
async def token_classification(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The entities of a text, whole (the aggregation `simple` of transformers)."""
    if body.parameters.get("aggregation_strategy") == "none":
        raise bad_input("aggregation_strategy none: entities are given whole; ask for `simple`")
    served = served_by(request, model)
    own = task_of(served, ["tag"], task)
    ignored = body.parameters.get("ignore_labels") or []

    def shape(served: Served, text: str, answer: Answered) -> Any:
        return [
            {
                "entity_group": one["label"],
                "score": one["probability"],
                "word": one["text"],
                "start": one["start"],
                "end": one["end"],
            }
            for one in answer.record["answer"]["entities"]
            if one["label"] not in ignored
        ]

    return await _each(request, served, body.inputs, own.name, {}, shape)


@router.post("/question-answering")
async def question_answering(
    request: Request, body: QuestionRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The stretch of the context that answers the question; with top_k, the best few."""
    served = served_by(request, model)
    own = task_of(served, ["span"], task)
    top = count_in(body.parameters, "top_k", 1)
    asks = [Ask((body.inputs.question, body.inputs.context), own.name, {"top": top})]
    check_options(own, asks[0].options)
    answers = await answers_of(request, served, asks)
    said = answers[0].record["answer"]
    best = [said["prediction"], said["probability"], said["start"] or 0, said["end"] or 0]
    found = [
        {"answer": text, "score": score, "start": start, "end": end}
        for text, score, start, end in said.get("candidates", [best])
    ]
    return await respond(request, served, answers, found if top > 1 else found[0])


@router.post("/translation")
async def translation(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """What a task of kind `generate` writes for each text."""
    return await _written(request, body, model, task, "translation_text")


@router.post("/summarization")
async def summarization(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """What a task of kind `generate` writes for each text."""
    return await _written(request, body, model, task, "summary_text")


async def _written(
    request: Request, body: TextRequest, model: str | None, task: str | None, field: str
) -> Response:
    served = served_by(request, model)
    own = task_of(served, ["generate"], task)
    options = body.parameters.get("generate_parameters") or {}
    if not isinstance(options, dict):
        raise bad_input("generate_parameters: an object of options")
    check_options(own, options)
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    answers = await answers_of(request, served, [Ask(text, own.name, options) for text in texts])
    found = [{field: answer.record["short"]} for answer in answers]
    return await respond(request, served, answers, found)


async def _each(
    request: Request,
    served: Served,
    inputs: str | list[str],
    task: str,
    options: Mapping[str, Any],
    shape: Callable[[Served, str, Answered], Shape],
) -> Response:
    """A shape for a text, or a list of them for a list."""
    check_options(served.reader.task(task), options)
    texts = [inputs] if isinstance(inputs, str) else inputs
    answers = await answers_of(request, served, [Ask(text, task, options) for text in texts])
    found = [shape(served, *pair) for pair in zip(texts, answers, strict=True)]
    return await respond(request, served, answers, found[0] if isinstance(inputs, str) else found)


def _filled(
    served: Served, text: str, mask: str, place: int, token: str, score: float
) -> dict[str, Any]:
    """One candidate; its id where the vocabulary writes it so, else None."""
    parts = text.split(mask)
    before, after = mask.join(parts[: place + 1]), mask.join(parts[place + 1 :])
    return {
        "score": score,
        "token": served.reader.text.tokenizer.token_to_id(token),
        "token_str": token,
        "sequence": before + token + after,
    }
