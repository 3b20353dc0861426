"""HTTP's first lines under limits of time and size, which uvicorn itself does not set."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS = 100  # of one request


def protocol(most_bytes: int, seconds: float) -> type[asyncio.Protocol]:
    """A protocol whose requests have this many bytes of headers at most, in so many seconds."""

    class Limited(HttpToolsProtocol):
        """Closes a connection whose headers are too long, or too long under way."""

        _size = 0
        _refused = False
        _slow: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._slow = self.loop.call_later(seconds, self._too_slow)

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if not self._refused:
                super().data_received(data)

        def on_message_begin(self) -> None:
            self._size = 0
            if self._slow is None:
                self._slow = self.loop.call_later(seconds, self._too_slow)
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_time()
            if not self._refused:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self._refused:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if not self._refused:
                super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            self._end(b"400 Bad Request", "bad_http", "this is no valid HTTP request")

        def _count(self, size: int) -> None:
            self._size += size
            if self._size > most_bytes or len(self.headers or ()) > HEADERS:
                self._end(
                    b"431 Request Header Fields Too Large",
                    "headers_too_large",
                    f"headers have at most {most_bytes} bytes and {HEADERS} lines",
                )

        def _too_slow(self) -> None:
            self._slow = None
            self._end(b"408 Request Timeout", "too_slow", "the headers did not come in time")

        def _end(self, status: bytes, code: str, message: str) -> None:
            if self._refused or self.transport.is_closing():
                return
            self._refused = True
            body = f'{{"error": "{message}", "error_type": "{code}"}}'.encode()
            self.transport.write(
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, len(body), body)
            )
            self.transport.close()

        def _in_time(self) -> None:
            if self._slow is not None:
                self._slow.cancel()
                self._slow = None

        def handle_websocket_upgrade(self) -> Any:
            self._end(b"426 Upgrade Required", "no_websocket", "there are no websockets here")

    return Limited
