"""A model and a task with Chinese names, and no `rerank` task: every way that names take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from unmask import save
from unmask.model import Model
from unmask.server.client import Client
from unmask.tasks import KINDS

from .conftest import Running, tiny_model

NAME = "\u60c5\u611f"  # mood
TEXTS = ["a film", "the film was good", "a cat"]


@pytest.fixture(scope="module")
def named() -> Model:
    """The tiny model, one of its tasks renamed, and without `rank`."""
    model = tiny_model()
    mood = model.tasks["mood"]
    tasks = {name: task for name, task in model.tasks.items() if name not in ("mood", "rank")}
    tasks[NAME] = KINDS["classify"](NAME, mood.options, mood.text, mood.facts)
    heads = {name: model.heads[f"{'mood' if name == NAME else name}_head"] for name in tasks}
    return Model(model.encoder, model.text, tasks, heads).eval()


@pytest.fixture(scope="module")
def chinese(named: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("named") / "tiny"
    save(named, path)
    running = Running([f"{NAME}={path}"], "--workers", "1")
    yield running
    running.stop()


def test_chinese_names(chinese: Running, named: Model) -> None:
    client = Client(chinese.url, model=NAME)
    assert client.info()["models"] == [NAME]
    np.testing.assert_allclose(client.encode(TEXTS), named.encode(TEXTS), atol=1e-5)
    own = [answer.short for answer in named.predict(NAME, TEXTS)]
    assert [one["short"] for one in client.predict(NAME, TEXTS)] == own


def test_headers_and_streams(chinese: Running) -> None:
    found = httpx.post(f"{chinese.url}/embed", params={"model": NAME}, json={"inputs": "a"})
    assert found.headers["x-model"] == quote(NAME)
    body = {"input": "hello world", "stream": True, "model": NAME}
    written = httpx.post(f"{chinese.url}/v1/tasks/translate", json=body, timeout=60)
    assert written.headers["x-model"] == quote(NAME)
    assert NAME in written.text  # JSON has names as they are


def test_a_query_is_counted_where_vectors_rank(chinese: Running, named: Model) -> None:
    sent: dict[str, Any] = {"query": "film", "texts": TEXTS}
    found = httpx.post(f"{chinese.url}/rerank", json=sent, timeout=60)
    counted = sum(len(named.tokenize(text).ids) for text in ["film", *TEXTS])
    assert found.headers["x-compute-tokens"] == str(counted)
    long = httpx.post(
        f"{chinese.url}/rerank", json={**sent, "query": "cat " * 99, "truncate": False}
    )
    assert long.status_code == 413
