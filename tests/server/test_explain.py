"""Explanations over HTTP are the command's; what cannot be explained; others go on meanwhile."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from unmask import load, save
from unmask.explain import explain
from unmask.explain.explain import METHODS
from unmask.model import Model
from unmask.server.asks import Ask, Reader
from unmask.server.errors import Refusal
from unmask.server.wire import pack, receive_now
from unmask.server.worker import Worker, hello

ROWS: dict[str, Any] = {
    "mood": "ada lives in paris",
    "topics": "the cat sleeps",
    "stars": "the film was good",
    "names": "ada lives in paris",
    "answer": ["who lives ?", "ada lives in paris"],
    "words": "the [MASK] was [MASK]",
    "near": "a good film",
    "rank": ["film", "the film was good"],
    "translate": "hello world",
    "parts": "the cat runs. the dog sleeps.",
}


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> Model:
    """The bundle as `unmask explain` opens it."""
    return load(bundle)


def told(client: httpx.Client, task: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/v1/tasks/{task}/explain", json={"input": ROWS[task]} | body)
    assert response.status_code == 200, response.text
    return response.json()["explanation"]


def row(task: str) -> Any:
    return tuple(ROWS[task]) if isinstance(ROWS[task], list) else ROWS[task]


def same(ours: Any, theirs: Any) -> None:
    """Two explanations as data, but for the time that they took."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            if key not in ("seconds", "random_weights"):
                same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for own, other in zip(ours, theirs, strict=True):
            same(own, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-3)
    else:
        assert ours == theirs


@pytest.mark.parametrize("task", ROWS)
def test_it_is_what_the_command_says(client: httpx.Client, loaded: Model, task: str) -> None:
    same(told(client, task), explain(loaded, task, row(task), check=False).model_dump())


@pytest.mark.parametrize("method", METHODS)
def test_methods_checks_answers_and_tokens(
    client: httpx.Client, loaded: Model, method: str
) -> None:
    options: dict[str, Any] = {"answer": "good", "by": "token", "check": method == "occlusion"}
    found = told(client, "mood", method=method, **options)
    same(found, explain(loaded, "mood", ROWS["mood"], methods=[method], **options).model_dump())
    assert found["answer"] == "good"
    assert (found["methods"][0]["faithfulness"] is not None) == options["check"]


