"""The shapes that `huggingface_hub.InferenceClient` speaks, one route a task.

`InferenceClient().fill_mask(text, model="http://host:8000/pipeline/fill-mask")`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from unmask.server.api.common import (
    ERRORS,
    Body,
    Many,
    ModelName,
    TaskName,
    answers_of,
    count_in,
    only,
    respond,
    served_by,
    task_of,
)
from unmask.server.api.labels import LABELLED, check_function, labels_of
from unmask.server.api.vectors import EmbedRequest, SimilarityRequest, embedded, similarity
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import Refusal, bad_input
from unmask.server.options import check_options
from unmask.server.served import Served

router = APIRouter(
    prefix="/pipeline", route_class=StrictRoute, responses=ERRORS, tags=["huggingface"]
)

_MOST_FILLED = 8_000_000  # characters, of all candidates with their texts
_LARGE_FILLED = 100_000  # characters that are written off the event loop
_RECORD = 64  # characters around a candidate's text


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

    inputs: str | Many[str]
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
    only(body.parameters, "top_k")
    top = count_in(body.parameters, "top_k", 5)
    served = served_by(request, model)
    own = task_of(served, ["mlm"], task)
    mask = served.reader.text.mask_token
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    most = served.reader.text.max_length
    size = sum((len(text) + _RECORD) * min(text.count(mask), most) * top for text in texts)
    if size > _MOST_FILLED:
        message = f"each candidate repeats its text, which makes {size:,} characters in all; "
        message += f"at most {_MOST_FILLED:,} are written: ask for a smaller top_k, or send less"
        raise Refusal(413, "too_large", message)

    def shape(text: str, answer: Answered) -> Any:
        candidates = answer.record["answer"]["candidates"]
        if not candidates:
            raise bad_input(f"the text has no {mask} to fill")
        found = _filled(served, text.split(mask), mask, candidates)
        return found[0] if len(found) == 1 else found

    large = size > _LARGE_FILLED
    return await _each(request, served, body.inputs, own.name, {"top": top}, shape, large)


@router.post("/text-classification")
async def text_classification(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The labels with their probabilities."""
    served = served_by(request, model)
    own = task_of(served, LABELLED, task, reads=("text",))
    only(body.parameters, "top_k", "function_to_apply")
    check_function(own, body.parameters)
    top = count_in(body.parameters, "top_k", 0) or None
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    answers = await answers_of(request, served, [Ask(text, own.name) for text in texts])
    return await respond(request, served, answers, [labels_of(answer)[:top] for answer in answers])


@router.post("/token-classification")
async def token_classification(
    request: Request, body: TextRequest, model: ModelName = None, task: TaskName = None
) -> Response:
    """The entities of a text, whole (the aggregation `simple` of transformers)."""
    only(body.parameters, "aggregation_strategy", "ignore_labels")
    strategy = body.parameters.get("aggregation_strategy")
    if strategy not in (None, "simple"):
        raise bad_input(f"aggregation_strategy {strategy!r:.80}: `simple` alone, whole entities")
    ignored = body.parameters.get("ignore_labels") or []
    if not isinstance(ignored, list) or not all(isinstance(one, str) for one in ignored):
        raise bad_input('ignore_labels: a list of labels, such as ["PER"]')
    served = served_by(request, model)
    own = task_of(served, ["tag"], task)

    def shape(text: str, answer: Answered) -> Any:
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
    only(body.parameters, "top_k")
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
    only(body.parameters, "generate_parameters")
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
    shape: Callable[[str, Answered], Any],
    large: bool = False,
) -> Response:
    """A shape for a text, or a list of them for a list."""
    check_options(served.reader.task(task), options)
    texts = [inputs] if isinstance(inputs, str) else inputs
    answers = await answers_of(request, served, [Ask(text, task, options) for text in texts])

    def value() -> Any:
        found = [shape(*pair) for pair in zip(texts, answers, strict=True)]
        return found[0] if isinstance(inputs, str) else found

    return await respond(request, served, answers, value, large=large)


def _filled(
    served: Served, parts: Sequence[str], mask: str, candidates: Sequence[Mapping[str, float]]
) -> list[list[dict[str, Any]]]:
    """The candidates of each mask; an id where the vocabulary writes a token so, else None."""
    found = []
    for place, own in enumerate(candidates):
        before, after = mask.join(parts[: place + 1]), mask.join(parts[place + 1 :])
        filled = [
            {
                "score": score,
                "token": served.reader.text.tokenizer.token_to_id(token),
                "token_str": token,
                "sequence": before + token + after,
            }
            for token, score in own.items()
        ]
        found.append(filled)
    return found
