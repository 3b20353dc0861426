"""Pictures and sound from strangers: each is answered, or refused with one clear line."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

JSON = {"content-type": "application/json"}


def saved(picture: Image.Image, format: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **how)
    return out.getvalue()


def recorded(samples: np.ndarray, rate: int = 8000, format: str = "WAV", **how: Any) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format, **how)
    return out.getvalue()


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def png(width: int, height: int, *more: tuple[bytes, bytes], pixels: int = 1000) -> bytes:
    """A PNG that says it is so large, with more chunks, and that holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * pixels)
    chunks = ((b"IHDR", head), *more, (b"IDAT", body), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(own)) + name + own + struct.pack(">I", zlib.crc32(name + own))
        for name, own in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(**tags: int) -> bytes:
    """A TIFF of one grey pixel in one tile, with these tags changed."""
    usual = {"width": (256, 1), "height": (257, 1), "bits": (258, 8), "packed": (259, 1),
             "meaning": (262, 1), "channels": (277, 1), "tile_width": (322, 16),
             "tile_height": (323, 16), "where": (324, 8), "size": (325, 256)}  # fmt: skip
    entries = [(number, tags.get(name, value)) for name, (number, value) in usual.items()]
    table = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    start = 8 + 256
    return (
        struct.pack("<2sHI", b"II", 42, start)
        + bytes(256)
        + struct.pack("<H", len(entries))
        + (table + bytes(4))
    )


GREY = Image.new("L", (64, 64), 90)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 2400)
WHOLE, CLIP = saved(NOISE), recorded(WAVE)
SCANS = saved(NOISE, "JPEG", progressive=True)
TURN = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI4sI", 1, 0x0112, 2, 4, b"abc\0", 0)
BOMB = zlib.compress(bytes(64 << 20))  # 64 MB of text, or of a profile

PICTURES: dict[str, bytes] = {
    "noise": b"\x00\xff" * 500,
    "text": b"hello " * 50,
    "a PNG cut short": WHOLE[:3000],
    "a PNG's first bytes": WHOLE[:20],
    "a JPEG cut short": saved(NOISE, "JPEG")[:700],
    "a GIF cut short": saved(NOISE.convert("P"), "GIF")[:900],
    "a WebP cut short": saved(NOISE, "WEBP")[:200],
    "a TIFF cut short": saved(NOISE, "TIFF")[:3000],
    "a BMP cut short": saved(NOISE, "BMP")[:3000],
    "pixels that are not there": png(500, 500),
    "20,000 by 20,000": png(20_000, 20_000),
    "two thousand million by as many": png(2**31 - 1, 2**31 - 1),
    "one row of a hundred million": png(100_000_000, 1),
    "0 by 0": png(0, 0),
    "a BMP of 2³¹": patched(saved(NOISE, "BMP"), 18, "<i", 2**31 - 1),
    "a GIF of 65,535 by 65,535": patched(saved(NOISE.convert("P"), "GIF"), 6, "<I", 2**32 - 1),
    "a JPEG of 65,535 by 65,535": SCANS.replace(b"\x08\x00\x40\x00\x40", b"\x08" + b"\xff" * 4),
    "a JPEG of 1,000 scans": SCANS[:-2] + SCANS[SCANS.rindex(b"\xff\xda") : -2] * 1000,
    "an MPO of 200 scans": saved(NOISE, "MPO", save_all=True, append_images=[GREY.convert("RGB")])
    + b"\xff\xda" * 200,
    "a JPEG of 65 parts of EXIF": saved(NOISE, "JPEG").replace(
        b"\xff\xdb", b"\xff\xe1\0\x0cExif\0\0abcd" * 65 + b"\xff\xdb", 1
    ),
    "a TIFF whose tile is elsewhere": tiff(where=2**31, size=2**31),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n",
    "a zip": b"PK\x03\x04" + bytes(60),
    "a recording": CLIP,
    "PPM of 10⁹ by 10⁹": b"P6 1000000000 1000000000 255\n" + bytes(100),
}  # fmt: skip

