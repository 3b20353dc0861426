"""What strangers send: each is answered with one clear JSON error, and nobody else is disturbed."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest

TASK = "/v1/tasks/mood"
OK = b'{"input": "a good film"}'
DEEP = b"[" * 5000 + b"]" * 5000
JSON = {"content-type": "application/json"}
PREDICT = b"predict-key-0123456789"
KEY = {**JSON, "authorization": f"Bearer {PREDICT.decode()}"}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


# path, body, headers, statuses
REQUESTS: list[tuple[str, str, bytes, dict[str, str], set[int]]] = [
    ("empty", TASK, b"", JSON, {422}),
    ("spaces", TASK, b"   ", JSON, {400}),
    ("no JSON", TASK, b"hello", JSON, {400}),
    ("half a JSON", TASK, b'{"input": "a', JSON, {400}),
    ("two JSONs", TASK, OK + OK, JSON, {400}),
    ("a comma too many", TASK, b'{"input": "a",}', JSON, {400}),
    ("single quotes", TASK, b"{'input': 'a'}", JSON, {400}),
    ("a comment", TASK, b'{"input": "a"} // hi', JSON, {400}),
    ("NaN", TASK, b'{"input": NaN}', JSON, {400}),
    ("infinity", TASK, b'{"input": "a", "options": {"top": Infinity}}', JSON, {400}),
    ("minus infinity", "/embed", b'{"inputs": "a", "dimensions": -Infinity}', JSON, {400}),
    ("NaN as an option", TASK, b'{"input": "a", "options": {"top": NaN}}', JSON, {400}),
    ("a number beyond all", TASK, b'{"input": [{"text": "a", "x": 1e999}]}', JSON, {400}),
    ("the same in digits", TASK, b'{"input": "a", "options": %s.0}' % (b"9" * 400), JSON, {400}),
    ("NUL, escaped", TASK, b'{"input": "a\\u0000b"}', JSON, {400}),
    ("NUL, raw", TASK, b'{"input": "a\x00b"}', JSON, {400}),
    ("NUL in a key", TASK, b'{"input": {"te\\u0000xt": "a"}}', JSON, {400}),
    ("a lone high surrogate", TASK, b'{"input": "\\ud800"}', JSON, {400}),
    ("a lone low surrogate", TASK, b'{"input": "\\udc00"}', JSON, {400}),
    ("surrogates the wrong way", TASK, b'{"input": "\\udc00\\ud800"}', JSON, {400}),
    ("surrogates as UTF-8", TASK, b'{"input": "\xed\xa0\x80"}', JSON, {400}),
    ("Latin-1", TASK, b'{"input": "caf\xe9"}', JSON, {400}),
    ("UTF-16", TASK, '{"input": "a"}'.encode("utf-16"), JSON, {400}),
    ("a byte order mark", TASK, b"\xef\xbb\xbf" + OK, JSON, {400}),
    ("overlong UTF-8", TASK, b'{"input": "\xc0\xaf"}', JSON, {400}),
    ("deep lists", TASK, b'{"input": ' + DEEP + b"}", JSON, {400}),
    ("deep objects", TASK, b'{"a":' * 3000 + b"1" + b"}" * 3000, JSON, {400}),
    ("never closed", TASK, b"[" * 100_000, JSON, {400}),
    ("only closed", TASK, b"]" * 100_000, JSON, {400}),
    ("brackets in a string that never ends", TASK, b'{"input": "' + b"[" * 50_000, JSON, {400}),
    ("escapes without end", TASK, b'{"input": "' + b"\\" * 99_999, JSON, {400}),
    ("a huge number", TASK, b'{"input": ' + b"9" * 5000 + b"}", JSON, {400, 422}),
    ("1e999", "/embed", b'{"inputs": "a", "dimensions": 1e999}', JSON, {400, 422}),
    ("null", TASK, b"null", JSON, {422}),
    ("a list", TASK, b"[1, 2]", JSON, {422}),
    ("a string", TASK, b'"a"', JSON, {422}),
    ("a number as input", TASK, body({"input": 5}), JSON, {422}),
    ("null as input", TASK, body({"input": None}), JSON, {422}),
    ("numbers in the list", TASK, body({"input": [1, 2]}), JSON, {422}),
    ("null in the list", TASK, body({"input": ["a", None]}), JSON, {422}),
    ("lists in lists", TASK, body({"input": [[["a"]]]}), JSON, {422}),
    ("nothing in the list", TASK, body({"input": []}), JSON, {422}),
    ("no input", TASK, body({}), JSON, {422}),
    ("a key of no meaning", TASK, body({"input": "a", "imput": "b"}), JSON, {422}),
    ("a text for a pair", "/v1/tasks/rank", body({"input": "a"}), JSON, {422}),
    ("three texts for a pair", "/v1/tasks/rank", body({"input": [["a", "b", "c"]]}), JSON, {422}),
    ("a row without its column", TASK, body({"input": {"txt": "a"}}), JSON, {422}),
    ("a row with a number", TASK, body({"input": {"text": 1}}), JSON, {422}),
    ("a row with a huge value", TASK, body({"input": {"text": ["x" * 9999]}}), JSON, {422}),
    ("10,000 items", TASK, body({"input": ["a"] * 10_000}), JSON, {413}),
    ("65 items", "/embed", body({"inputs": ["a"] * 65}), JSON, {413}),
    ("65 in all tasks", "/v1/tasks", body({"tasks": ["mood", "topics"], "input": ["a"] * 33}), JSON,
     {413}),
    ("a million zeros", TASK, b'{"input": [0' + b",0" * 10**6 + b"]}", JSON, {413}),
    ("a million zeros in one item", TASK, b'{"input": [[0' + b",0" * 10**6 + b"]]}", JSON, {422}),
    ("zeros to compare", "/similarity",
     body({"inputs": {"source_sentence": "a", "sentences": [0] * 65}}), JSON, {413}),
    ("zeros to rank", "/rerank", body({"query": "a", "texts": [0] * 65}), JSON, {413}),
    ("65 labels", "/pipeline/zero-shot-image-classification",
     body({"inputs": "a", "parameters": {"candidate_labels": [0] * 65}}), JSON, {413}),
    ("65 tasks without options", "/v1/tasks",
     body({"tasks": {f"t{i}": 0 for i in range(65)}, "input": "a"}), JSON, {413}),
    ("names of no meaning", TASK, body({f"a{i}": 0 for i in range(100_000)}), JSON, {422}),
    ("a string of escapes that never ends", TASK, b"[" * 40 + b'"' + b'\\"' * 10**6, JSON, {400}),
    ("stairs of brackets", TASK, b"[" * 10**6 + b"]" * 10**6, JSON, {400}),
    ("a long text that is filled often", "/pipeline/fill-mask",
     body({"inputs": "a " * 50_000 + "[MASK]", "parameters": {"top_k": 100}}), JSON, {413}),
    ("many masks", "/pipeline/fill-mask",
     body({"inputs": "[MASK]" * 4000, "parameters": {"top_k": 100}}), JSON, {413}),
    ("targets", "/pipeline/fill-mask",
     body({"inputs": "a [MASK]", "parameters": {"targets": ["good"]}}), JSON, {422}),
    ("labels that are a number", "/pipeline/token-classification",
     body({"inputs": "ada lives in paris", "parameters": {"ignore_labels": 5}}), JSON, {422}),
    ("labels that are numbers", "/pipeline/token-classification",
     body({"inputs": "ada lives in paris", "parameters": {"ignore_labels": [5]}}), JSON, {422}),
    ("another aggregation", "/pipeline/token-classification",
     body({"inputs": "a", "parameters": {"aggregation_strategy": "max"}}), JSON, {422}),
    ("no function", "/pipeline/text-classification?task=mood",
     body({"inputs": "a", "parameters": {"function_to_apply": "none"}}), JSON, {422}),
    ("another function", "/pipeline/text-classification?task=topics",
     body({"inputs": "a", "parameters": {"function_to_apply": "softmax"}}), JSON, {422}),
    ("a stride", "/pipeline/question-answering",
     body({"inputs": {"question": "a", "context": "b"}, "parameters": {"doc_stride": 4}}), JSON,
     {422}),
    ("a language", "/pipeline/translation",
     body({"inputs": "a", "parameters": {"src_lang": "de"}}), JSON, {422}),
    ("too large", TASK, body({"input": "a" * (5 << 20)}), JSON, {413}),
    ("too many tokens", "/v1/tasks/names", body({"input": "a " * 70_000}), JSON, {413}),
    ("an unknown task", "/v1/tasks/nope", OK, JSON, {404}),
    ("a task of dots", "/v1/tasks/..%2f..%2fetc", OK, JSON, {404}),
    ("a task of NUL", "/v1/tasks/%00", OK, JSON, {404}),
    ("a task that is no UTF-8", "/v1/tasks/%ff", OK, JSON, {404}),
    ("a long task", "/v1/tasks/" + "a" * 5000, OK, JSON, {404, 422}),
    ("an unknown model", "/embed?model=nope", body({"inputs": "a"}), JSON, {404}),
    ("an unknown path", "/v2/nothing", OK, JSON, {404}),
    ("out of the page's folder", "/page/..%2fapp.py", b"", JSON, {404, 405}),
    ("no tasks", "/v1/tasks", body({"tasks": [], "input": "a"}), JSON, {422}),
    ("an option that is not there", TASK, body({"input": "a", "options": {"x": 1}}), JSON, {422}),
    ("an option that is a list", "/v1/tasks/words",
     body({"input": "[MASK]", "options": {"top": []}}), JSON, {422}),
    ("an option beyond", "/v1/tasks/words",
     body({"input": "[MASK]", "options": {"top": 10**9}}), JSON, {422}),
    ("a million beams", "/v1/tasks/translate",
     body({"input": "a", "options": {"beams": 10**6}}), JSON, {422}),
    ("many texts", "/v1/tasks/translate",
     body({"input": "a", "options": {"top": 99, "temperature": 1}}), JSON, {422}),
    ("dimensions 0", "/embed", body({"inputs": "a", "dimensions": 0}), JSON, {422}),
    ("dimensions too many", "/embed", body({"inputs": "a", "dimensions": 10**9}), JSON, {422}),
    ("dimensions as text", "/embed", body({"inputs": "a", "dimensions": "4"}), JSON, {422}),
    ("token ids", "/v1/embeddings", body({"input": [[1, 2, 3]]}), JSON, {422}),
    ("an unknown format", "/v1/embeddings", body({"input": "a", "encoding_format": "xml"}), JSON,
     {422}),
    ("a file's address", "/embed", body({"inputs": {"url": "file:///etc/passwd"}}), JSON, {422}),
    ("no content type", TASK, OK, {"content-type": "text/plain"}, {422}),
    ("compressed", TASK, OK, {**JSON, "content-encoding": "gzip"}, {415}),
    ("a form", TASK, b"input=a", {"content-type": "application/x-www-form-urlencoded"}, {422}),
    ("a timeout that is none", TASK, OK, {**JSON, "x-request-timeout": "nan"}, {422}),
    ("a timeout below 0", TASK, OK, {**JSON, "x-request-timeout": "-1"}, {422}),
    ("another site's page", TASK, OK, {**JSON, "origin": "https://evil.example"}, {403}),
    ("a name for this machine", TASK, OK, {**JSON, "host": "evil.example"}, {403}),
    ("a host of signs", TASK, OK, {**JSON, "host": "a b<c>"}, {400}),
    ("streamed labels", TASK, body({"input": "a", "stream": True}), JSON, {422}),
    ("two texts streamed", "/v1/tasks/translate", body({"input": ["a", "b"], "stream": True}), JSON,
     {422}),
    ("a mask that is none", "/pipeline/fill-mask", body({"inputs": "a"}), JSON, {422}),
    ("top_k 0", "/pipeline/fill-mask", body({"inputs": "[MASK]", "parameters": {"top_k": 0}}), JSON,
     {422}),
    ("top_k as text", "/pipeline/text-classification?task=mood",
     body({"inputs": "a", "parameters": {"top_k": "x"}}), JSON, {422}),
    ("one of two tasks", "/pipeline/text-classification", body({"inputs": "a"}), JSON, {422}),
    ("a task of another kind", "/rerank?task=mood", body({"query": "a", "texts": ["b"]}), JSON,
     {422}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "sent", "headers", "statuses"),
    [one[1:] for one in REQUESTS],
    ids=[one[0] for one in REQUESTS],
)
def test_refused(
    client: httpx.Client, path: str, sent: bytes, headers: dict[str, str], statuses: set[int]
) -> None:
    response = client.post(path, content=sent, headers=headers)
    assert response.status_code in statuses, response.text
    said = response.json()["error"]
    message = said["message"] if isinstance(said, dict) else said
    assert 5 < len(message) <= 500
    assert "\n" not in message
    assert response.headers["x-content-type-options"] == "nosniff"


def test_they_are_many() -> None:
    assert len(REQUESTS) + len(RAW) >= 60
    assert len({one[0] for one in REQUESTS}) == len(REQUESTS)


HEAD = b"POST /v1/tasks/mood HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
RAW: dict[str, tuple[bytes, bytes]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n", b"400"),
    "a line of noise": (b"\x00\xff" * 500 + b"\r\n\r\n", b"400"),
    "chunks that are none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", b"400"),
    "a chunk without end": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{", b"400",
    ),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
    "a length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400",
    ),
    "a length below 0": (HEAD + b"Content-Length: -5\r\n\r\n", b"400"),
    "a length that is none": (HEAD + b"Content-Length: abc\r\n\r\n", b"400"),
    "a length beyond": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
    "a long header": (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", b"431"),
    "many headers": (HEAD + b"".join(b"X%d: a\r\n" % i for i in range(400)) + b"\r\n", b"431"),
    "a long address": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
    "a method of noise": (b"B@D / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
    "a header of control characters": (HEAD + b"X: a\x00b\r\n\r\n", b"400"),
    "a websocket": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n", b"200",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status"), RAW.values(), ids=RAW.keys())
def test_refused_below_http(server: Any, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(sent)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 " + status)


def test_clients_that_vanish_disturb_nobody(server: Any, client: httpx.Client) -> None:
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(OK) + OK
    for part in (b"", b"POST", HEAD, HEAD + b"Content-Length: 900\r\n\r\n{", whole, whole * 3):
        for half in (True, False):
            with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
                connection.sendall(part)
                if half:
                    connection.shutdown(socket.SHUT_WR)
    answer = client.post(TASK, content=OK, headers=JSON)
    assert answer.status_code == 200


def test_all_is_well_afterwards(server: Any, client: httpx.Client) -> None:
    found = client.post(TASK, json={"input": "a good film"})
    assert found.status_code == 200
    assert client.get("/health").status_code == 200
    figures = client.get("/metrics").text
    assert 'event="worker_died"' not in figures
    assert 'status="5' not in figures


def test_slow_clients_are_shown_out(guarded: Any) -> None:
    """Of headers and of bodies alike; those who are quick are served meanwhile."""
    answers: dict[str, bytes] = {}

    def drip(name: str, start: bytes) -> None:
        with socket.create_connection(("127.0.0.1", guarded.port), 30) as connection:
            connection.sendall(start)
            connection.settimeout(0.3)
            for _ in range(60):
                try:
                    answers[name] = connection.recv(4096)
                    return
                except TimeoutError:
                    connection.sendall(b"a")

    starts = {
        "nothing": b"",
        "headers": b"POST /v1/tasks/mood HTTP/1.1\r\nX: ",
        "body": HEAD
        + b"Authorization: Bearer predict-key-0123456789\r\nContent-Length: 1000\r\n\r\n{",
    }
    threads = [threading.Thread(target=drip, args=one) for one in starts.items()]
    for one in threads:
        one.start()
    time.sleep(0.2)
    assert httpx.post(guarded.url + TASK, content=OK, headers=KEY, timeout=30).is_success
    for one in threads:
        one.join()
    assert {name: own.split(b" ", 2)[1:2] for name, own in answers.items()} == {
        "nothing": [b"400"],  # a drop of `a` is no method
        "headers": [b"408"],
        "body": [b"408"],
    }
