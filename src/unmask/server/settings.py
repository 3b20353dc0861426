"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits and sizes; the command's options have the same names."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1  # processes of each model
    threads: int = 1  # of each process
    timeout: float = 30.0  # seconds in which a request is answered or refused
    queue_tokens: int = 65_536  # that may wait, of each model
    batch_tokens: int = 8192
    batch_seconds: float = 0.05  # that a batch should take at most, unless much waits
    cache_bytes: int = 64 << 20
    body_bytes: int = 4 << 20
    header_bytes: int = 32 << 10
    items: int = 1024  # texts in one request
    depth: int = 32  # of JSON
    body_seconds: float = 20.0  # in which headers, and then a body, must have come
    connections: int = 1024  # requests that are under way at once
