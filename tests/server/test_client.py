"""Our own client: batches, order, retries, errors in the server's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from unmask.errors import UserError
from unmask.model import Model
from unmask.server.client import Client

TEXTS = [f"the film was {word} {n}" for n in ("one", "two", "three") for word in ("good", "bad")]


def test_batches_in_order(server: Any, model: Model) -> None:
    client = Client(server.url, batch=2, connections=3)
    np.testing.assert_allclose(client.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(client.encode(TEXTS, 4), model.encode(TEXTS, width=4), atol=1e-5)
    own = [answer.short for answer in model.predict("mood", TEXTS)]
    assert [one["short"] for one in client.predict("mood", TEXTS)] == own
    both = client.predict(["mood", "stars"], TEXTS)
    assert [one["mood"]["short"] for one in both] == own
    assert client.encode([]).shape == (0, 0)
    assert client.info()["model_id"] == "tiny"


def test_errors_are_the_servers(server: Any) -> None:
    with pytest.raises(UserError, match=r"refuses \(404\): no task 'nope'"):
        Client(server.url).predict("nope", ["a"])
    with pytest.raises(UserError, match="cannot be reached"):
        Client("http://127.0.0.1:1", retries=1).info()
    with pytest.raises(UserError, match="no address"):
        Client("127.0.0.1:8000")
    mixed = Client(server.url).predict("mood", ["a film", ["a", "pair"]])
    assert ["error" in one for one in mixed] == [False, True]


@pytest.fixture
def moody() -> Iterator[HTTPServer]:
    """A server that is overloaded twice, breaks off once, and then answers."""
    fates = iter(["429", "cut", "503", "ok"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fate = next(fates)
            if fate == "cut":
                self.close_connection = True
                return
            body = json.dumps({"fate": fate}).encode()
            self.send_response(200 if fate == "ok" else int(fate))
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_put_off_is_asked_again(moody: HTTPServer) -> None:
    client = Client(f"http://127.0.0.1:{moody.server_port}")
    assert client.info() == {"fate": "ok"}
