"""Clients that people have, unchanged: openai, huggingface_hub, langchain, and plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from unmask.model import Model

TEXTS = ["the film was good", "a cat sleeps and runs", "hello world"]


@pytest.fixture(autouse=True)
def _loopback_is_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub is switched off, its client refuses any address."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(server: Any) -> Any:
    """huggingface_hub's client."""
    from huggingface_hub import InferenceClient

    return InferenceClient(token="none", headers={"x-test": "1"})


def test_openai(server: Any, model: Model) -> None:
    from openai import APIStatusError, OpenAI

    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert [one.id for one in client.models.list()] == ["tiny"]
    expected = model.encode(TEXTS).numpy()
    for coded in ("float", "base64"):
        found = client.embeddings.create(input=TEXTS, model="tiny", encoding_format=coded)  # type: ignore[arg-type]
        vectors = [one.embedding for one in found.data]
        if coded == "base64":
            import base64

            vectors = [np.frombuffer(base64.b64decode(v), "<f4").tolist() for v in vectors]  # type: ignore[arg-type]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    usual = client.embeddings.create(input=TEXTS[0], model="whatever", dimensions=4)
    np.testing.assert_allclose(
        usual.data[0].embedding, model.encode(TEXTS[0], width=4)[0], atol=1e-5
    )
    assert usual.usage.total_tokens == len(model.tokenize(TEXTS[0]).ids)
    with pytest.raises(APIStatusError, match="dimensions 999"):
        client.embeddings.create(input="a", model="tiny", dimensions=999)


def test_hub_vectors(server: Any, hub: Any, model: Model) -> None:
    url = f"{server.url}/pipeline"
    expected = model.encode(TEXTS).numpy()
    found = hub.feature_extraction(TEXTS, model=f"{url}/feature-extraction")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    near = hub.sentence_similarity(TEXTS[0], TEXTS[1:], model=f"{url}/sentence-similarity")
    np.testing.assert_allclose(near, expected[1:] @ expected[0], atol=1e-5)


def test_hub_tasks(server: Any, hub: Any, model: Model) -> None:
    url = f"{server.url}/pipeline"
    labels = hub.text_classification(TEXTS[0], model=f"{url}/text-classification?task=mood")
    own = model.predict("mood", TEXTS[0])[0]
    assert {one.label: pytest.approx(one.score, abs=1e-5) for one in labels} == own.probabilities
    both = hub.text_classification(
        TEXTS[0],
        model=f"{url}/text-classification?task=topics",
        function_to_apply="sigmoid",
        top_k=1,
    )
    own = model.predict("topics", TEXTS[0])[0]
    assert both[0].score == pytest.approx(max(own.probabilities.values()), abs=1e-5)
    entities = hub.token_classification("ada lives in paris", model=f"{url}/token-classification")
    mine = model.predict("names", "ada lives in paris")[0].entities
    assert [(e.word, e.start, e.end) for e in entities] == [(e.text, e.start, e.end) for e in mine]
    filled = hub.fill_mask("the [MASK] was good", model=f"{url}/fill-mask", top_k=3)
    guess = model.fill("the [MASK] was good", top=3).guesses[0]
    assert [one.token_str for one in filled] == [token for token, _ in guess.candidates]
    two = hub.fill_mask("a [MASK] was [MASK].", model=f"{url}/fill-mask", top_k=2)
    second = model.fill("a [MASK] was [MASK].", top=2).guesses[1].candidates
    assert [one["sequence"] for one in two[1]] == [f"a [MASK] was {t}." for t, _ in second]
    answer = hub.question_answering(
        "who lives", "ada lives in paris", model=f"{url}/question-answering"
    )
    assert answer.answer == model.predict("answer", [("who lives", "ada lives in paris")])[0].text
    written = model.predict("translate", "hello world")[0].short
    assert hub.translation("hello world", model=f"{url}/translation").translation_text == written
    assert hub.summarization("hello world", model=f"{url}/summarization").summary_text == written


def test_hub_reads_our_errors(server: Any, hub: Any) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    with pytest.raises(HfHubHTTPError, match=r"no \[MASK\] to fill"):
        hub.fill_mask("nothing hidden", model=f"{server.url}/pipeline/fill-mask")