SOUNDS: dict[str, bytes] = {
    "noise": b"\x00\xff" * 500,
    "text": b"hello " * 50,
    "a WAV cut short": CLIP[:2000],
    "a header alone": CLIP[:44],
    "half a header": CLIP[:30],
    "0 samples": recorded(np.zeros(0)),
    "samples that are no numbers": recorded(np.array([0.0, np.nan]), subtype="FLOAT"),
    "infinite samples": recorded(np.array([0.0, np.inf]), subtype="FLOAT"),
    "samples of 10¹⁹": recorded(np.array([1e19, -1e19] * 1200), subtype="FLOAT"),
    "a rate of 0": patched(CLIP, 24, "<I", 0),
    "a rate of 2 GHz": patched(CLIP, 24, "<I", 2_000_000_000),
    "a rate of 1": patched(CLIP, 24, "<I", 1),
    "1,000 channels": patched(CLIP, 22, "<H", 1000),
    "0 channels": patched(CLIP, 22, "<H", 0),
    "FLAC cut short": recorded(WAVE, format="FLAC")[:1500],
    "OGG cut short": recorded(WAVE, format="OGG")[:-600],
    "MP3 cut short": recorded(WAVE, 16_000, "MP3")[:300],
    "a picture": WHOLE,
    "RIFF of something else": b"RIFF\xff\xff\xff\x7fAVI LIST" + bytes(80),
}


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refused(response: httpx.Response) -> str:
    assert response.status_code == 422, response.text
    said = response.json()["error"]
    message: str = said["message"] if isinstance(said, dict) else said
    assert 5 < len(message) <= 500
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_none(client: httpx.Client, name: str) -> None:
    data = PICTURES[name]
    said = refused(client.post("/v1/tasks/side", json={"input": coded(data)}))
    raw = client.post("/v1/tasks/side", content=data, headers={"content-type": "image/png"})
    assert refused(raw) == said
    assert refused(client.post("/pipeline/image-classification?task=side", content=data)) == said


@pytest.mark.parametrize("name", SOUNDS)
def test_recordings_that_are_none(client: httpx.Client, name: str) -> None:
    data = SOUNDS[name]
    said = refused(client.post("/v1/tasks/noise", json={"input": {"clip": coded(data)}}))
    raw = client.post("/v1/tasks/noise", content=data, headers={"content-type": "audio/x-wav"})
    assert refused(raw) == said
    assert refused(client.post("/pipeline/automatic-speech-recognition", content=data))


