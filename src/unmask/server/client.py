"""A small client: batches, a few connections at once, and retries where the server asks for them.

It needs nothing beyond Python and NumPy.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from unmask.errors import UserError

_AGAIN = (429, 503)  # the server did nothing: it may be asked again
Item = str | bytes | Sequence[str | bytes] | Mapping[str, Any]


class Client:
    """Asks a server that `unmask serve` runs.

    Items are sent `batch` at a time over up to `connections` connections. A request that the server
    puts off (429, 503), or whose connection breaks, is sent again up to `retries` times, after the
    time that the server names.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        model: str | None = None,
        batch: int = 64,
        connections: int = 4,
        retries: int = 5,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url!r} is no address of a server, such as http://127.0.0.1:8000")
        self.url = parts
        self.key = key
        self.model = model
        self.batch = batch
        self.connections = connections
        self.retries = retries
        self.timeout = timeout
        self._local = threading.local()

    def info(self) -> dict[str, Any]:
        """What is served: tasks, limits, scores."""
        found: dict[str, Any] = json.loads(self._send("GET", "/info", None)[0])
        return found

    def predict(
        self, task: str | Sequence[str], items: Sequence[Item], **options: Any
    ) -> list[dict[str, Any]]:
        """The results of a task for texts, pairs or rows, in their order.

        Bytes, of a picture or a recording, are sent as base64, wherever in an item they stand.
        Of several tasks, each result holds the tasks' own under their names. An item that is wrong
        has an `error` in its place.
        """
        if isinstance(task, str):
            path, asked = f"/v1/tasks/{quote(task, safe='')}", {"options": options}
        else:
            path, asked = "/v1/tasks", {"tasks": dict.fromkeys(task, options)}
        if self.model:
            asked["model"] = self.model  # type: ignore[assignment]
        bodies = [{**asked, "input": own} for own in self._batches(items)]
        answers = self._all("POST", path, bodies)
        return [result for body, _ in answers for result in json.loads(body)["results"]]

    def encode(self, texts: Sequence[str], width: int | None = None) -> np.ndarray:
        """One vector a text: (n, D) float32, sent as raw bytes."""
        path = f"/embed?model={quote(self.model, safe='')}" if self.model else "/embed"
        bodies = [
            {"inputs": own, "normalize": None, "dimensions": width} for own in self._batches(texts)
        ]
        parts = []
        for body, headers in self._all("POST", path, bodies, "application/octet-stream"):
            count, wide = map(int, headers["x-shape"].split(","))
            parts.append(np.frombuffer(body, dtype="<f4").reshape(count, wide))
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def _batches(self, items: Sequence[Any]) -> Iterator[list[Any]]:
        for start in range(0, len(items), self.batch):
            yield list(items[start : start + self.batch])

    def _all(
        self, method: str, path: str, bodies: Sequence[Any], accept: str = "application/json"
    ) -> list[tuple[bytes, Mapping[str, str]]]:
        with ThreadPoolExecutor(self.connections) as threads:
            return list(threads.map(lambda body: self._send(method, path, body, accept), bodies))

    def _send(
        self, method: str, path: str, body: Any, accept: str = "application/json"
    ) -> tuple[bytes, Mapping[str, str]]:
        """The answer's body and headers; a UserError in the server's own words."""
        sent = None if body is None else json.dumps(body, default=_coded).encode()
        headers = {"content-type": "application/json", "accept": accept}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        for tried in range(self.retries + 1):
            last = tried == self.retries
            try:
                connection = self._connection()
                connection.request(method, self.url.path.rstrip("/") + path, sent, headers)
                response = connection.getresponse()
                read = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                if last:
                    raise UserError(f"{self.url.geturl()} cannot be reached: {error}") from None
                wait = 0.1 * 2**tried
            else:
                if response.status < 400:
                    found = {name.lower(): value for name, value in response.getheaders()}
                    return read, found
                if response.status not in _AGAIN or last:
                    raise UserError(f"the server refuses ({response.status}): {_said(read)}")
                wait = float(response.headers.get("retry-after", 1))
            # Some earlier and some later, so that clients do not all come back at once.
            time.sleep(wait * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's own, kept open between requests."""
        held: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if held is None:
            secure = self.url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            held = kind(self.url.hostname or "", self.url.port, timeout=self.timeout)
            self._local.connection = held
        return held

    def _forget(self) -> None:
        held = getattr(self._local, "connection", None)
        if held is not None:
            held.close()
            self._local.connection = None


def _coded(value: Any) -> str:
    """Bytes in base64; JSON has no room for anything else."""
    if not isinstance(value, bytes):
        raise UserError(f"an item holds {type(value).__name__}; give texts, or bytes of files")
    return base64.b64encode(value).decode()


def _said(body: bytes) -> str:
    """The message of an error, whichever shape it has."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
    return str(error["message"] if isinstance(error, dict) else error)
