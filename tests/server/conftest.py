"""A tiny bundle with a task of every kind, and one server process that the tests share."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from unmask import save
from unmask.encoder import Encoder, EncoderConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.recipe import AudioOptions, ImageOptions
from unmask.server.keys import SCOPES
from unmask.tasks import KINDS, OPTIONS

WORDS = """a the film was good bad great dull it is not and very one two three cat dog runs sleeps
how are you hello world what time who where when why red green blue in paris ada lives ##s ##ing
##ed ? .""".split()
TASKS = {
    "mood": ("classify", {}, {"labels": ["bad", "fine", "good"]}),
    "topics": ("classify", {"multi_label": True}, {"labels": ["animals", "films"]}),
    "stars": ("regress", {}, {"mean": 3.0, "deviation": 1.0}),
    "names": ("tag", {}, {"tags": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "strict": True}),
    "answer": ("span", {"overlap": 4}, {}),
    "words": ("mlm", {}, {}),
    "near": ("embed", {"label": "label"}, {}),
    "rank": ("rerank", {}, {}),
    "translate": ("generate", {"target": "target", "target_length": 12}, {}),
    "parts": ("order", {}, {}),
    "side": ("classify", {"input": {"image": "photo"}}, {"labels": ["bright", "dark"]}),
    "caption": ("classify", {"input": {"text": "text", "image": "photo"}}, {"labels": ["a", "b"]}),
    "noise": ("classify", {"input": {"audio": "clip"}}, {"labels": ["high", "low", "none"]}),
    "light": ("regress", {"input": {"image": "photo"}}, {"mean": 0.5, "deviation": 0.2}),
    "heard": ("transcribe", {"input": {"audio": "clip"}}, {"alphabet": [" ", "a", "b"]}),
    "look": ("embed", {"input": {"image": "photo"}, "label": "label"}, {}),
    "space": ("match", {"input": {"text": "text", "image": "photo", "audio": "clip"}}, {}),
    "gaps": ("reconstruct", {"input": {"image": "photo", "audio": "clip"}}, {}),
}
IMAGE = ImageOptions(size=8, patch=2)
AUDIO = AudioOptions(rate=8000, mels=8, frames=2, seconds=1)


def a_picture(seed: int = 0, size: tuple[int, int] = (8, 8), **how: Any) -> bytes:
    """Noise of this width and height, as a PNG unless said."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **{"format": "PNG", **how})
    return out.getvalue()


def a_sound(seed: int = 0, seconds: float = 0.3, **how: Any) -> bytes:
    """Noise, as a WAV unless said."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(8000 * seconds))
    out = io.BytesIO()
    soundfile.write(out, noise, 8000, **{"format": "WAV", **how})
    return out.getvalue()


def tiny_model(seed: int = 0, max_length: int = 48) -> Model:
    """Random weights, and a task of every kind."""
    torch.manual_seed(seed)
    text = TextInput(wordpiece({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, True), max_length)
    config = EncoderConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=24,
        max_positions=max_length,
        num_segments=2,
        image=IMAGE,
        audio=AUDIO,
    )
    encoder = Encoder(config)
    tasks, heads = {}, {}
    for name, (kind, options, facts) in TASKS.items():
        read = OPTIONS[kind].model_validate({"kind": kind, **options})
        tasks[name] = KINDS[kind](name, read, text, facts)
        heads[name] = tasks[name].build(encoder)
    model = Model(encoder, text, tasks, heads)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A function that makes a picture."""
    return a_picture


@pytest.fixture(scope="session")
def sound() -> Callable[..., bytes]:
    """A function that makes a recording."""
    return a_sound


@pytest.fixture(scope="session")
def model() -> Model:
    """What the bundle holds."""
    return tiny_model()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """A bundle of random weights with a task of every kind that is served."""
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    scores = [{"task": "mood", "split": "test", "metric": "accuracy", "value": 0.5, "rows": 40}]
    save(model, path, scores=scores, card="# tiny\n\nMade for tests.\n")
    return path


class Running:
    """A server process, and a client of it."""

    def __init__(self, sources: list[str], *options: str) -> None:
        command = [sys.executable, "-m", "unmask", "serve", *sources, "--port", "0", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines: list[str] = []
        self.url = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"on (https?://\S+)$", line):
                self.url = found[1]
                break
        self.port = int(self.url.rpartition(":")[2]) if self.url else 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines += self.process.stderr

    def stop(self) -> int:
        """SIGTERM, and the code that the process ends with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def children(self) -> list[int]:
        """The process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(one) for one in path.read_text().split()]


@pytest.fixture(scope="session")
def server(bundle: Path) -> Iterator[Running]:
    """One server process that many tests share."""
    running = Running([f"tiny={bundle}"], "--workers", "1", "--max-items", "64")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key for each scope."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    lines = ["# of the tests", *(f"{name}-key-0123456789 {name}" for name in SCOPES), ""]
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def guarded(bundle: Path, key_file: Path) -> Iterator[Running]:
    """A server with keys, that waits for nobody."""
    options = ("--workers", "1", "--read-seconds", "1.5", "--api-key-file", str(key_file))
    running = Running([str(bundle)], *options)
    yield running
    running.stop()


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """A function that makes the model anew, with another seed."""
    return tiny_model


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """A function that starts a server of the test's own."""
    started: list[Running] = []

    def begin(sources: list[str], *options: str) -> Running:
        started.append(Running(sources, *options))
        return started[-1]

    yield begin
    for one in started:
        one.stop()


@pytest.fixture
def visit(browser: Any, server: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens the page; at the end nothing was complained of or fetched elsewhere."""
    complaints: list[str] = []
    fetched: list[str] = []
    opened: list[Any] = []

    def visit(task: str = "", url: str = server.url, **settings: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1100, "height": 900}} | settings)
        page.set_default_timeout(40_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(url)
        page.wait_for_selector('[role="tab"]')
        if task:
            page.click(f"#tab-{task}")
        opened.append(page)
        return page

    yield visit
    for page in opened:
        assert page.evaluate("window.hacked") is None
        page.close()
    # What the server refused on purpose is said by the browser too.
    assert [said for said in complaints if "status of 422" not in said] == []
    assert all(url.startswith(server.url) for url in fetched)


def ask(page: Any, *texts: str) -> Any:
    """Fill the fields, ask, and wait for what is shown."""
    for area, text in zip(page.query_selector_all("textarea"), texts, strict=True):
        area.fill(text)
    page.click("#go")
    page.wait_for_selector("#go:not([disabled])")
    page.wait_for_selector("#result > *")
    assert page.query_selector("#result .error") is None, page.inner_text("#result")
    return page.query_selector("#result")
