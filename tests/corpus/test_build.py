"""Building a corpus: what is in it, and that it is the same however it was built."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unmask.corpus import matching
from unmask.corpus.build import build
from unmask.data.corpus import CorpusRows
from unmask.data.duplicates import fold
from unmask.data.sources import Source, read
from unmask.data.splits import split_rows
from unmask.engines import engine
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import wordpiece
from unmask.tasks import OPTIONS

HERE = Path(__file__).parent


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def ids(folder: Path, split: str = "train", group: str | None = None) -> list[list[int]]:
    rows = CorpusRows(folder, split, group)
    return [rows[i]["text"].ids.tolist() for i in range(len(rows))]


def lines(recipe: dict[str, Any]) -> list[str]:
    return Path(recipe["sources"][0]["path"]).read_text(encoding="utf-8").splitlines()


def bodies(recipe: dict[str, Any]) -> list[dict[str, str]]:
    path = Path(recipe["sources"][1]["path"])
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_documents_are_chosen_by_their_columns(
    recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe["sources"][1] |= {"without": {"language": "en"}, "limit": 20}
    build(recipe, tmp_path / "german", workers=1)
    rows = [row for split in ("train", "valid") for row in CorpusRows(tmp_path / "german", split)]
    of_news = [row for row in rows if row["domain"] == "news"]
    assert {row["language"] for row in of_news} == {"de"}
    assert len(of_news) == 20
    assert "gives no document" not in caplog.text
    recipe["sources"][1]["only"] = {"language": "fr"}
    build(recipe, tmp_path / "none", workers=1)
    assert "`sources.1` (" in caplog.text
    assert "b.jsonl) gives no document" in caplog.text
    source = Source(path=str(tmp_path / "german"), without={"domain": "films"})
    left = read(source)
    assert isinstance(left, CorpusRows)
    assert {row["domain"] for row in left} == {"news"}
    options = OPTIONS["mlm"](kind="mlm", train=source, valid=0.1)
    splits = split_rows("words", options, 0)
    for rows in (splits.train, splits.valid):
        assert rows is not None
        assert {row["domain"] for row in rows} == {"news"}


def test_every_document_is_there_once_as_the_tokenizer_has_it(
    corpus: Path, recipe: dict[str, Any], text: TextInput
) -> None:
    wanted = [*dict.fromkeys(lines(recipe)), *(row["body"] for row in bodies(recipe))]
    text.max_length = 99
    tokens = sorted(text.encode(one).ids[1:-1].tolist() for one in wanted)
    assert sorted(ids(corpus) + ids(corpus, "valid")) == tokens
    assert 10 < len(ids(corpus, "valid")) < 50
    german = CorpusRows(corpus, "train", "de.news")
    assert {german[i]["language"] for i in range(len(german))} == {"de"}
    assert len(german) == len(ids(corpus, "train", "de.news"))


def test_words_begin_where_the_tokenizer_says(
    corpus: Path, recipe: dict[str, Any], text: TextInput
) -> None:
    text.max_length = 99
    known = {tuple(e.ids[1:-1].tolist()): e for e in map(text.encode, lines(recipe))}
    rows = CorpusRows(corpus, "train", "en.films")
    for i in range(len(rows)):
        tokens = rows[i]["text"]
        words = known[tuple(tokens.ids.tolist())].words[1:-1]
        np.testing.assert_array_equal(tokens.starts, np.diff(words, prepend=-1) != 0)


def test_the_statistics_count_what_is_there(corpus: Path, recipe: dict[str, Any]) -> None:
    found = json.loads((corpus / "statistics.json").read_text())
    films, total = found["groups"]["en.films"], found["total"]
    assert (films["read"], films["dropped"]) == (120, {"exact": 20})
    assert total["read"] == 160 == 20 + sum(total[s]["documents"] for s in ("train", "valid"))
    assert found["groups"]["de.news"]["read"] == sum(r["language"] == "de" for r in bodies(recipe))
    for split in ("train", "valid"):
        own = ids(corpus, split)
        assert total[split]["documents"] == len(own) == sum(total[split]["lengths"])
        assert total[split]["tokens"] == sum(map(len, own))
        assert total[split]["longest"] == max(map(len, own))
        assert total[split]["lengths"][4] == sum(16 <= len(one) < 32 for one in own)
    page = (corpus / "statistics.html").read_text()
    assert f"{total['train']['tokens']:,} tokens" in page
    assert "://" not in page


@pytest.mark.usefixtures("small_blocks")
def test_parts_of_the_comparing_change_nothing(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(recipe, tmp_path / "one", workers=1)
    monkeypatch.setattr(matching, "_RECORD", 1 << 20)
    monkeypatch.setattr(matching, "_PAIRS", 3)
    build(recipe, tmp_path / "two", workers=1)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert not (tmp_path / "two.work").exists()


def test_two_processes_make_what_one_makes(recipe: dict[str, Any], tmp_path: Path) -> None:
    build(recipe, tmp_path / "one", workers=1)
    build(recipe, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_process_that_is_killed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    stage = import_module("dying").die
    with (
        pytest.raises(UserError, match=r"was killed, .* same command again") as caught,
        engine("processes", 2) as run,
    ):
        list(run(stage, tmp_path, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small_blocks")
def test_a_build_that_is_killed_again_and_again(recipe: dict[str, Any], tmp_path: Path) -> None:
    build(recipe, tmp_path / "one", workers=1)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    command = [sys.executable, str(HERE / "kill_builds.py"), str(tmp_path / "recipe.json")]
    done = subprocess.run(
        [*command, str(tmp_path / "two")], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] >= 3
    assert found["kept"] >= 1
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.skipif(
    not find_spec("ray"), reason="--engine ray is NOT TESTED: ray is not installed ('unmask[ray]')"
)
def test_ray_gives_the_same_bytes(recipe: dict[str, Any], tmp_path: Path) -> None:
    build(recipe, tmp_path / "one", workers=1)
    code = (
        "import json, sys; from unmask.corpus.build import build\n"
        "build(json.load(open(sys.argv[1])), sys.argv[2], workers=1, engine='ray')"
    )
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = [str(tmp_path / "recipe.json"), str(tmp_path / "two")]
    environment = {**os.environ, "HOME": str(tmp_path)}  # where Ray keeps a token of its own
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_without_ray_the_extra_is_named(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs the extra `ray`: pip install 'unmask\[ray\]'"):
        build(recipe, tmp_path / "corpus", engine="ray")


def test_a_ray_that_does_not_start(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise RuntimeError("the node timed out.\nIts logs are elsewhere")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace())
    with pytest.raises(UserError, match=r"could not be started .*\(the node timed out\): give"):
        build(recipe, tmp_path / "corpus", workers=1, engine="ray")


def jaccard(a: str, b: str) -> float:
    sets = [{own[i : i + 5] for i in range(len(own) - 4)} for own in (fold(a), fold(b))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.usefixtures("small_blocks")
def test_near_duplicates_go_and_others_stay(
    tmp_path: Path, tokenizer: Path, make_sentence: Callable[..., str]
) -> None:
    dice = random.Random(3)
    first = [make_sentence(dice, 30) for _ in range(150)]
    near = [one.upper() + "!" for one in first[:50]]  # of a similarity over 0.95
    apart = [" ".join(one.split()[:12]) for one in first[50:100]]  # under 0.6
    assert min(jaccard(a, b) for a, b in zip(first, near, strict=False)) > 0.95
    assert max(jaccard(a, b) for a, b in zip(first[50:], apart, strict=False)) < 0.6
    documents = first + near + apart
    (tmp_path / "a.txt").write_text("\n".join(documents), encoding="utf-8")
    recipe = {"sources": [str(tmp_path / "a.txt")], "tokenizer": str(tokenizer), "held_out": 0}
    found = build(recipe, tmp_path / "near", workers=1)
    assert found["total"]["dropped"] == {"near": 50}
    assert found["total"]["train"]["documents"] == 200
    assert "valid" not in found["total"]
    found = build(recipe, tmp_path / "exact", ["near=null"], workers=1)
    assert found["total"]["dropped"] == {}


def test_what_is_held_out_stays_so_whatever_else_there_is(
    recipe: dict[str, Any], corpus: Path, tmp_path: Path, make_sentence: Callable[..., str]
) -> None:
    dice = random.Random(9)
    (tmp_path / "c.txt").write_text("\n".join(make_sentence(dice) for _ in range(90)))
    more = {**recipe, "sources": [str(tmp_path / "c.txt"), *reversed(recipe["sources"])]}
    build(more, tmp_path / "more", workers=1)
    for split in ("train", "valid"):
        ours = {tuple(one) for one in ids(corpus, split)}
        assert ours <= {tuple(one) for one in ids(tmp_path / "more", split)}


def test_nothing_is_left_of_another_build_in_the_same_process(
    recipe: dict[str, Any], corpus: Path, tmp_path: Path, text: TextInput
) -> None:
    pieces = sorted(text.tokenizer.get_vocab(), reverse=True)  # the same, with other numbers
    other = tmp_path / "other.json"
    wordpiece({piece: i for i, piece in enumerate(pieces)}, lowercase=True).save(str(other))
    before = ids(corpus)
    build(recipe, corpus, [f"tokenizer={other}"], workers=1, overwrite=True)
    assert ids(corpus) != before
    fresh = tmp_path / "fresh"  # the same recipe in a folder that no build has used
    build(recipe, fresh, [f"tokenizer={other}"], workers=1)
    assert content(corpus) == content(fresh)
