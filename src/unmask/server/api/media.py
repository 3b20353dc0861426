"""The shapes of `huggingface_hub.InferenceClient` for pictures and sound, one route a task.

The client sends the file itself, and where there are parameters JSON with base64 in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import Field

from unmask.server.api.common import (
    ERRORS,
    Body,
    ModelName,
    TaskName,
    answers_of,
    check_items,
    count_in,
    only,
    respond,
    served_by,
    task_of,
)
from unmask.server.api.files import File, accepts, read
from unmask.server.api.labels import check_function, labels_of
from unmask.server.asks import Answered, Ask
from unmask.server.body import StrictRoute
from unmask.server.errors import bad_input
from unmask.server.options import check_options
from unmask.tasks import Task

router = APIRouter(
    prefix="/pipeline", route_class=StrictRoute, responses=ERRORS, tags=["huggingface"]
)

_GIVEN = ("classify", "regress")
_TEMPLATE = 1000  # characters


class FileRequest(Body):
    """A picture or a recording with parameters."""

    inputs: str = Field(description="the file in base64; never a path or an address")
    parameters: dict[str, Any] = Field(default_factory=dict)


_PICTURE = accepts(FileRequest, "image/*", "application/octet-stream")
_SOUND = accepts(FileRequest, "audio/*", "application/octet-stream")


@router.post("/image-classification", openapi_extra=_PICTURE)
async def image_classification(
    request: Request, model: ModelName = None, task: TaskName = None
) -> Response:
    """The labels of a picture with their probabilities."""
    return await _labels(request, model, task, "image")


@router.post("/audio-classification", openapi_extra=_SOUND)
async def audio_classification(
    request: Request, model: ModelName = None, task: TaskName = None
) -> Response:
    """The labels of a recording with their probabilities."""
    return await _labels(request, model, task, "audio")


@router.post("/automatic-speech-recognition", openapi_extra=_SOUND)
async def automatic_speech_recognition(
    request: Request, model: ModelName = None, task: TaskName = None
) -> Response:
    """What is said in a recording, by a task of kind `transcribe`."""
    served = served_by(request, model)
    own = task_of(served, ["transcribe"], task)
    row, parameters = await _given(request, own, "audio")
    only(parameters, "generation_parameters", "return_timestamps")
    if parameters.get("return_timestamps"):
        raise bad_input("return_timestamps: nothing says when what is said")
    asked = parameters.get("generation_parameters") or {}
    if not isinstance(asked, dict) or set(asked) - {"num_beams"}:
        raise bad_input("generation_parameters: an object with num_beams; no other is known")
    options = {"beam": asked["num_beams"]} if "num_beams" in asked else {}
    check_options(own, options)
    answers = await answers_of(request, served, [Ask(row, own.name, options)])
    return await respond(request, served, answers, {"text": answers[0].record["short"]})


@router.post("/zero-shot-image-classification", openapi_extra=accepts(FileRequest))
async def zero_shot_image_classification(
    request: Request, model: ModelName = None, task: TaskName = None
) -> Response:
    """Labels by how near their texts are to the picture, by a task of kind `match`.

    As in CLIP the scores are a softmax of the cosines, divided by the task's temperature.
    """
    served = served_by(request, model)
    own = task_of(served, ["match"], task, reads=("text", "image"))
    row, parameters = await _given(request, own, "image")
    only(parameters, "candidate_labels", "hypothesis_template")
    labels = parameters.get("candidate_labels")
    if not isinstance(labels, list) or len(labels) < 2 or not all(map(_is_text, labels)):
        raise bad_input("parameters.candidate_labels: a list of two texts or more")
    check_items(request, 1 + len(labels))
    template = parameters.get("hypothesis_template", "{}")
    if not isinstance(template, str) or template.count("{}") != 1:
        raise bad_input("parameters.hypothesis_template: a text with one {} in the label's place")
    if len(template) > _TEMPLATE:  # it is sent once a label
        raise bad_input(f"parameters.hypothesis_template: at most {_TEMPLATE} characters")
    column = own.options.texts[0]
    rows = [row, *({column: template.replace("{}", label)} for label in labels)]
    answers = await answers_of(request, served, [Ask(one, own.name) for one in rows])
    picture, *texts = map(_vector, answers)
    logits = np.stack(texts) @ picture / own.options.temperature
    chances = np.exp(logits - logits.max())
    chances = chances / chances.sum()
    found = [{"label": labels[i], "score": float(chances[i])} for i in np.argsort(-chances)]
    return await respond(request, served, answers, found)


async def _labels(request: Request, model: str | None, task: str | None, modality: str) -> Response:
    served = served_by(request, model)
    own = task_of(served, _GIVEN, task, reads=(modality,))
    row, parameters = await _given(request, own, modality)
    only(parameters, "top_k", "function_to_apply")
    top = count_in(parameters, "top_k", 0) or None
    check_function(own, parameters)
    answers = await answers_of(request, served, [Ask(row, own.name)])
    return await respond(request, served, answers, labels_of(answers[0])[:top])


async def _given(
    request: Request, task: Task[Any, Any], modality: str
) -> tuple[dict[str, str], Mapping[str, Any]]:
    """The row, and the parameters that came with it."""
    body = await read(request, FileRequest)
    if isinstance(body, File):
        return body.row(task, modality), {}
    return File(body.inputs, None).row(task, modality), body.parameters


def _vector(answer: Answered) -> np.ndarray:
    """The vector (D,) of a row with one view."""
    (own,) = answer.record["answer"]["vectors"].values()
    return np.array(own)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
