"""What a path of a recipe may hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unmask.data.paths import find
from unmask.data.sources import Source, read
from unmask.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ["en/food.txt", "en/.hidden.txt", "de/food.txt", "de/deep/er/ai.txt", "x[1].txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERE", f"{tmp_path}/")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("en/food.txt", {"en/food.txt": {}}),
        ("./*/food.txt", {"./de/food.txt": {}, "./en/food.txt": {}}),
        ("**/ai.txt", {"de/deep/er/ai.txt": {}}),
        ("de/**", {"de/deep/er/ai.txt": {}, "de/food.txt": {}}),
        ("[!e]?/food.txt", {"de/food.txt": {}}),
        ("x[1].txt", {"x[1].txt": {}}),
        (
            "{lang}/f{rest}d.txt",
            {
                "de/food.txt": {"lang": "de", "rest": "oo"},
                "en/food.txt": {"lang": "en", "rest": "oo"},
            },
        ),
        (
            "{lang}/**/{topic}.txt",
            {
                "de/deep/er/ai.txt": {"lang": "de", "topic": "ai"},
                "de/food.txt": {"lang": "de", "topic": "food"},
                "en/food.txt": {"lang": "en", "topic": "food"},
            },
        ),
        ("de/{a}/{a}r/ai.txt", {}),
        ("de/{a}eep/e{b}/ai.txt", {"de/deep/er/ai.txt": {"a": "d", "b": "r"}}),
    ],
)
def test_patterns(tree: Path, path: str, found: dict[str, dict[str, str]]) -> None:
    if found:
        assert find(path) == {Path(name): captures for name, captures in found.items()}
    else:
        with pytest.raises(UserError):
            find(path)


def test_variables_are_plain_text(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tree / "a [b] {c}*"
    odd.mkdir()
    (odd / "en.txt").write_text("x")
    monkeypatch.setenv("ODD", str(odd))
    assert find("${ODD}/{lang}.txt") == {odd / "en.txt": {"lang": "en"}}
    assert find("${HERE}/{lang}/food.txt").keys() == {tree / "de/food.txt", tree / "en/food.txt"}


def test_unset_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(UserError, match=r"needs the environment variable NOWHERE.*export NOWHERE="):
        find("${NOWHERE}/a.txt")


def test_no_match_names_the_nearest_folder(tree: Path) -> None:
    with pytest.raises(UserError) as caught:
        find("${HERE}/de/deeper/{topic}.txt")
    assert str(caught.value) == (
        "no file matches ${HERE}/de/deeper/{topic}.txt; the nearest folder that exists is "
        f"{tree}/de, which holds deep, food.txt"
    )


def test_a_capture_becomes_a_column_and_wins(tree: Path) -> None:
    (tree / "fr.csv").write_text("text,lang\nbonjour,??\n")
    assert list(read(Source(path="{lang}.csv"))) == [{"text": "bonjour", "lang": "fr"}]


def test_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "some_corpus"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "data" / "food.yml").write_text("conversations: [[hi, ho]]")
    monkeypatch.syspath_prepend(tmp_path)
    rows = read(Source(path="package://some_corpus/data/{topic}.yml", field="conversations"))
    assert list(rows) == [{"text": text, "topic": "food"} for text in ("hi", "ho")]
    assert "some_corpus" not in sys.modules
    assert rows.origin == "package://some_corpus/data/{topic}.yml"


@pytest.mark.parametrize("package", ["no_such_package", "no-such-package", "json.decoder", "math"])
def test_no_package(package: str) -> None:
    with pytest.raises(UserError, match=f"pip install {package}"):
        find(f"package://{package}/data/*.yml")