@pytest.mark.parametrize("task", ["mood", "rank", "translate"])
def test_attention_is_the_commands(client: httpx.Client, loaded: Model, task: str) -> None:
    whole = explain(loaded, task, row(task), check=False, attention=True)
    assert whole.attention is not None
    for layer in (1, 2, None):
        body = {"input": ROWS[task], **({"layer": layer} if layer else {})}
        response = client.post(f"/v1/tasks/{task}/attention", json=body)
        assert response.status_code == 200, response.text
        found = response.json()["attention"]
        assert (found["layers"], found["heads"], found["layer"]) == (2, 2, layer or 2)
        wanted = [table[(layer or 2) - 1] for table in whole.attention]
        np.testing.assert_allclose(found["weights"], wanted, atol=2e-4)
        np.testing.assert_allclose(np.sum(found["weights"], axis=-1), 1, atol=0.01)
        assert [len(own) for own in found["tokens"]] == [len(own[0]) for own in found["weights"]]


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no task": ("nope/explain", {"input": "a"}, 404, "no task 'nope'"),
    "an empty text": ("mood/explain", {"input": ""}, 422, "empty"),
    "spaces": ("mood/attention", {"input": "   "}, 422, "empty"),
    "two texts for one": ("mood/explain", {"input": ["a", "b"]}, 422, "reads 1 text"),
    "one text for two": ("rank/explain", {"input": "a"}, 422, "reads 2 text"),
    "a number": ("mood/explain", {"input": 3}, 422, "valid"),
    "an unknown method": ("mood/explain", {"input": "a", "method": "magic"}, 422, "choose of"),
    "an unknown label": ("mood/explain", {"input": "a", "answer": "grea"}, 422, "none of its 3"),
    "an answer where there is one": ("stars/explain", {"input": "a", "answer": "x"}, 422, "leave"),
    "no hidden word": ("words/explain", {"input": "a cat"}, 422, "no guess to explain"),
    "a digit that is no number": (
        "words/explain", {"input": "a [MASK]", "answer": "²"}, 422, "not one token",
    ),
    "no such piece": (
        "translate/explain", {"input": "hello", "answer": "²"}, 422, "no piece of what was written",
    ),
    "no context": ("answer/explain", {"input": ["who ?", ""]}, 422, "context"),
    "layer 0": ("mood/attention", {"input": "a", "layer": 0}, 422, "layer"),
    "layer 3 of 2": ("mood/attention", {"input": "a", "layer": 3}, 422, "layers 1 to 2"),
    "a misspelt key": ("mood/explain", {"input": "a", "metod": "x"}, 422, "metod"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    response = client.post(f"/v1/tasks/{path}", json=body)
    assert response.status_code == status, response.text
    message = response.json()["error"]["message"]
    assert said in message
    assert "\n" not in message


def test_a_key_for_predict_is_enough(guarded: Any) -> None:
    url = f"{guarded.url}/v1/tasks/mood/explain"
    assert httpx.post(url, json={"input": "a cat"}, timeout=60).status_code == 401
    for scope, status in {"predict": 200, "metrics": 403}.items():
        headers = {"authorization": f"Bearer {scope}-key-0123456789"}
        found = httpx.post(url, json={"input": "a cat"}, headers=headers, timeout=60)
        assert found.status_code == status


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads long texts."""
    from .conftest import tiny_model

    path = tmp_path_factory.mktemp("long") / "long"
    save(tiny_model(max_length=700), path)
    return path


def test_what_is_too_long_is_told_before_it_is_computed(long: Path) -> None:
    reader = Reader(hello(load(long), long))
    why = {"method": "shapley", "answer": None, "by": "word", "check": False}

    def read(words: int, **changes: Any) -> Any:
        return reader.read(Ask("cat " * words, "mood", why=changes or why))

    assert read(100).cost > read(100, **{**why, "method": "occlusion"}).cost > 100 * 102
    assert read(100, **{**why, "check": True}).cost > read(100).cost
    for found, said in {
        read(511): "a row is explained of up to 512 tokens, and this one has 513",
        read(510): "shapley would read this text of 512 tokens about",
        read(127, layer=1): "attention is shown of up to 128 tokens, and this one has 129",
    }.items():
        assert isinstance(found, Refusal)
        assert found.status == 413
        assert said in found.message
    assert read(126, layer=1).tokens == 128


def test_others_are_answered_meanwhile_and_what_nobody_waits_for_ends(
    long: Path, start: Callable[..., Any]
) -> None:
    server = start([f"long={long}"], "--workers", "1")
    path = "/v1/tasks/mood/explain"
    heavy = json.dumps({"input": "cat " * 250, "method": "shapley"}).encode()  # 2,000 passes
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with httpx.Client(base_url=server.url, timeout=300) as client:
        headers = {"content-type": "application/json", "x-request-timeout": "0.5"}
        late = client.post(path, content=heavy, headers=headers)
        assert late.status_code == 504
        assert "no answer within 0.5 s" in late.json()["error"]["message"]
        with socket.create_connection(("127.0.0.1", server.port), 60) as leaving:
            length = f"Content-Length: {len(heavy)}\r\n\r\n"
            leaving.sendall((head + length).encode() + heavy)
            for i in range(5):
                answered = client.post("/v1/tasks/mood", json={"input": f"the film was good {i}"})
                assert answered.status_code == 200
            assert not select.select([leaving], [], [], 0)[0]  # it is under way still
        # Both have ended, so the next one has its turn.
        assert client.post(path, json={"input": "a good film"}).status_code == 200
        figures = client.get("/metrics").text
    assert 'unmask_events_total{event="cancelled",model="long"} 2.0' in figures
    assert "worker_died" not in figures


@pytest.fixture
def worker(model: Model) -> Iterator[Callable[..., Any]]:
    """A function that lets a worker run on these messages; what it says, in order."""
    ours, theirs = socket.socketpair()

    def run(*messages: dict[str, Any], close: bool = False, answers: int = 0) -> list[Any]:
        for message in messages:
            ours.sendall(pack(message))
        if close:
            ours.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=Worker(theirs, model).run, daemon=True)
        thread.start()
        said = [receive_now(ours) for _ in range(answers)]
        if not close:
            ours.shutdown(socket.SHUT_WR)
        thread.join(60)
        assert not thread.is_alive()
        return said

    with ours, theirs:
        yield run


EXPLAIN = {
    "do": "explain", "id": 1, "task": "mood", "row": "the film was very good", "positions": 8,
    "why": {"method": "occlusion", "answer": None, "by": "word", "check": True},
}  # fmt: skip


def test_an_explanation_lets_others_pass(worker: Callable[..., Any], model: Model) -> None:
    answer = {
        "do": "answer",
        "id": 2,
        "options": {},
        "units": [{"row": "a cat", "tasks": ["mood"]}],
    }
    write = {"do": "write", "id": 3, "task": "translate", "row": "hello world", "options": {}}
    first, second, _ = worker(EXPLAIN, answer, write, answers=3)
    assert first[0]["id"] == 2
    assert json.loads(first[1])["short"] == model.predict("mood", "a cat")[0].short
    assert second[0]["id"] == 3
    assert all(p.requires_grad for p in model.parameters())


def test_an_explanation_that_nobody_waits_for_ends(worker: Callable[..., Any]) -> None:
    ((header, body),) = worker(EXPLAIN, {"do": "cancel", "id": 1}, answers=1)
    assert header["result"]["error"]["code"] == "cancelled"
    assert body == b""


def test_a_worker_ends_with_its_server_amid_an_explanation(worker: Callable[..., Any]) -> None:
    assert worker(EXPLAIN, close=True) == []
