"""The door: what every request passes before the application sees it, and every answer after it.

Written against ASGI itself, so that nothing is parsed for a request that is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.server.errors import Refusal, overloaded
from unmask.server.keys import Keys, is_loopback
from unmask.server.metrics import Metrics
from unmask.server.settings import Settings
from unmask.server.traces import span

log = logging.getLogger("unmask.server.access")

OPEN = ("/health", "/", "/favicon.ico", "/page/", "/ping")  # without a key: they tell nothing
_SCOPES = (("/metrics", "metrics"), ("/admin/", "admin"))
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
        self, app: ASGIApp, settings: Settings, keys: Keys, metrics: Metrics, tls: bool = False
    ) -> None:
        self.app = app
        self.settings = settings
        self.keys = keys
        self.metrics = metrics
        self.active = 0  # requests that are under way
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
        self.active += 1
        try:
            await _Visit(self, scope, receive, send).run()
        finally:
            self.active -= 1


class _Visit:
    """One request on its way through the door."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard = guard
        self.scope = scope
        self.receive = receive
        self.send_on = send
        self.began = time.perf_counter()
        self.number = uuid.uuid4().hex[:16]
        self.status = 0
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }

    async def run(self) -> None:
        with span(self.headers) as said:
            try:
                self._check()
                body = await self._body()
            except Refusal as refusal:
                await refuse(refusal, self.scope, self.send)
            except _Left:
                self.guard.metrics.events.labels("", "left").inc()
            else:
                await self._serve(body)
            said.update(self._record())

    def _check(self) -> None:
        """Refuse what its headers say already."""
        path = self.scope["path"]
        if self.guard.active > self.guard.settings.connections:
            raise overloaded(f"{self.guard.active} requests are under way", 1.0)
        self._check_origin()
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.guard.settings.body_bytes:
            raise _too_large(self.guard.settings.body_bytes)
        if self.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "encoded", "a compressed body is not read; send it as it is")
        if path in OPEN or path.startswith("/page/"):
            return
        kind, _, key = self.headers.get("authorization", "").partition(" ")
        scopes = self.guard.keys.scopes(key.strip() if kind.lower() == "bearer" else None)
        if scopes is None:
            raise Refusal(401, "no_key", "give a valid key: Authorization: Bearer KEY")
        needed = next((own for start, own in _SCOPES if path.startswith(start)), "predict")
        if needed not in scopes:
            raise Refusal(403, "not_allowed", f"this key is not for {needed}")

    def _check_origin(self) -> None:
        """Refuse other sites' pages; and on loopback names that only pretend to be this machine."""
        host = self.headers.get("host", "")
        if not re.fullmatch(r"[A-Za-z0-9._\-\[\]:%]{0,255}", host):
            raise Refusal(400, "bad_host", "the Host header is no name of a machine")
        origin = self.headers.get("origin")
        if origin is not None and urlsplit_host(origin) != host:
            raise Refusal(403, "other_site", "requests from pages of other sites are refused")
        bare = re.sub(r":\d*$", "", host)
        local = is_loopback(self.guard.settings.host) and not self.guard.keys
        if local and host and not is_loopback(bare):
            raise Refusal(403, "other_host", f"this server is for this machine alone, not {bare}")

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
                        raise _too_large(self.guard.settings.body_bytes)
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
        try:
            async with asyncio.timeout(self.guard.settings.body_seconds):
                await self.send_on(message)
        except TimeoutError:  # it does not read; the connection is closed
            raise _Left from None

    def _record(self) -> dict[str, Any]:
        """A line of JSON for the log, without anything that the user wrote; and the figures."""
        route = getattr(self.scope.get("route"), "path", None) or "other"
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


def urlsplit_host(origin: str) -> str | None:
    """The host and port of an Origin header; None where it has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


async def refuse(refusal: Refusal, scope: Mapping[str, Any], send: Send) -> None:
    """Answer with a Refusal, over plain ASGI."""
    body, headers = refused(refusal, scope["path"])
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


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"a body has at most {most} bytes; send less at once")
