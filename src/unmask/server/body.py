"""JSON from strangers: its depth and encoding are looked at before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from unmask.server.errors import Refusal

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def parse(body: bytes, most_depth: int) -> Any:
    """The value of a JSON text in UTF-8, no deeper than so; a Refusal says what is wrong.

    NaN is no JSON, lone surrogates are no Unicode, and NUL no text: all are refused.
    """
    if body.count(b"[") + body.count(b"{") > most_depth:
        depth = deepest = 0
        for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
            depth += 1 if bracket.group() in b"[{" else -1
            deepest = max(deepest, depth)
        if deepest > most_depth:
            message = f"the JSON is {deepest} levels deep; {most_depth} are read"
            raise Refusal(400, "too_deep", message)
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = re.sub(r"[^\x20-\x7e]", "?", str(error))[:200]
        raise Refusal(400, "bad_json", f"the body is no valid JSON: {reason}") from None
    if b"\\u0000" in body and _has_nul(value):
        raise Refusal(400, "nul", "a text holds the character NUL, which is no text")
    return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    return isinstance(value, list) and any(map(_has_nul, value))


class BadBody(HTTPException):
    """A Refusal on its way through FastAPI."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


class StrictRequest(Request):
    """A request whose JSON is read by `parse`."""

    async def json(self) -> Any:
        """The body's value, parsed once."""
        if not hasattr(self, "_json"):
            try:
                self._json = parse(await self.body(), self.app.state.settings.depth)
            except Refusal as refusal:  # FastAPI lets through only exceptions of its own
                raise BadBody(refusal) from None
        return self._json


class StrictRoute(APIRoute):
    """A route that hands its endpoint a StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """FastAPI's own handler behind it."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle
