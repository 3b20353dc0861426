"""As little of an HTTP client as the benchmarks of serving need.

With hundreds of requests under way a full client spends more than the servers that it asks, and
would be what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

KEPT = 15.0  # seconds that an idle connection is used again: ours closes it after 30

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """POSTs JSON, over connections that it keeps open and uses again."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.where = (where.hostname, where.port)
        self.idle: list[tuple[Connection, float]] = []  # and since when

    async def post(self, path: str, value: Any) -> tuple[int, bytes]:
        """The status and the body. OSError, EOFError or TimeoutError where no answer came."""
        body = json.dumps(value).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        async with asyncio.timeout(120):
            reader, writer = await self._connection()
            try:
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?i)^content-length: *(\d+)", said, re.MULTILINE)
                assert length, said
                answer = await reader.readexactly(int(length[1]))
            except BaseException:
                writer.close()
                raise
        if re.search(r"(?im)^connection: *close", said):
            writer.close()
        else:
            self.idle.append(((reader, writer), time.monotonic()))
        return int(said.split(" ", 2)[1]), answer

    async def _connection(self) -> Connection:
        while self.idle:
            (reader, writer), since = self.idle.pop()
            fresh = time.monotonic() - since < KEPT
            if fresh and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self.where)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *how: object) -> None:
        for (_, writer), _ in self.idle:
            writer.close()
