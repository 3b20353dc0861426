"""The door: what every request passes before the application sees it, and every answer after it.

Written against ASGI itself, so that nothing is parsed for a request that is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.server.entry import QUEUED, admit, is_open, too_large
from unmask.server.errors import Refusal, overloaded
from unmask.server.keys import Keys
from unmask.server.metrics import Metrics
from unmask.server.settings import Settings
from unmask.server.traces import span

log = logging.getLogger("unmask.server.access")

PIECE = 1 << 16  # bytes of an answer that are passed on at once
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}


class _Left(Exception):  # noqa: N818 - it is nobody's error
    """The client went before its request was whole, or does not read its answer."""


class Guard:
    """Limits, keys, hosts and headers; ends the work of a client that leaves."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        keys: Keys,
        metrics: Metrics,
        admit_any: Callable[[], None],
        tls: bool = False,
    ) -> None:
        """`admit_any` raises a Refusal where nothing more can be done in time."""
        self.app = app
        self.admit_any = admit_any
        self.settings = settings
        self.keys = keys
        self.metrics = metrics
        self.active = 0  # requests that were let in and are under way
        self.headers = dict(_HEADERS)
        if tls:
            self.headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's start and end."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        await _Visit(self, scope, receive, send).run()

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place among those that are under way; a Refusal where there is none."""
        if self.active >= self.settings.connections:
            raise overloaded(f"{self.active} requests are under way", 1.0)
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1


class _Visit:
    """One request on its way through the door."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard = guard
        self.scope = scope
        self.receive = receive
        self.passed = send
        self.began = time.perf_counter()
        self.number = uuid.uuid4().hex[:16]
        self.status = 0
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

    async def run(self) -> None:
        with span(self.headers) as said:
            try:
                await self._pass()
            except _Left:
                self.guard.metrics.events.labels("", "left").inc()
            said.update(self._record())

    async def _pass(self) -> None:
        method, path = self.scope["method"], self.scope["path"]
        try:
            admit(method, path, self.headers, self.guard.settings, self.guard.keys)
            # Of what is too much most is refused, which must cost little.
            if method == "POST" and path in QUEUED:
                self.guard.admit_any()
            # Places are for those who may ask: nobody else can take them all.
            with nullcontext() if is_open(method, path) else self.guard.room():
                await self._serve(await self._body())
        except Refusal as refusal:
            self.guard.metrics.errors.labels(refusal.code).inc()
            await refuse(refusal, self.scope, self.send)

    async def _body(self) -> bytes:
        """The whole body; a Refusal where it is too large or comes too slowly."""
        if self.scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return b""
        body = bytearray()
        try:
            async with asyncio.timeout(self.guard.settings.body_seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    body += message.get("body", b"")
                    if len(body) > self.guard.settings.body_bytes:
                        raise too_large(self.guard.settings.body_bytes)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            seconds = self.guard.settings.body_seconds
            raise Refusal(408, "too_slow", f"the body did not come within {seconds:g} s") from None

    async def _serve(self, body: bytes) -> None:
        """Let the application answer, until it has or the client leaves."""
        gone = asyncio.Event()
        given = False

        async def receive() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        answering = asyncio.ensure_future(self.guard.app(self.scope, receive, self.send))
        leaving = asyncio.ensure_future(self._leaves())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                gone.set()
                answering.cancel()
                self.guard.metrics.events.labels("", "left").inc()
                await asyncio.wait({answering})
                if not self.status:
                    self.status = 499  # as nginx has it: nobody is there to be answered
            elif not answering.cancelled() and isinstance(answering.exception(), _Left):
                self.guard.metrics.events.labels("", "left").inc()
            elif not answering.cancelled() and answering.exception():
                await self._fail(answering.exception())
        finally:
            leaving.cancel()
            answering.cancel()

    async def _fail(self, error: BaseException | None) -> None:
        logging.getLogger("unmask.server").error(
            "request %s failed: %s", self.number, type(error).__name__, exc_info=error
        )
        if not self.status:
            await refuse(
                Refusal(500, "failed", f"the server failed; its log has {self.number}"),
                self.scope,
                self.send,
            )

    async def _leaves(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass on what is answered, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message.get("headers", ())}
            more = {**self.guard.headers, "x-request-id": self.number}
            message["headers"] = [
                *message.get("headers", ()),
                *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in own),
            ]
            await self._hand_on(message)
            return
        # In pieces, each of which waits until most of the one before was taken: what the last
        # leaves behind is small, and who does not read keeps its place until it is shown out.
        body = message.get("body", b"")
        for start in range(0, len(body), PIECE) or (0,):
            last = start + PIECE >= len(body)
            more_body = message.get("more_body", False) or not last
            piece = body[start : start + PIECE]
            await self._hand_on({**message, "body": piece, "more_body": more_body})

    async def _hand_on(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.guard.settings.body_seconds):
                await self.passed(message)
        except TimeoutError:  # it does not read; the connection is closed
            raise _Left from None

    def _record(self) -> dict[str, Any]:
        """A line of JSON for the log, without anything that the user wrote; and the figures."""
        path = self.scope["path"]
        known = path if path in QUEUED else "other"  # what is refused here has found no route
        route = getattr(self.scope.get("route"), "path", None) or known
        seconds = time.perf_counter() - self.began
        self.guard.metrics.requests.labels(route, str(self.status)).inc()
        self.guard.metrics.duration.labels(route).observe(seconds)
        said = {
            "request": self.number,
            "method": self.scope["method"],
            "route": route,
            "status": self.status,
            "seconds": round(seconds, 5),
            "bytes": self.headers.get("content-length"),
            **self.scope.get("state", {}).get("said", {}),
        }
        log.info(json.dumps(said))
        return said


async def refuse(refusal: Refusal, scope: Mapping[str, Any], send: Send) -> None:
    """Answer with a Refusal, over plain ASGI."""
    body, headers = refused(refusal, scope["path"])
    if any(name == b"expect" for name, _ in scope["headers"]):
        # It may leave out the body that it announced, and the next request would be taken for it.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refused(refusal: Refusal, path: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A Refusal as JSON, as OpenAI's clients read it under /v1, and elsewhere as TEI's do."""
    message = " ".join(refusal.message.split())
    message = message if len(message) <= 500 else f"{message[:499]}…"
    message = message.encode("utf-8", "replace").decode()
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
        said: Any = {"error": {"message": message, "type": kind, "code": refusal.code}}
    else:
        said = {"error": message, "error_type": refusal.code}
    body = json.dumps(said, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(refusal.retry_after))).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    return body, headers
