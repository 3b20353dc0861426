"""Bodies that are JSON, or a picture or a recording themselves."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from unmask.server.errors import Refusal, bad_input
from unmask.tasks import Task

Shape = TypeVar("Shape", bound=BaseModel)

_MODALITIES = ("image", "audio")


@dataclass(frozen=True)
class File:
    """The bytes of a picture or a recording, in base64, and what its content type calls it."""

    coded: str
    modality: str | None  # None: the content type does not say

    def row(self, task: Task[Any, Any], modality: str | None = None) -> dict[str, str]:
        """The row that holds it alone, for a task that reads it."""
        modality = modality or self.modality or ""
        columns = task.options.others
        if modality not in columns:
            reads = " and ".join((*(("text",) if task.options.texts else ()), *columns))
            raise bad_input(f"task {task.name} reads {reads}, and this body is of type {modality}")
        return {columns[modality]: self.coded}


async def read(request: Request, model: type[Shape], types: Sequence[str] = ()) -> Shape | File:
    """The body as `model` if it is JSON, and else the file that it is.

    With `types`, such as `image/`, others are refused; a client that says no type means a file.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said == "application/json" or said.endswith("+json"):
        return await _json(request, model)
    if types and not said.startswith(tuple(types)):
        known = ", ".join(f"{one}*" for one in types)
        raise Refusal(422, "bad_request", f"a body is application/json, {known}; not {said:.80}")
    body = await request.body()
    found = next((one for one in _MODALITIES if said.startswith(f"{one}/")), None)
    return File(base64.b64encode(body).decode(), found)


async def _json(request: Request, model: type[Shape]) -> Shape:
    if not await request.body():
        raise Refusal(422, "bad_request", "the body is empty")
    try:
        return model.model_validate(await request.json())
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def accepts(model: type[BaseModel], *types: str) -> dict[str, Any]:
    """What the OpenAPI document says of a route with such a body."""
    file = {"schema": {"type": "string", "format": "binary"}}
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content | dict.fromkeys(types, file)}}
