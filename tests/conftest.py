"""What tests share: a tiny vocabulary, tiny models, and where larger data lies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch

from unmask.batch import Example, Segment, Sequence
from unmask.encoder import Encoder, EncoderConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.machine.threads import available_cpus

# A process for each command costs three seconds of importing. This one has imported what commands
# need, and is forked for each: nothing else of it has run.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["unmask.cli.main", "unmask.cli.app", "unmask.cli.tables", "unmask.training.run"]
)
COMMAND = """
import os, sys
os.chdir(folder)
os.environ.clear()
os.environ.update(environment)
for number, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY), number)
sys.argv = ["unmask", *words]
from unmask.cli.main import main
main()
"""

WORDS = [
    "a",
    "the",
    "film",
    "was",
    "good",
    "bad",
    "great",
    "dull",
    "it",
    "is",
    "not",
    "and",
    "very",
    "one",
    "two",
    "three",
    "cat",
    "dog",
    "runs",
    "sleeps",
    "how",
    "are",
    "you",
    "hello",
    "world",
    "what",
    "time",
    "who",
    "where",
    "when",
    "why",
    "red",
    "green",
    "blue",
    "##s",
    "##ing",
    "##ed",
]
CONFIGS = {
    "classic": {"num_segments": 2},
    "modern": {
        "num_segments": 0,
        "position": "rotary",
        "window": 2,
        "global_every": 2,
        "norm_epsilon": 1e-5,
        "pre_norm": True,
        "gated": True,
        "bias": False,
    },
    "rms": {"position": "rotary", "norm": "rms", "pre_norm": True, "embedding_size": 8},
}


def pytest_configure() -> None:
    """Small models gain nothing from many threads, and much from none that wait for one another."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(2, available_cpus()))
    # A shell starts what runs behind it with Ctrl-C ignored, and children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def data() -> Path:
    """The folder with larger data; tests that need it are skipped without it."""
    folder = os.environ.get("UNMASK_DATA")
    if not folder:
        pytest.skip("needs larger data: set UNMASK_DATA to its folder")
    return Path(folder)


@pytest.fixture
def text() -> TextInput:
    """A WordPiece tokenizer of some fifty words."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    return TextInput(wordpiece(vocabulary, lowercase=True), 32)


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> EncoderConfig:
    """Each style of encoder in turn, tiny and without dropout."""
    return tiny_config(request.param)


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    """A function that makes a tiny encoder with random weights."""

    def make(style: str = "classic", **changes: object) -> Encoder:
        torch.manual_seed(0)
        encoder = Encoder(tiny_config(style, **changes))
        for p in encoder.parameters():
            torch.nn.init.normal_(p, std=0.3)
        return encoder.eval()

    return make


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """A function that makes an example of random tokens."""

    def make(length: int, seed: int, prefix: int | None = None) -> Example:
        rng = np.random.default_rng(seed)
        half = length // 2
        segments = (
            Segment(rng.integers(0, 60, half), 0),
            Segment(rng.integers(0, 60, length - half), 1),
        )
        wanted = np.sort(rng.choice(length, max(1, length // 3), replace=False))
        return Example((Sequence(segments, prefix),), (wanted,))

    return make


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A CSV of forty easy reviews with labels good and bad."""
    path = tmp_path / "reviews.csv"
    nouns = ["film", "cat", "dog", "world", "time"]
    lines = ["text,label,lang"]
    for i in range(40):
        word, label = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))[i % 4]
        extra = " ".join(WORDS[(i * 7 + k) % 20] for k in range(i % 5))
        lines.append(f"the {nouns[i % 5]} was {word} {extra},{label},{'en' if i % 3 else 'xx'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tiny_recipe(reviews: Path) -> dict[str, object]:
    """A recipe that trains a tiny encoder on the reviews in a second."""
    return {
        "encoder": {
            "shape": "tiny",
            "style": "classic",  # with its dropout
            "tokenizer": {"vocab_size": 120, "min_frequency": 1},
        },
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(reviews),
                "valid": 0.2,
                "test": 0.2,
                "tags": {"language": {"column": "lang"}},
            },
            "words": {"kind": "mlm", "train": str(reviews), "valid": 0.2},
        },
        "train": {"steps": 6, "batch_tokens": 120, "learning_rate": 1e-3},
    }


def tiny_config(style: str, **changes: object) -> EncoderConfig:
    """A few layers of a few dimensions."""
    shape: dict[str, object] = {
        "vocab_size": 64,
        "hidden_size": 16,
        "num_layers": 3,
        "num_heads": 2,
        "intermediate_size": 24,
        "max_positions": 64,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return EncoderConfig(**(shape | CONFIGS[style] | changes))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium; tests that need it are skipped, and say so, where there is none."""
    chromium = which("chromium") or which("chromium-browser")
    if chromium is None or find_spec("playwright") is None:
        pytest.skip(
            "NOT TESTED IN A BROWSER: needs the package playwright and the system's chromium "
            "(`make test` installs both where it is root on Debian)"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def typed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run `unmask` in a folder, in a process of its own, as somebody types it."""
    said = tmp_path_factory.mktemp("said")

    def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        out, err = said / "out", said / "err"
        for path in (out, err):
            path.write_text("")
        names = {
            "folder": str(folder),
            "environment": dict(os.environ),
            "out": str(out),
            "err": str(err),
            "words": [str(word) for word in words],
        }
        process = SERVER.Process(target=exec, args=(COMMAND, names))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"unmask {' '.join(names['words'])}: still running after 120 s")
        found = [path.read_text(encoding="utf-8") for path in (out, err)]
        return subprocess.CompletedProcess(names["words"], process.exitcode, *found)

    return run
