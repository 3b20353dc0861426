"""Pictures and sound over HTTP: answers are the model's own, and nothing of the machine is read."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from unmask.errors import UserError
from unmask.model import Model
from unmask.server.asks import Ask, Read, Reader
from unmask.server.client import Client
from unmask.server.errors import Refusal
from unmask.server.outlines import WORK
from unmask.server.worker import hello

Make = Callable[..., bytes]


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answers(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    return [one["answer"] for one in response.json()["results"]]


def test_every_way_to_give_a_file_is_the_models_own(
    client: httpx.Client, model: Model, picture: Make, sound: Make
) -> None:
    for task, column, kind, data in (
        ("side", "photo", "image/png", picture()),
        ("noise", "clip", "audio/wav", sound()),
    ):
        own = model.predict(task, data)[0].columns()
        items = [coded(data), {column: coded(data)}, f"data:{kind};base64,{coded(data)}"]
        found = answers(client.post(f"/v1/tasks/{task}", json={"input": items}))
        raw = client.post(f"/v1/tasks/{task}", content=data, headers={"content-type": kind})
        for one in (*found, *answers(raw)):
            assert one["probabilities"] == pytest.approx(own["probabilities"], abs=1e-5)
            assert (one["tokens"], one["dropped"]) == (own["tokens"], own["dropped"])
        assert raw.headers["x-compute-tokens"] == str(own["tokens"])


def test_kinds_that_read_more_than_one_thing(
    client: httpx.Client, model: Model, picture: Make, sound: Make
) -> None:
    photo, clip = picture(1), sound(1, 1.5)
    pair = client.post("/v1/tasks/caption", json={"input": [["a cat", coded(photo)]]})
    row = client.post("/v1/tasks/caption", json={"input": {"text": "a cat", "photo": coded(photo)}})
    own = model.predict("caption", [("a cat", photo)])[0]
    assert answers(pair) == answers(row)
    assert answers(row)[0]["probabilities"] == pytest.approx(own.probabilities, abs=1e-5)
    alone = client.post("/v1/tasks/caption", content=photo, headers={"content-type": "image/png"})
    assert answers(alone)[0]["tokens"] == 17  # [CLS] and 16 patches
    heard = client.post("/v1/tasks/heard", json={"input": coded(clip), "options": {"beam": 4}})
    mine = model.predict("heard", clip, beam=4)[0]
    (said,) = answers(heard)
    assert (said["prediction"], said["cut"]) == (mine.text, True)
    assert heard.headers["x-truncated-tokens"] == str(mine.dropped)
    near = client.post("/v1/tasks/space", json={"input": {"text": "cat", "photo": coded(photo)}})
    vectors = model.predict("space", [{"text": "cat", "photo": photo}])[0].vectors
    for name, vector in answers(near)[0]["vectors"].items():
        np.testing.assert_allclose(vector, vectors[name], atol=1e-5)
    several = client.post("/v1/tasks", json={"tasks": ["side", "light"], "input": coded(photo)})
    (found,) = several.json()["results"]
    assert found["light"]["answer"]["value"] == pytest.approx(
        model.predict("light", photo)[0].value, abs=1e-4
    )


def test_one_bad_file_does_not_fail_its_neighbours(client: httpx.Client, picture: Make) -> None:
    whole = picture(2, (64, 64))
    items = [coded(whole), coded(whole[:200]), coded(picture(3)), "no base64!", coded(whole)]
    found = client.post("/v1/tasks/side", json={"input": items}).json()["results"]
    assert ["error" in one for one in found] == [False, True, False, True, False]
    assert all("column 'photo'" in found[i]["error"]["message"] for i in (1, 3))


def test_no_request_names_a_file_or_an_address(
    client: httpx.Client, picture: Make, sound: Make, tmp_path: Path
) -> None:
    photo, clip = tmp_path / "photo.png", tmp_path / "clip.wav"
    photo.write_bytes(picture(4))
    clip.write_bytes(sound(4))
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"http://127.0.0.1:{other.getsockname()[1]}/photo.png"
        for task, column, path in (("side", "photo", photo), ("noise", "clip", clip)):
            for name in (str(path), f"file://{path}", address, f"~/../..{path}"):
                cells = [name, {"path": name}, {"bytes": None, "path": name}, {"bytes": name}]
                items = [name, *({column: cell} for cell in cells)]
                for item in items:
                    refused = client.post(f"/v1/tasks/{task}", json={"input": [item]})
                    assert refused.status_code == 422, refused.text
                kind = "image" if task == "side" else "audio"
                body = {"inputs": name, "parameters": {"top_k": 1}}
                assert client.post(f"/pipeline/{kind}-classification", json=body).is_client_error
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_model_made_of_a_servers_text_reads_no_files_either(
    model: Model, picture: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the check of an explanation makes one, with other weights."""
    path = tmp_path / "photo.png"
    path.write_bytes(picture(4))
    readers = dict(model.text.beside)
    monkeypatch.setattr(model.text, "files", True)  # put back at the end
    model.text.refuse_files()
    other = Model(model.encoder, model.text, model.tasks)
    try:
        with pytest.raises(UserError, match="no base64"):
            other.text.segment("image", str(path), None)
    finally:
        model.text.beside = readers
        for reader in readers.values():
            reader.files = True