def test_langchain(server: Any, model: Model) -> None:
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    store = HuggingFaceEndpointEmbeddings(
        model=f"{server.url}/pipeline/feature-extraction", huggingfacehub_api_token="none"
    )
    np.testing.assert_allclose(store.embed_documents(TEXTS), model.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(store.embed_query(TEXTS[1]), model.encode(TEXTS[1])[0], atol=1e-5)


def test_text_embeddings_inference(client: httpx.Client, model: Model) -> None:
    expected = model.encode(TEXTS).numpy()
    single = client.post("/embed", json={"inputs": TEXTS[0]}).json()
    np.testing.assert_allclose(single, expected[:1], atol=1e-5)
    raw = client.post(
        "/embed", json={"inputs": TEXTS}, headers={"accept": "application/octet-stream"}
    )
    assert raw.headers["x-shape"] == f"3,{expected.shape[1]}"
    vectors = np.frombuffer(raw.content, "<f4").reshape(3, -1)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    ranked = client.post("/rerank", json={"query": "film", "texts": TEXTS, "return_text": True})
    own = model.rank("rank", "film", TEXTS)
    assert [one["text"] for one in ranked.json()] == [text for text, _ in own]
    many = client.post("/predict?task=mood", json={"inputs": TEXTS}).json()
    assert [len(one) for one in many] == [3, 3, 3]
    tokens = client.post("/tokenize", json={"inputs": "hello world"}).json()[0]
    assert [one["text"] for one in tokens] == model.tokenize("hello world").tokens
    assert client.get("/info").json()["max_input_length"] == model.text.max_length
    assert client.get("/health").json() == {"status": "ok"}


def test_many_tasks_in_one_request(client: httpx.Client, model: Model) -> None:
    tasks = ["mood", "topics", "stars", "names", "near"]
    found = client.post("/v1/tasks", json={"tasks": tasks, "input": TEXTS})
    said = found.json()
    for text, result in zip(TEXTS, said["results"], strict=True):
        assert list(result) == tasks
        assert result["mood"]["answer"]["prediction"] == model.predict("mood", text)[0].short
    assert (said["form"], said["precision"]) == ("torch-fp32", "fp32")
    assert found.headers["x-form"] == "torch-fp32"
    rows = [{"question": "who", "context": "ada lives"}, {"question": "who"}, "one text"]
    mixed = client.post("/v1/tasks/answer", json={"input": rows}).json()["results"]
    assert ["error" in one for one in mixed] == [False, True, True]
    assert "context" in mixed[1]["error"]["message"]


def test_what_is_cut_is_said(client: httpx.Client, model: Model) -> None:
    long = "the cat " * 60
    found = client.post("/v1/tasks/mood", json={"input": [long, "a cat"]})
    limit = model.text.max_length
    assert found.json()["usage"] == {"tokens": limit + 4, "dropped": 122 - limit}
    assert found.json()["results"][0]["dropped"] == 122 - limit
    vectors = client.post("/embed", json={"inputs": long})
    assert vectors.headers["x-truncated-tokens"] == str(122 - limit)
    tokens = client.post("/tokenize", json={"inputs": [long, "a cat"]})
    assert tokens.headers["x-compute-tokens"] == str(limit + 4)
    assert tokens.headers["x-truncated-tokens"] == str(122 - limit)
    refused = client.post("/embed", json={"inputs": long, "truncate": False})
    assert refused.status_code == 413
    assert "122 tokens" in refused.json()["error"]


def test_streaming(client: httpx.Client, model: Model) -> None:
    body = {"input": "hello world", "stream": True}
    with client.stream("POST", "/v1/tasks/translate", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line[6:] for line in response.iter_lines() if line]
    assert events[-1] == "[DONE]"
    *parts, last = [json.loads(event) for event in events[:-1]]
    whole = model.predict("translate", "hello world")[0].short
    assert "".join(one["part"] for one in parts) == last["result"]["short"] == whole
    wrong = client.post("/v1/tasks/translate", json={**body, "options": {"beans": 2}})
    assert wrong.status_code == 422
    assert "beams" in wrong.json()["error"]["message"]


def test_metrics_and_log_tell_no_text(client: httpx.Client, server: Any) -> None:
    client.post("/v1/tasks/mood", json={"input": "a very secret film"})
    text = client.get("/metrics").text
    assert 'unmask_tokens_total{model="tiny"}' in text
    assert 'unmask_stage_seconds_count{model="tiny",stage="queue"}' in text
    assert "secret" not in text + "".join(server.lines)
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    ours = next(line for line in reversed(lines) if line["route"] == "/v1/tasks/{task}")
    assert (ours["status"], ours["items"], ours["tokens"]) == (200, 1, 6)
