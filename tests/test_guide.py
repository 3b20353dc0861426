"""The guide: each chapter is run as it stands, and its pictures are drawn again."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _module(path: Path) -> ModuleType:
    """A file beside this one, or a script of the guide, as a module."""
    spec = importlib.util.spec_from_file_location(f"of_the_guide_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pages = _module(Path(__file__).with_name("test_pages.py"))
GUIDE = pages.ROOT / "docs" / "guide"
CHAPTERS = sorted(GUIDE.glob("*/[0-9]*.md"))
NUMBER = re.compile(r"-?\d+\.\d+")


@pages.needs_packages
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: f"{c.parent.name}/{c.stem}")
def test_chapter_prints_what_it_shows(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pages.workplace(tmp_path)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    printed = ""
    for language, code in pages.blocks(chapter):
        if language == "python":
            printed = pages.run_python(code, names)
        elif language == "bash":
            pages.run_shell(code, folder)
        elif language == "text" and printed:
            assert pages.comparable(printed) == pages.comparable(code)
            printed = ""


def test_both_languages_have_the_same_chapters() -> None:
    names = {
        language: [c.name for c in CHAPTERS if c.parent.name == language]
        for language in ("en", "zh")
    }
    assert names["en"] == names["zh"] != []


@pages.needs_packages
def test_pictures_are_drawn_from_the_weights(tmp_path: Path) -> None:
    """The same shapes; numbers up to what another processor rounds otherwise."""
    _module(GUIDE / "draw.py").draw(tmp_path)
    kept = pages.ROOT / "docs" / "figures"
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in kept.glob("guide-*.svg")}
    for name in drawn:
        new, old = ((folder / name).read_text(encoding="utf-8") for folder in (tmp_path, kept))
        assert NUMBER.sub("0.0", new) == NUMBER.sub("0.0", old)
        numbers = ([float(n) for n in NUMBER.findall(text)] for text in (new, old))
        assert list(next(numbers)) == pytest.approx(list(next(numbers)), abs=0.06)


def test_every_picture_is_shown_in_both_languages() -> None:
    for language in ("en", "zh"):
        shown = "".join(c.read_text(encoding="utf-8") for c in (GUIDE / language).glob("*.md"))
        for picture in (pages.ROOT / "docs" / "figures").glob("guide-*.svg"):
            assert f"../../figures/{picture.name}" in shown


@pages.needs_packages
def test_notebooks_hold_the_chapters_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _module(GUIDE / "notebooks.py").write(tmp_path / "notebooks")
    monkeypatch.chdir(pages.workplace(tmp_path))
    for chapter in CHAPTERS:
        place = tmp_path / "notebooks" / chapter.parent.name / f"{chapter.stem}.ipynb"
        cells = json.loads(place.read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        wanted = [block for kind, block in pages.blocks(chapter) if kind in ("python", "bash")]
        assert [one.removeprefix("%%bash\n") for one in code] == [
            block.rstrip() for block in wanted
        ]
        assert len({cell["id"] for cell in cells}) == len(cells)
        for cell in cells:  # links lead somewhere from where the notebook stands
            words = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", words):
                assert "://" in target or (place.parent / target).exists(), target
        if chapter.stem == "01-background":
            names: dict[str, object] = {}
            printed = "".join(pages.run_python(one, names) for one in code)
            shown = [text for c in cells for out in c.get("outputs", ()) for text in out["text"]]
            assert printed == "".join(shown)
