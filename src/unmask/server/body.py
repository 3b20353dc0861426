"""JSON from strangers: its depth and encoding are looked at before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from unmask.server.errors import Refusal

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_LARGE = re.compile(rb"\d[eE]|\d{300}")  # what a number beyond all floats looks like


def parse(body: bytes, most_depth: int) -> Any:
    """The value of a JSON text in UTF-8, no deeper than so; a Refusal says what is wrong.

    NaN is no JSON, lone surrogates are no Unicode, NUL is no text, 1e999 is no number: all are
    refused.
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
    if b"\\u0000" in body and _holds(value, _has_nul):
        raise Refusal(400, "nul", "a text holds the character NUL, which is no text")
    if _LARGE.search(body) and _holds(value, lambda one: one in (inf, -inf)):
        raise Refusal(400, "bad_json", "the body holds a number that is too large")
    return value


def _has_nul(one: Any) -> bool:
    return isinstance(one, str) and "\0" in one


def _holds(value: Any, odd: Callable[[Any], bool]) -> bool:
    """Whether one of the strings and numbers in a value is odd."""
    if isinstance(value, dict):
        return any(_holds(one, odd) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(_holds(one, odd) for one in value)
    return odd(value)


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
