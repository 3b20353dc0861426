"""HTTP's first lines under limits of time and size, which uvicorn itself does not set.

And no connection outlives its use: not one that is silent, nor one whose client does not read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS = 100  # of one request


class _Ended(Exception):  # noqa: N818 - it only stops the parser
    """The connection was ended; nothing more of it is parsed."""


class _Transport:
    """A transport that is gone some seconds after it was closed, though nobody reads the rest.

    Closed amid a body it goes on to read, and heeds nothing: were it shut with something unread,
    Linux would reset the connection, and what was answered might be lost.
    """

    midway = False  # whether more of a request's body is to come

    def __init__(self, real: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float):
        self._real = real
        self._later = loop.call_later
        self._seconds = seconds
        self._last: asyncio.TimerHandle | None = None
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def close(self) -> None:
        """Flush and close; once, for after a second time asyncio's TLS can be aborted no more."""
        if self._last is not None:
            return
        self._last = self._later(self._seconds, self._real.abort)
        self._lingers = self.midway and self._real.can_write_eof()  # TLS cannot
        if self._lingers:
            self._real.write_eof()
            self._real.resume_reading()
        else:
            self._real.close()

    def is_closing(self) -> bool:
        """Whether nothing more is heeded."""
        return self._last is not None or self._real.is_closing()

    def ended(self) -> None:
        """The other side sends no more."""
        self.midway = False
        self.close()
        if self._lingers:
            self._lingers = False
            self._real.close()

    def lost(self) -> None:
        """There is nothing left to abort."""
        if self._last is not None:
            self._last.cancel()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Send each piece when it is written.

    Else an answer's body waits for its head to be acknowledged: 40 ms on a connection that is kept.
    asyncio sees to that itself only for sockets made with their protocol's number, and uvicorn's
    are made without it.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def protocol(most_bytes: int, seconds: float) -> type[asyncio.Protocol]:
    """A protocol whose requests have this many bytes of headers at most, in so many seconds.

    A connection that is closed and not read from is aborted after as long.
    """

    class Limited(HttpToolsProtocol):
        """Closes a connection whose headers are too long, or too long under way."""

        _size = 0  # of the headers, as far as the parser has given them
        _unseen = 0  # bytes since the parser gave anything: it keeps a header until it is whole
        _clock: asyncio.TimerHandle | None = None  # for headers to come, or the next request

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            _send_at_once(transport)
            super().connection_made(_Transport(transport, self.loop, seconds))  # type: ignore[arg-type]
            self._wait(seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)
            self.transport.lost()  # type: ignore[attr-defined]

        def eof_received(self) -> None:
            self.transport.ended()  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._unseen += len(data)
            super().data_received(data)
            if self._unseen > most_bytes:
                self._too_large()

        def on_message_begin(self) -> None:
            self._size = self._unseen = 0
            self._wait(seconds, self._too_slow)
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._unseen = 0
            self.transport.midway = True  # type: ignore[attr-defined]
            self._in_time()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unseen = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.transport.midway = False  # type: ignore[attr-defined]
            super().on_message_complete()

        def on_response_complete(self) -> None:
            idle = not self.pipeline and self._clock is None
            super().on_response_complete()
            if idle:  # uvicorn's own clock is stopped by any byte; this one by a request
                self._wait(self.timeout_keep_alive, self._unused)

        def send_400_response(self, msg: str) -> None:
            self._end(b"400 Bad Request", "bad_http", "this is no valid HTTP request")

        def handle_websocket_upgrade(self) -> Any:
            self._end(b"426 Upgrade Required", "no_websocket", "there are no websockets here")

        def _count(self, size: int) -> None:
            self._unseen = 0
            self._size += size
            if self._size > most_bytes or len(self.headers) > HEADERS:
                self._too_large()
                raise _Ended

        def _too_large(self) -> None:
            self._end(
                b"431 Request Header Fields Too Large",
                "headers_too_large",
                f"headers have at most {most_bytes} bytes and {HEADERS} lines",
            )

        def _too_slow(self) -> None:
            self._end(b"408 Request Timeout", "too_slow", "the headers did not come in time")

        def _unused(self) -> None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # its last answer was not even read
            else:
                self.transport.close()

        def _end(self, status: bytes, code: str, message: str) -> None:
            if self.transport.is_closing():
                return
            body = f'{{"error": "{message}", "error_type": "{code}"}}'.encode()
            self.transport.write(
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, len(body), body)
            )
            self.transport.midway = False  # type: ignore[attr-defined]  # it is shown out at once
            self.transport.close()

        def _wait(self, delay: float, then: Callable[[], None]) -> None:
            self._in_time()
            self._clock = self.loop.call_later(delay, then)

        def _in_time(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

    return Limited
