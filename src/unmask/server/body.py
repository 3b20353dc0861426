"""JSON from strangers: its depth and encoding are looked at before anything is made of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from unmask.server.errors import Refusal

_LARGE = re.compile(rb"[eE]\+?\d{3}|(?<!\d)\d{200}")  # what a number beyond all floats looks like
_OPEN_CLOSE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONG = 1 << 18  # bytes, whose JSON is read off the event loop
_NAMES = 64  # of an object that is a body
# Where lists of items stand in the bodies of all interfaces, and the names of tasks.
_LISTS = (
    ("input",),
    ("inputs",),
    ("inputs", "sentences"),
    ("texts",),
    ("tasks",),
    ("parameters", "candidate_labels"),
)


def parse(body: bytes, most_depth: int) -> Any:
    """The value of a JSON text in UTF-8, no deeper than so; a Refusal says what is wrong.

    NaN is no JSON, lone surrogates are no Unicode, NUL is no text, 1e999 is no number: all are
    refused. Each step takes time in proportion to the text, whatever stands in it.
    """
    escaped = body.replace(b"\\\\", b"")  # a backslash that is left escapes what follows it
    bare = b"".join(escaped.replace(b'\\"', b"").split(b'"')[::2])  # without what strings hold
    if _deeper(bare, most_depth):
        message = f"the JSON is more than {most_depth} levels deep, and no more are read"
        raise Refusal(400, "too_deep", message)
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = re.sub(r"[^\x20-\x7e]", "?", str(error))[:200]
        raise Refusal(400, "bad_json", f"the body is no valid JSON: {reason}") from None
    if b"\\u0000" in escaped:
        raise Refusal(400, "nul", "a text holds the character NUL, which is no text")
    if _LARGE.search(bare) and _holds_infinity(value):
        raise Refusal(400, "bad_json", "the body holds a number that is too large")
    return value


def _deeper(bare: bytes, most: int) -> bool:
    """Whether brackets stand in each other more often than so; what is never closed counts too."""
    left = bare.translate(_OPEN_CLOSE, _NO_BRACKETS)
    for _ in range(most):  # each time the innermost are taken away
        if b"[]" not in left:
            break
        left = left.replace(b"[]", b"")
    return b"[]" in left or left.count(b"[") > most


def check_size(value: Any, most: int) -> None:
    """Refuse a body of more items than so, before anything is made of them."""
    if isinstance(value, dict) and len(value) > _NAMES:
        message = f"the body has {len(value)} names; at most {_NAMES} are read"
        raise Refusal(422, "bad_request", message)
    for path in _LISTS:
        found = value
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, list) or (path == ("tasks",) and isinstance(found, dict)):
            check_count(len(found), most)


def check_count(count: int, most: int) -> None:
    """Refuse more items than so."""
    if count > most:
        message = f"{count} items in one request; at most {most} are read: send them in parts"
        raise Refusal(413, "too_many_items", message)


def _holds_infinity(value: Any) -> bool:
    """Whether one of the numbers in a value is beyond all floats."""
    if isinstance(value, dict):
        return any(map(_holds_infinity, value.values()))
    if isinstance(value, list):
        return any(map(_holds_infinity, value))
    return value in (inf, -inf)


class BadBody(HTTPException):
    """A Refusal on its way through FastAPI."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal


class StrictRequest(Request):
    """A request whose JSON is read by `parse`."""

    async def json(self) -> Any:
        """The body's value, parsed once; a long one off the event loop."""
        if not hasattr(self, "_json"):
            body, settings = await self.body(), self.app.state.settings
            try:
                if len(body) > _LONG:
                    value = await asyncio.to_thread(parse, body, settings.depth)
                else:
                    value = parse(body, settings.depth)
                check_size(value, settings.items)
            except Refusal as refusal:  # FastAPI lets through only exceptions of its own
                raise BadBody(refusal) from None
            self._json = value
        return self._json


class StrictRoute(APIRoute):
    """A route that hands its endpoint a StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """FastAPI's own handler behind it."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle
