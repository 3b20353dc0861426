"""Messages between the server and its workers: JSON and raw bytes, each with its length before it.

Nothing is pickled, so neither side can make the other run anything.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

_LENGTHS = struct.Struct("!II")  # of the JSON, and of the bytes behind it
_MOST = 1 << 30

Message = tuple[dict[str, Any], bytes]


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A message as it goes over a socket.

    A ValueError where a number is not finite, or where it is too long.
    """
    text = json.dumps(header, allow_nan=False).encode()
    if max(len(text), len(body)) > _MOST:
        raise ValueError("a message of more than a gibibyte")
    return _LENGTHS.pack(len(text), len(body)) + text + body


async def receive(stream: asyncio.StreamReader) -> Message | None:
    """The next message; None where the other side has ended."""
    try:
        lengths = _checked(await stream.readexactly(_LENGTHS.size))
        text = await stream.readexactly(lengths[0])
        return json.loads(text), await stream.readexactly(lengths[1])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive_now(connection: socket.socket) -> Message | None:
    """The same for a socket that blocks."""
    try:
        lengths = _checked(_exactly(connection, _LENGTHS.size))
        text = _exactly(connection, lengths[0])
        return json.loads(text), _exactly(connection, lengths[1])
    except (EOFError, ConnectionError):
        return None


def _checked(head: bytes) -> tuple[int, int]:
    lengths: tuple[int, int] = _LENGTHS.unpack(head)
    if max(lengths) > _MOST:
        raise ConnectionError("a message of more than a gibibyte")
    return lengths


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
