"""Connections at the door: strangers take no place, hold no memory, and none stays for ever.

A real server of uvicorn with the door and the protocol, before an application of a few lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from unmask.server.errors import overloaded
from unmask.server.guard import Guard
from unmask.server.keys import Keys
from unmask.server.metrics import Metrics
from unmask.server.protocol import protocol
from unmask.server.settings import Settings

KEY = "a-key-of-some-length"
ALLOWED = f"Authorization: Bearer {KEY}\r\n".encode()
BIG = 24 << 20


def head(line: bytes, *lines: bytes) -> bytes:
    """The first lines of a request."""
    return line + b" HTTP/1.1\r\nHost: localhost\r\n" + b"".join(lines) + b"\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """The length of what was sent; or much; or something that breaks off."""
    message = await receive()
    body = str(len(message["body"])).encode()
    if scope["path"] == "/big":
        body = b"x" * BIG
    length = len(body) + (scope["path"] == "/broken")
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/broken":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ValueError("half an answer")
    await send({"type": "http.response.body", "body": body})


class Door:
    """A server in a thread."""

    def __init__(
        self, keep_alive: int = 1, admit_any: Callable[[], None] = lambda: None, **settings: Any
    ) -> None:
        own = Settings(**settings)
        keys = Keys({KEY: frozenset({"predict"})})
        self.guard = Guard(_app, own, keys, Metrics(), admit_any)
        config = uvicorn.Config(
            self.guard,
            port=0,
            http=protocol(own.header_bytes, own.body_seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=keep_alive,
        )
        self._listening = config.bind_socket()
        self.port = self._listening.getsockname()[1]
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._listening]))

    def connect(self, buffer: int = 0) -> socket.socket:
        """A new connection, perhaps one that takes little before it is read."""
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def ask(self, sent: bytes) -> bytes:
        """The answer to one request."""
        with self.connect() as connection:
            connection.sendall(sent)
            return whole(connection)

    def empties(self) -> bool:
        """Whether the last connection ends, with all that it held."""
        for _ in range(200):
            if not self.server.server_state.connections:
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        """End it, though connections were left open."""
        self.server.should_exit = self.server.force_exit = True
        self._thread.join(20)
        self._listening.close()


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    """A function that opens a door."""
    opened: list[Door] = []

    def begin(**settings: Any) -> Door:
        opened.append(Door(**settings))
        return opened[-1]

    yield begin
    for one in opened:
        one.stop()


def whole(connection: socket.socket) -> bytes:
    """One answer, to the last byte of what it holds."""
    answer = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n(?s:.*)\r\n\r\n", answer)) or (
        len(answer) < found.end() + int(found[1])
    ):
        part = connection.recv(1 << 16)
        assert part, answer
        answer += part
    return answer


def status(answer: bytes) -> bytes:
    return answer.split(b" ", 2)[1]


def test_strangers_take_no_place(door: Any) -> None:
    at = door(connections=3)
    with contextlib.ExitStack() as stack:
        for path in (b"/health", b"/", b"/page/x", b"/ping", b"/echo", b"/big"):
            for method in (b"POST", b"PUT", b"DELETE"):
                slow = stack.enter_context(at.connect())
                slow.sendall(head(method + b" " + path, b"Content-Length: 1000\r\n") + b"{")
                assert status(whole(slow)) == b"401"
        assert at.guard.active == 0
        sent = head(b"POST /echo", ALLOWED, b"Content-Length: 5\r\n") + b"hello"
        assert at.ask(sent).endswith(b"\r\n\r\n5")


def test_health_is_told_when_all_places_are_taken(door: Any) -> None:
    at = door(connections=3)
    slow = head(b"POST /echo", ALLOWED, b"Content-Length: 1000\r\n")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(at.connect()).sendall(slow)
        while at.guard.active < 3:
            time.sleep(0.01)
        assert status(at.ask(slow)) == b"429"
        for path in (b"/health", b"/page/main.js"):
            assert status(at.ask(head(b"GET " + path))) == b"200"


CHUNKS = head(b"POST /echo", ALLOWED, b"Transfer-Encoding: chunked\r\n")
ENDLESS = {
    "a header's value": (b"GET /health HTTP/1.1\r\nX: ", b"a"),
    "a header's name": (b"GET /health HTTP/1.1\r\n", b"a"),
    "spaces": (b"GET /health HTTP/1.1\r\nX:", b" "),
    "an address": (b"GET /", b"a"),
    "empty lines": (b"", b"\r\n"),
    "a trailer's value": (CHUNKS + b"1\r\na\r\n0\r\nX: ", b"a"),
    "trailers": (CHUNKS + b"1\r\na\r\n0\r\n", b"X: " + b"a" * 995 + b"\r\n"),
    "a chunk's extension": (CHUNKS + b"1;", b"a"),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("size", [2000, 40_000])
def test_headers_without_end_are_refused_before_it(
    door: Any, start: bytes, more: bytes, size: int
) -> None:
    at = door()
    with at.connect() as connection:
        connection.settimeout(0.05)
        connection.sendall(start)
        answer = b""
        for _ in range(600_000 // size):
            with contextlib.suppress(ConnectionError):
                connection.sendall(more * (size // len(more)))
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1 << 16)
                break
        assert status(answer) == b"431"
        assert at.empties()


def test_what_is_large_and_right_is_answered(door: Any) -> None:
    at = door()
    long = head(b"GET /health?" + b"a" * 8000, b"X: " + b"b" * 16_000 + b"\r\n")
    body = b"c" * (4 << 20)
    upload = head(b"POST /echo", ALLOWED, b"Content-Length: %d\r\n" % len(body)) + body
    parts = b"".join(b"10;x=y\r\n%s\r\n" % (b"d" * 16) for _ in range(5000))
    chunked = CHUNKS + parts + b"0\r\nX: " + b"e" * 9000 + b"\r\n\r\n"
    with at.connect() as connection:
        connection.sendall(long + upload + chunked + long * 20 + head(b"GET /end", ALLOWED))
        answers, found = b"", b""
        while answers.count(b"HTTP/1.1 ") < 24:
            found = connection.recv(1 << 16)
            assert found, answers
            answers += found
        assert answers.count(b"HTTP/1.1 200") == 24
        assert b"\r\n\r\n%d" % len(body) in answers
        assert b"\r\n\r\n80000" in answers


UNREAD = b"Content-Length: 10\r\n"
LEFT = {
    "nothing": (head(b"GET /health"), b""),
    "an empty line": (head(b"GET /health"), b"\r\n"),
    "a body of GET": (head(b"GET /health", UNREAD), b"a"),
    "a body without a key": (head(b"POST /echo", UNREAD), b"a"),
    "a body beyond": (head(b"POST /echo", ALLOWED, b"Content-Length: 99999999\r\n"), b"a"),
    "chunks without a key": (head(b"POST /echo", b"Transfer-Encoding: chunked\r\n"), b"1\r\na\r\n"),
}


@pytest.mark.parametrize(("sent", "left"), LEFT.values(), ids=LEFT.keys())
def test_silent_connections_end(door: Any, sent: bytes, left: bytes) -> None:
    at = door(body_seconds=1.5)
    with at.connect() as connection:
        connection.sendall(sent)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 ")
        with contextlib.suppress(ConnectionError):  # it may be closed already
            connection.sendall(left)
        assert at.empties()


def test_a_connection_in_use_stays(door: Any) -> None:
    at = door(body_seconds=1.5)
    with at.connect() as connection:
        for _ in range(5):
            connection.sendall(head(b"GET /health"))
            assert status(whole(connection)) == b"200"
            time.sleep(0.4)
        body = head(b"POST /echo", ALLOWED, b"Content-Length: 8\r\n")
        connection.sendall(body)
        for _ in range(4):  # longer than a silent one may last
            time.sleep(0.3)
            connection.sendall(b"ab")
        assert whole(connection).endswith(b"\r\n\r\n8")


@pytest.mark.parametrize("half", [False, True], ids=["open", "half closed"])
@pytest.mark.parametrize(
    "sent",
    [
        head(b"GET /big", ALLOWED),
        head(b"GET /big", ALLOWED, b"Connection: close\r\n"),
        head(b"GET /health") * 99_000,
        head(b"GET /broken", ALLOWED) * 9,
        head(b"GET /big") * 99_000,
    ],
    ids=["much", "much and close", "many answers", "broken", "many refusals"],
)
def test_who_does_not_read_is_shown_out(door: Any, sent: bytes, half: bool) -> None:
    at = door(body_seconds=1)
    with at.connect(4096) as connection:
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError, ConnectionError):
            connection.sendall(sent)
        if half:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        assert at.empties()
        assert at.guard.active == 0


def test_who_reads_slowly_gets_all_and_has_a_place_as_long(door: Any) -> None:
    at = door(body_seconds=2)
    with at.connect(1 << 16) as connection:
        connection.sendall(head(b"GET /big", ALLOWED, b"Connection: close\r\n"))
        size, active = 0, set()
        while found := connection.recv(1 << 20):
            if size % (1 << 21) > (size + len(found)) % (1 << 21):
                time.sleep(0.25)
            size += len(found)
            if size < BIG - (8 << 20):  # what the kernel may have taken by now
                active.add(at.guard.active)
        assert size > BIG
        assert active == {1}
    assert at.empties()


def test_an_answer_does_not_wait_to_be_acknowledged(door: Any) -> None:
    at = door()
    with at.connect() as connection:
        connection.sendall(head(b"GET /health"))
        assert status(whole(connection)) == b"200"
        (one,) = at.server.server_state.connections
        own = one.transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_too_much_is_refused_before_it_is_read(door: Callable[..., Door]) -> None:
    def crowded() -> None:
        raise overloaded("it would be 3.0 s until your turn", 2.0)

    one = door(admit_any=crowded)
    key = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
    refused = head(b"POST /embed", key, b"Content-Length: 100\r\n")
    with one.connect() as connection:
        connection.sendall(refused)  # and no body yet
        said = whole(connection)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 2" in said.lower()
        # The body comes after all, and then something that does not wait in the queue.
        connection.sendall(b"x" * 100 + head(b"POST /tokenize", key, b"Content-Length: 0\r\n"))
        assert whole(connection).startswith(b"HTTP/1.1 200")
    said = one.ask(head(b"POST /embed", key, b"Content-Length: 100\r\nExpect: 100-continue\r\n"))
    assert said.startswith(b"HTTP/1.1 429")
    assert b"connection: close" in said.lower()
    # Who may not come in is told nothing of the crowd, and what is wrong stays wrong.
    assert one.ask(head(b"POST /embed", b"Content-Length: 0\r\n")).startswith(b"HTTP/1.1 401")
    assert one.ask(head(b"GET /embed", key)).startswith(
        b"HTTP/1.1 200"
    )  # the application's to refuse
    counted = one.guard.metrics.registry.get_sample_value
    assert counted("unmask_requests_total", {"route": "/embed", "status": "429"}) == 2
    assert counted("unmask_errors_total", {"code": "overloaded"}) == 2
