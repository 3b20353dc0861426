"""The guide: each chapter is run as it stands, and its pictures are drawn again."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml


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
# Run as notebooks in the fast suite; the others only in `make test-slow`, since all run as pages.
QUICK = {"01-background", "04-hands-on"}
NUMBER = re.compile(r"-?\d+\.\d+")


def marked(chapter: Path) -> Any:
    """A chapter as a parameter of the test of its notebook."""
    marks = [] if chapter.stem in QUICK else [pytest.mark.slow]
    return pytest.param(chapter, id=f"{chapter.parent.name}/{chapter.stem}", marks=marks)


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


@pytest.fixture
def twenty(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that writes the table of the twenty questions."""
    monkeypatch.syspath_prepend(pages.ROOT / "bench")
    return _module(pages.ROOT / "bench" / "twenty.py")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_twenty_questions_say_what_the_kept_results_do(
    twenty: ModuleType, language: str
) -> None:
    data = yaml.safe_load(twenty.LIST.read_text(encoding="utf-8"))
    assert len(data["questions"]) == 20
    file, text = twenty.chapter(data, language)
    assert file.read_text(encoding="utf-8") == text, "run `bench/twenty.py --table`"


def test_a_new_result_changes_the_table_and_a_lost_one_is_not_measured(
    twenty: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twenty, "RESULTS", tmp_path)
    data = yaml.safe_load(twenty.LIST.read_text(encoding="utf-8"))
    (question,) = (q for q in data["questions"] if q["question"]["en"] == "Can it see?")
    assert twenty.told(question, "en") == ("not measured yet", [])
    assert twenty.told(question, "zh") == ("还没有实测", [])
    kept = {"runs": {"ours": [0.5, 0.75]}, "machine": {"date": "2027-01-02", "gpu": "an H200"}}
    (tmp_path / "pictures-digits.json").write_text(json.dumps(kept), encoding="utf-8")
    said, files = twenty.told(question, "en")
    assert "62.50 % (50.00–75.00" in said
    how = "slow H200 [2027-01-02](../../../bench/results/pictures-digits.json)"
    assert twenty.runs(files, data, "en") == how


def test_figures_are_found_and_written(
    twenty: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twenty, "RESULTS", tmp_path)
    kept = {
        "tasks": [{"task": "a", "together": {"value": 0.5, "sd": 0.01}}],
        "languages": {"cs": {"own": [1, 3]}, "en": {}, "fr": {"own": {"mean": 4}}},
    }
    (tmp_path / "one.json").write_text(json.dumps(kept), encoding="utf-8")
    (tmp_path / "two.log").write_text("seed 0: 0.25\nseed 1: 0.75\n", encoding="utf-8")
    found = twenty.figure(["one.json", "tasks", {"task": "a"}, "together"])
    assert f"{found:.1%}, {found.mean:.2f}" == "50.0 ± 1.0, 0.50"
    found = twenty.figure(["one.json", "languages", "*", "own"])
    assert f"{found.mean:,.1f} {found.least:.0f} {found.most:.0f}" == "3.0 2 4"
    assert f"{twenty.figure(['two.log', r': ([0-9.]+)']):.1f}" == "0.5 ± 0.4"
    for gone in (["three.json", "a"], ["one.json", "twins"]):
        with pytest.raises(FileNotFoundError):
            twenty.figure(gone)


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
def test_notebooks_hold_the_chapters(tmp_path: Path) -> None:
    _module(GUIDE / "notebooks.py").write(tmp_path / "notebooks")
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


@pages.needs_packages
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chapter", [marked(chapter) for chapter in CHAPTERS])
def test_a_notebook_runs(chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel of its own; its cells print what the notebook shows before it is run."""
    nbformat = pytest.importorskip("nbformat", reason="needs the package nbclient")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    _module(GUIDE / "notebooks.py").write(tmp_path / "notebooks")
    file = tmp_path / "notebooks" / chapter.parent.name / f"{chapter.stem}.ipynb"
    book = nbformat.read(file, as_version=4)
    nbformat.validate(book)
    shown = [printed(cell) for cell in book.cells if cell.cell_type == "code"]
    (tmp_path / "work").mkdir()
    where = {"metadata": {"path": str(pages.workplace(tmp_path / "work"))}}
    nbclient.NotebookClient(book, timeout=None, kernel_name="python3", resources=where).execute()
    for cell in book.cells:
        if cell.cell_type == "code":
            assert cell.execution_count
            if said := shown.pop(0):
                assert pages.comparable(printed(cell)) == pages.comparable(said)


def printed(cell: Any) -> str:
    """What a cell of a notebook wrote to its standard output."""
    return "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
