"""The application: the interfaces, their errors, and the door in front of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from unmask.server.api import explain, huggingface, inference, media, native, page, vectors
from unmask.server.body import BadBody
from unmask.server.errors import Refusal
from unmask.server.fleet import Fleet
from unmask.server.guard import Guard, refused
from unmask.server.keys import Keys
from unmask.server.settings import Settings

log = logging.getLogger("unmask.server")


def make_app(fleet: Fleet, settings: Settings, keys: Keys, tls: bool = False) -> ASGIApp:
    """The application for models that are loaded when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await fleet.stop()

    app = _interfaces(lifespan)
    app.state.fleet, app.state.settings = fleet, settings
    app.state.metrics = fleet.metrics
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return Guard(app, settings, keys, fleet.metrics, fleet.admit_any, tls)


def describe() -> dict[str, Any]:
    """The OpenAPI document of a server, without one."""
    return _interfaces(None).openapi()


def _interfaces(lifespan: Any) -> FastAPI:
    """Every path that is answered."""
    app = FastAPI(
        title="unmask",
        version=version("unmask"),
        summary="Encoders with many heads: labels, entities, answers, vectors, texts.",
        lifespan=lifespan,
        docs_url=None,  # its page fetches scripts from elsewhere
        redoc_url=None,
    )
    for one in (native, explain, vectors, huggingface, media, inference, page):
        app.include_router(one.router)
    return app


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    body, headers = refused(error, request.url.path)
    fleet: Fleet = request.app.state.fleet
    fleet.metrics.errors.labels(error.code).inc()
    response = Response(body, error.status)
    response.raw_headers = headers
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    """What pydantic says of a body, in one line; the input itself is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")[:120]
    message = f"{where}: {first['msg']}" if where else first["msg"]
    return await _refusal(request, Refusal(422, "bad_request", message))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, BadBody):
        return await _refusal(request, error.refusal)
    known = {404: ("no_such_path", "there is nothing here"), 405: ("method", "not by this method")}
    code, message = known.get(error.status_code, ("bad_request", str(error.detail)))
    response = await _refusal(request, Refusal(error.status_code, code, message))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response