def test_what_is_kept_is_kept_for_these_bytes(client: httpx.Client, picture: Make) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(picture(5)))).copy()
    pixels[0, 0, 0] ^= 128
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    cached = [
        client.post("/v1/tasks/side", json={"input": coded(data)}).json()["results"][0]["cached"]
        for data in (picture(5), out.getvalue(), picture(5), out.getvalue())
    ]
    assert cached == [False, False, True, True]


def test_the_server_counts_by_headers_and_decodes_nothing(
    model: Model, bundle: Path, picture: Make, sound: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    white = io.BytesIO()
    Image.new("1", (4000, 4000), 1).save(white, "PNG")
    large, same = coded(white.getvalue()), coded(picture(0, (8, 8)))
    clip = coded(sound(0, 0.5))
    reader = Reader(hello(model, bundle))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("soundfile.SoundFile.read", decoded)

    def read(task: str, row: Any) -> Read:
        found = reader.read(Ask(row, task))
        assert isinstance(found, Read), found
        return found

    assert (read("side", large).tokens, read("side", same).tokens) == (17, 17)
    assert read("side", large).cost == 17 + (4000 * 4000 + len(white.getvalue())) // WORK
    assert read("side", same).cost == 17
    assert read("noise", clip).tokens == 1 + 24  # 48 frames, two a position
    assert read("caption", {"text": "a cat", "photo": same}).tokens == 4 + 16
    # Tasks of one picture share a pass; pictures of one size do not.
    assert read("side", large).content == read("light", {"photo": large}).content
    assert read("side", large).content != read("side", same).content
    refused = reader.read(Ask(coded(b"no picture"), "side"))
    assert isinstance(refused, Refusal)
    assert refused.status == 422


def test_our_client_sends_bytes(server: Any, model: Model, picture: Make) -> None:
    photo = picture(6)
    items: list[Any] = [photo, {"photo": photo}]
    found = Client(server.url).predict("side", items)
    assert [one["short"] for one in found] == [model.predict("side", photo)[0].short] * 2
    with pytest.raises(UserError, match="an item holds set"):
        Client(server.url).predict("side", [{"photo": {1}}])


def test_what_is_read_is_told(client: httpx.Client) -> None:
    said = client.get("/info").json()
    tasks = {one["name"]: one["reads"] for one in said["tasks"]}
    assert tasks["caption"] == {"text": "text", "photo": "image"}
    assert tasks["answer"] == {"question": "text", "context": "text"}
    assert (said["image"]["size"], said["audio"]["rate"]) == (8, 8000)
    paths = client.get("/openapi.json").json()["paths"]
    body = paths["/v1/tasks/{task}"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "image/*", "audio/*"}


@pytest.fixture
def hub(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """huggingface_hub's client; where the hub is switched off, it refuses any address."""
    from huggingface_hub import InferenceClient, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return InferenceClient(token="none")


def test_hub_labels(
    server: Any, hub: Any, model: Model, picture: Make, sound: Make, tmp_path: Path
) -> None:
    photo, clip = picture(7), sound(7)
    (tmp_path / "a.png").write_bytes(photo)
    (tmp_path / "a.flac").write_bytes(sound(7, format="FLAC"))
    url = f"{server.url}/pipeline/image-classification?task=side"
    own = model.predict("side", photo)[0].probabilities
    best = max(own, key=own.__getitem__)
    for given in (photo, str(tmp_path / "a.png"), tmp_path / "a.png"):
        found = hub.image_classification(given, model=url)
        assert {one.label: one.score for one in found} == pytest.approx(own, abs=1e-5)
        assert found[0].label == best
    (top,) = hub.image_classification(photo, model=url, top_k=1, function_to_apply="softmax")
    assert top.label == best
    url = f"{server.url}/pipeline/audio-classification"
    own = model.predict("noise", clip)[0].probabilities
    for sent in (clip, str(tmp_path / "a.flac")):
        heard = hub.audio_classification(sent, model=url)
        assert {one.label: one.score for one in heard} == pytest.approx(own, abs=1e-3)
    assert len(hub.audio_classification(clip, model=url, top_k=2)) == 2


def test_hub_speech(server: Any, hub: Any, model: Model, sound: Make) -> None:
    clip = sound(8, 0.9)
    url = f"{server.url}/pipeline/automatic-speech-recognition"
    found = hub.automatic_speech_recognition(clip, model=url)
    assert found.text == model.predict("heard", clip)[0].text
    beams = {"generation_parameters": {"num_beams": 8}}
    found = hub.automatic_speech_recognition(clip, model=url, extra_body=beams)
    assert found.text == model.predict("heard", clip, beam=8)[0].text


def test_hub_labels_that_were_never_learnt(
    server: Any, hub: Any, model: Model, picture: Make
) -> None:
    photo, labels = picture(9), ["a cat", "a dog", "a film"]
    url = f"{server.url}/pipeline/zero-shot-image-classification"
    found = hub.zero_shot_image_classification(photo, labels, model=url)
    views = model.predict("space", [{"photo": photo}, *({"text": text} for text in labels)])
    vectors = np.stack([*(vector for one in views for vector in one.vectors.values())])
    logits = vectors[1:] @ vectors[0] / 0.07
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [one.label for one in found] == [labels[i] for i in np.argsort(-chances)]
    assert {one.label: one.score for one in found} == pytest.approx(
        dict(zip(labels, chances.tolist(), strict=True)), abs=1e-4
    )
    other = hub.zero_shot_image_classification(
        photo, ["cat", "dog"], model=url, hypothesis_template="a {}"
    )
    ratio = chances[0] / chances[:2].sum()
    assert {one.label: one.score for one in other}["cat"] == pytest.approx(ratio, abs=1e-4)


def test_hub_reads_our_errors(server: Any, hub: Any, sound: Make) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    url = f"{server.url}/pipeline"
    with pytest.raises(HfHubHTTPError, match="none of PNG"):
        hub.image_classification(sound(), model=f"{url}/image-classification?task=side")
    with pytest.raises(HfHubHTTPError, match="which task"):
        hub.image_classification(sound(), model=f"{url}/image-classification")
    with pytest.raises(HfHubHTTPError, match="of kind transcribe; this asks for"):
        hub.audio_classification(sound(), model=f"{url}/audio-classification?task=heard")
    with pytest.raises(HfHubHTTPError, match="reads image; this asks for"):
        hub.audio_classification(sound(), model=f"{url}/audio-classification?task=side")