ODD: dict[str, tuple[str, bytes]] = {
    "one pixel": ("side", saved(Image.new("RGB", (1, 1)))),
    "one row of 60,000": ("side", saved(Image.new("L", (60_000, 1)))),
    "16 million pixels in some bytes": ("side", saved(Image.new("1", (4000, 4000)))),
    "print colours": ("side", saved(Image.new("CMYK", (9, 9)), "JPEG")),
    "all transparent": ("side", saved(Image.new("RGBA", (9, 9)))),
    "a thousand frames": (
        "side",
        saved(GREY, "GIF", save_all=True, append_images=[NOISE.convert("L")] * 100),
    ),
    "EXIF of noise": ("side", saved(NOISE, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")),
    "EXIF whose turn is a text": ("side", saved(NOISE, "JPEG", exif=TURN)),
    "a TIFF of one pixel in a tile of 2³²": (
        "side",
        tiff(tile_width=65_536, tile_height=65_536),
    ),
    "silence": ("noise", recorded(np.zeros(4000))),
    "one sample": ("noise", recorded(np.zeros(1))),
    "an hour": ("noise", recorded(np.zeros(3600 * 8000, np.int16), format="FLAC")),
    "32 channels at 384 kHz": ("noise", recorded(np.zeros((38_400, 32)), 384_000)),
    "a stream of unknown length": ("noise", patched(CLIP, 40, "<I", 0xFFFFFFFF)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_ones_are_answered(client: httpx.Client, name: str) -> None:
    task, data = ODD[name]
    response = client.post(f"/v1/tasks/{task}", json={"input": coded(data)})
    assert response.status_code == 200, response.text
    assert (response.json()["usage"]["dropped"] > 0) == (name == "an hour")


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_what_is_packed_beside_the_pixels_is_not_unpacked(
    client: httpx.Client, chunk: bytes
) -> None:
    data = png(4, 4, (chunk, b"a\0\0" + BOMB), pixels=52)
    response = client.post("/v1/tasks/side", json={"input": coded(data)})
    assert response.status_code in (200, 422), response.text


CELLS: dict[str, Any] = {
    "no base64": "!" * 50,
    "half of base64": coded(WHOLE)[:101],
    "base64 of nothing": "====",
    "an address": "https://example.org/a.png",
    "a data address without base64": "data:image/png,abc",
    "a data address of nothing": "data:image/png;base64,",
    "a number": 5,
    "null": None,
    "a list of numbers": [137, 80, 78, 71],
    "an empty object": {},
    "bytes that are a number": {"bytes": 5},
    "surrogates made of letters": "\U0001f600" * 40,
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_that_hold_no_file(client: httpx.Client, name: str) -> None:
    for task, column in (("side", "photo"), ("noise", "clip")):
        row = {"input": [{column: CELLS[name]}]}
        refused(client.post(f"/v1/tasks/{task}", json=row))


BODIES: list[tuple[str, str, bytes, str, set[int]]] = [
    ("nothing", "/v1/tasks/side", b"", "image/png", {422}),
    ("a text's task", "/v1/tasks/mood", WHOLE, "image/png", {422}),
    ("sound for a picture's task", "/v1/tasks/side", CLIP, "audio/wav", {422}),
    ("another type", "/v1/tasks/side", WHOLE, "application/octet-stream", {422}),
    ("a film", "/v1/tasks/side", WHOLE, "video/mp4", {422}),
    ("a form", "/v1/tasks/side", b"--a\r\n", "multipart/form-data; boundary=a", {422}),
    ("a type of noise", "/v1/tasks/side", WHOLE, "/;;=", {422}),
    ("an unknown task", "/v1/tasks/nope", WHOLE, "image/png", {404}),
    ("an unknown model", "/v1/tasks/side?model=nope", WHOLE, "image/png", {404}),
    ("nothing for the hub's", "/pipeline/image-classification?task=side", b"", "", {422}),
    ("no task that hears and draws", "/pipeline/audio-classification?task=side", CLIP, "", {422}),
    ("parameters that are none", "/pipeline/audio-classification",
     json.dumps({"inputs": coded(CLIP), "parameters": 5}).encode(), "application/json", {422}),
    ("a function that is not the task's", "/pipeline/audio-classification", json.dumps(
        {"inputs": coded(CLIP), "parameters": {"function_to_apply": "none"}}).encode(),
     "application/json", {422}),
    ("times that are not told", "/pipeline/automatic-speech-recognition", json.dumps(
        {"inputs": coded(CLIP), "parameters": {"return_timestamps": True}}).encode(),
     "application/json", {422}),
    ("a million beams", "/pipeline/automatic-speech-recognition", json.dumps({
        "inputs": coded(CLIP),
        "parameters": {"generation_parameters": {"num_beams": 10**6}}}).encode(),
     "application/json", {422}),
    ("no labels", "/pipeline/zero-shot-image-classification", WHOLE, "image/png", {422}),
    ("labels that are none", "/pipeline/zero-shot-image-classification", json.dumps(
        {"inputs": coded(WHOLE), "parameters": {"candidate_labels": ["a", 5]}}).encode(),
     "application/json", {422}),
    ("10,000 labels", "/pipeline/zero-shot-image-classification", json.dumps(
        {"inputs": coded(WHOLE), "parameters": {"candidate_labels": ["a"] * 10_000}}).encode(),
     "application/json", {413}),
    ("a template of two places", "/pipeline/zero-shot-image-classification", json.dumps({
        "inputs": coded(WHOLE),
        "parameters": {"candidate_labels": ["a", "b"], "hypothesis_template": "{}{}"}}).encode(),
     "application/json", {422}),
    ("a template of two million letters", "/pipeline/zero-shot-image-classification", json.dumps({
        "inputs": coded(WHOLE),
        "parameters": {"candidate_labels": ["a"] * 50, "hypothesis_template": "{}" + "a" * 2**21}
     }).encode(), "application/json", {422}),
    ("a language that is a list", "/v1/tasks/space",
     b'{"input": {"text": [{"language": [], "text": "a"}]}}', "application/json", {422}),
    ("attention in 300 languages", "/v1/tasks/space/attention",
     json.dumps({"input": {"text": {f"l{i}": "a good film" for i in range(300)}}}).encode(),
     "application/json", {413}),
    ("thirty of 64 million pixels", "/v1/tasks/side",
     json.dumps({"input": [coded(saved(Image.new("1", (8000, 7990 + i)))) for i in range(10)]
                 + [{"photo": coded(saved(Image.new("1", (8000, 7970 + i))))} for i in range(20)]}
                ).encode(), "application/json", {413}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "sent", "kind", "statuses"), [one[1:] for one in BODIES], ids=[b[0] for b in BODIES]
)
def test_bodies(
    client: httpx.Client, path: str, sent: bytes, kind: str, statuses: set[int]
) -> None:
    response = client.post(path, content=sent, headers={"content-type": kind} if kind else {})
    assert response.status_code in statuses, response.text
    assert response.json()["error"]


@contextmanager
def meanwhile(work: Callable[[], Any], threads: int) -> Iterator[None]:
    """Do something again and again in threads while a `with` lasts."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            work()

    running = [threading.Thread(target=go) for _ in range(threads)]
    for one in running:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in running:
            one.join()


def test_texts_are_answered_while_pictures_are_decoded(server: Any, client: httpx.Client) -> None:
    large = [coded(saved(Image.new("1", (1500, 1500 + i)))) for i in range(3)]

    def trouble() -> None:
        body = {"input": [*large, coded(PICTURES["a PNG cut short"])]}
        status = httpx.post(f"{server.url}/v1/tasks/side", json=body, timeout=120).status_code
        statuses.append(status)

    statuses: list[int] = []
    with meanwhile(trouble, 2):
        for i in range(12):
            found = client.post("/v1/tasks/mood", json={"input": f"a good film {i}"})
            assert found.status_code == 200, found.text
    assert set(statuses) <= {200, 429}


def test_all_is_well_afterwards(client: httpx.Client) -> None:
    assert client.post("/v1/tasks/side", json={"input": coded(WHOLE)}).status_code == 200
    figures = client.get("/metrics").text
    assert 'event="worker_died"' not in figures
    assert 'status="5' not in figures
