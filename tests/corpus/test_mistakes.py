"""What can be wrong with sources, disks and corpora: each is one clear line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from unmask.cli.app import app
from unmask.cli.corpus import size
from unmask.corpus.build import build
from unmask.corpus.work import BAND, opened, save_array
from unmask.data.corpus import CorpusRows
from unmask.data.sources import read
from unmask.errors import UserError
from unmask.recipe import Source


def refused(said: str, *given: Any, **named: Any) -> None:
    with pytest.raises(UserError, match=said) as caught:
        build(*given, **named)
    assert "\n" not in str(caught.value)


def test_texts_that_are_none_are_dropped_and_counted(tmp_path: Path, tokenizer: Path) -> None:
    rows = [
        {"text": text}
        for text in (
            "one film\r\nwas good\rand bad",
            "\x00\x01\x02\x03",
            " ",
            None,
            "it is \x07 very very good",
        )
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {"sources": str(tmp_path / "a.jsonl"), "tokenizer": str(tokenizer), "held_out": 0}
    recipe["sources"] = [recipe["sources"]]
    found = build(recipe, tmp_path / "corpus", workers=1)["total"]
    assert found["dropped"] == {"missing": 1, "empty": 1, "binary": 1}
    assert found["removed"] == 1
    assert found["train"]["documents"] == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"fine\nna\xefve\n", r"a\.txt, line 2 is not UTF-8; save it as UTF-8"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', r"a\.jsonl, line 2 is not JSON"),
        ("a.csv", b"", r"a\.csv is empty"),
        ("a.csv", b"name\nx\n", r"has no column 'text'"),
        ("a.jsonl", b'{"text": 5}\n', r"column 'text' holds int64 and no text"),
        ("a.txt", b"\x01\x02\x03\n", r"no document of the sources is left \(binary: over a tenth"),
        ("a.csv", b"text\n", r"no document of the sources is left \(they have no rows\)"),
        ("a.doc", b"x", r"\.doc is no known format"),
    ],
)
def test_files_that_cannot_be_read(
    name: str, content: bytes, said: str, tmp_path: Path, tokenizer: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    recipe = {"sources": [str(tmp_path / name)], "tokenizer": str(tokenizer)}
    refused(said, recipe, tmp_path / "corpus", workers=1)
    assert not (tmp_path / "corpus").exists()
    assert not [*tmp_path.rglob(".*.arrow.*"), *tmp_path.rglob(".*.npy.*")]


def test_rows_of_json_may_lack_a_column(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"body": f"film {i}", **({"language": "en"} if i < 4096 else {})} for i in range(4100)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))  # more than a batch
    tags = {"language": {"column": "tongue"}}
    columns = {"tongue": "language", "text": "body"}
    source = {"path": str(tmp_path / "a.jsonl"), "columns": columns, "tags": tags}
    recipe = {"sources": [source], "tokenizer": str(tokenizer), "near": None}
    found = build(recipe, tmp_path / "corpus", workers=1)
    assert {name: group["read"] for name, group in found["groups"].items()} == {
        "all": 4,
        "en": 4096,
    }
    source["columns"] = {"tongue": "langauge", "text": "body"}
    refused("no column 'langauge'; did you mean 'language'", recipe, tmp_path / "two", workers=1)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["en", ""], None),
        (["en US", "en_US"], r"en US.*en_US.*both make the part 'en_US': rename one"),
        (
            ["en", "x" * 200],
            r"a\.jsonl: column 'tag' holds 'xxx.*does `tags` name the right column",
        ),
    ],
)
def test_tags_that_make_no_part(
    tags: list[str], said: str | None, tmp_path: Path, tokenizer: Path
) -> None:
    rows = [{"text": f"film {i}", "tag": tag} for i, tag in enumerate(tags)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.txt").write_text("good\n")  # with no tag at all
    source = {"path": str(tmp_path / "a.jsonl"), "tags": {"language": {"column": "tag"}}}
    recipe = {"sources": [source, str(tmp_path / "b.txt")], "tokenizer": str(tokenizer)}
    if said:
        refused(said, recipe, tmp_path / "corpus", workers=1)
    else:
        assert [*build(recipe, tmp_path / "corpus", workers=1)["groups"]] == ["all", "en"]


def test_a_file_that_is_mended_and_the_same_command(
    recipe: dict[str, Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, out = tmp_path / "b.jsonl", tmp_path / "again"
    monkeypatch.setattr("unmask.corpus.reading.BLOCK_DOCUMENTS", 16)
    whole = broken.read_text()
    broken.write_text(whole.replace("the", "a") + '{"body"\n')
    refused(r"b\.jsonl, line 41 is not JSON", recipe, out, workers=1)
    first = tmp_path / "again.work" / "read" / "00000.json"
    read = first.stat().st_ino
    broken.write_text(whole)
    monkeypatch.setattr("unmask.corpus.build._finish", lambda *_: first.stat().st_ino)
    assert build(recipe, out, workers=1) == read  # what was read is not read again
    monkeypatch.undo()
    build(recipe, out, workers=1)
    figures = "statistics.json"  # of the very documents that are built from the whole file
    assert (out / figures).read_bytes() == (corpus / figures).read_bytes()


def test_a_recipe_that_is_mended_before_anything_was_read(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["sources"] = recipe["sources"][1:]
    mistaken = {**recipe, "sources": [{**recipe["sources"][0], "text": "bdy"}]}
    refused("no column 'bdy'; did you mean 'body'", mistaken, tmp_path / "corpus", workers=1)
    assert build(recipe, tmp_path / "corpus", workers=1)["total"]["read"] == 40


@pytest.mark.parametrize("name", ["blocks/00000-000000.arrow", "sketch/00000-000000.bands.npy"])
def test_work_under_way_that_something_changed(
    name: str, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("unmask.corpus.build.match_part", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(recipe, tmp_path / "corpus", workers=1)
    path = tmp_path / "corpus.work" / name
    path.write_bytes(path.read_bytes()[:200])
    said = rf"{path.name} is not as the build wrote it .*: remove .*corpus\.work, and the same"
    refused(said, recipe, tmp_path / "corpus", workers=1)
    shutil.rmtree(tmp_path / "corpus.work")
    assert build(recipe, tmp_path / "corpus", workers=1)["total"]["read"] == 160


def test_folders_that_are_not_ours_stay(recipe: dict[str, Any], tmp_path: Path) -> None:
    for name in ("mine", "corpus.work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter.txt").write_text("dear")
    refused("is no corpus: choose another", recipe, tmp_path / "mine", workers=1, overwrite=True)
    refused(r"it holds 'letter\.txt': move that", recipe, tmp_path / "corpus", workers=1)
    assert (tmp_path / "mine" / "letter.txt").exists()
    assert [path.name for path in (tmp_path / "corpus.work").iterdir()] == ["letter.txt"]


def test_a_source_that_vanishes(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone.txt").write_text("good\n")
    recipe["sources"].append(str(tmp_path / "gone.txt"))
    read = "unmask.corpus.build.opened"
    monkeypatch.setattr(read, lambda f: (tmp_path / "gone.txt").unlink() or opened(f))
    refused(r"gone\.txt has changed since the build began", recipe, tmp_path / "out", workers=1)


def test_a_column_of_bytes_is_no_text(tmp_path: Path, tokenizer: Path) -> None:
    parquet.write_table(pa.table({"text": [b"\xff\xd8"]}), tmp_path / "a.parquet")
    recipe = {"sources": [str(tmp_path / "a.parquet")], "tokenizer": str(tokenizer)}
    refused("column 'text' holds binary and no text", recipe, tmp_path / "corpus", workers=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sources": []}, r"recipe: `sources`: .*at least 1"),
        ({"near": 0.2}, r"`near`: .*greater than or equal to 0\.5"),
        ({"held_out": 1}, r"`held_out`: .*less than 1"),
        ({"tokenizer": "nowhere"}, r"`tokenizer`: nowhere is not a tokenizer"),
        ({"sources": ["nowhere/*.txt"]}, r"no file matches nowhere/\*\.txt"),
        ({"sources": [{"path": []}]}, "empty list of paths; name a file"),
        ({"tokeniser": "x"}, r"`tokeniser` is unknown; did you mean `tokenizer`\?"),
    ],
)
def test_mistakes_in_the_recipe(
    change: dict[str, Any], said: str, recipe: dict[str, Any], tmp_path: Path
) -> None:
    refused(said, {**recipe, **change}, tmp_path / "corpus")


def test_too_little_memory(recipe: dict[str, Any], tmp_path: Path) -> None:
    refused("memory of 100 MB is too little", recipe, tmp_path / "corpus", memory=100 << 20)
    assert (size("512MB"), size("1.5 GiB"), size("2gb")) == (512 << 20, 3 << 29, 2 << 30)
    with pytest.raises(UserError, match="no size of memory"):
        size("much")


def test_a_full_disk(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(12))

    def full(handle: int) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(
            r"could not write .*No space left on device", recipe, tmp_path / "corpus", workers=1
        )
    assert not (tmp_path / "corpus").exists()
    assert build(recipe, tmp_path / "corpus", workers=1)["total"]["read"] == 160


def test_an_array_on_a_full_disk(tmp_path: Path) -> None:
    array = np.zeros((3, 5), dtype=BAND)
    save_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # Python ignores the signal
    try:
        with pytest.raises(UserError, match=r"could not write .*c\.npy: File too large"):
            save_array(tmp_path / "c.npy", np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_what_is_there_is_not_lost(recipe: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    before = (corpus / "corpus.json").read_bytes()
    refused(r"is there already: .*--overwrite", recipe, corpus, workers=1)
    assert (corpus / "corpus.json").read_bytes() == before
    build(recipe, corpus, ["held_out=0.5"], workers=1, overwrite=True)
    assert (corpus / "corpus.json").read_bytes() != before
    assert not corpus.with_name("corpus.work").exists()


def test_a_build_goes_on_with_what_it_began_with(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr("unmask.corpus.build._finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(recipe, out, workers=1)
    refused(r"was begun with another recipe.*--overwrite", recipe, out, ["seed=1"], workers=1)
    with (tmp_path / "corpus.work" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused("another process is building", recipe, out, workers=1)
    with Path(recipe["sources"][0]["path"]).open("a") as file:
        file.write("one more\n")
    refused("was begun with .*other files", recipe, out, workers=1)
    found = build(recipe, out, workers=1, overwrite=True)
    assert found["total"]["read"] == 161


def test_a_shard_that_is_not_what_was_built_is_named(corpus: Path) -> None:
    path = next(corpus.glob("train-en.films-*.ids.npy"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=rf"{path.name} has \d+ bytes, where \d+ are due"):
        CorpusRows(corpus)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    rows = CorpusRows(corpus, "train", "en.films")
    with pytest.raises(UserError, match=rf"{path.name} is not the file that was built"):
        rows[0]
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} is missing"):
        CorpusRows(corpus)
    assert len(CorpusRows(corpus, "valid"))  # the others can still be read


def test_a_tokenizer_or_a_manifest_that_was_changed(corpus: Path) -> None:
    path = corpus / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(UserError, match=r"tokenizer\.json is not the file that was built"):
        CorpusRows(corpus)[0]
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json is missing: restore the file"):
        CorpusRows(corpus)
    (corpus / "corpus.json").write_text('{"layout": 99}')
    with pytest.raises(UserError, match="has layout 99, and this version reads 1"):
        CorpusRows(corpus)
    for content in ("[]", '{"layout": 1}', '{"layout": 1, "groups": {}, "shards": [{}]}'):
        (corpus / "corpus.json").write_text(content)
        with pytest.raises(UserError, match=r"corpus\.json is not the file that was built"):
            CorpusRows(corpus)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"split": "dev"}, "no split 'dev'; it has train and valid"),
        ({"name": "fr"}, r"has no part 'fr'; it has de\.news, en\.films, en\.news"),
        ({"field": "x"}, "takes no `field`"),
        ({"columns": {"text": "body"}}, "leave `columns` out"),
        ({"path": ["{corpus}", "a.txt"]}, "is a built corpus, .* as the one path of its source"),
    ],
)
def test_sources_that_ask_a_corpus_for_what_it_lacks(
    source: dict[str, Any], said: str, corpus: Path
) -> None:
    path = [one.format(corpus=corpus) for one in source.pop("path", [])] or str(corpus)
    with pytest.raises(UserError, match=said):
        read(Source(path=path, **source))


def test_rows_of_a_corpus_are_rows(corpus: Path) -> None:
    rows = read(Source(path=str(corpus), limit=5))
    assert (len(rows), rows.column_names) == (5, ["text", "language", "domain"])
    whole = CorpusRows(corpus)
    picked = whole.pick(np.array([3, 1]))
    for ours, i in ((rows[2], 2), (picked[0], 3), (whole[1:9][4], 5)):
        np.testing.assert_array_equal(ours["text"].ids, whole[i]["text"].ids)
    again, arguments = picked.__reduce__()
    np.testing.assert_array_equal(again(*arguments)[1]["text"].ids, whole[1]["text"].ids)


def test_the_command(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "corpus.yaml").write_text(json.dumps(recipe))
    command = ["corpus", "build", str(tmp_path / "corpus.yaml"), "--workers", "1"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert "en.films" in done.output
    assert "statistics.html" in done.output
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "two"), "--json", "seed=1"])
    assert json.loads(done.stdout) == json.loads((tmp_path / "two/statistics.json").read_text())
