"""Every format gives the rows that stand in it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unmask.data import sources
from unmask.data.sources import Rows, Source, read
from unmask.errors import UserError


def rows_of(path: Path | str | list[str], **options: Any) -> list[dict[str, Any]]:
    given_path = str(path) if isinstance(path, Path) else path
    return list(read(Source(path=given_path, **options)))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_values_stay_the_texts_they_are(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv", '\ufefftext,label\r\nNA,007\r\n\r\n"a, ""b""\nc",null\r\n,1\r\n'
    )
    assert rows_of(file) == [
        {"text": "NA", "label": "007"},
        {"text": 'a, "b"\nc', "label": "null"},
        {"text": "", "label": "1"},
    ]


def test_rows_are_chosen_by_the_values_of_columns(tmp_path: Path) -> None:
    for domain, lang in (("films", "de"), ("films", "en"), ("tweets", "de")):
        write(tmp_path / domain / f"{lang}.jsonl", '{"n": 1}\n')
    path = f"{tmp_path}/{{domain}}/{{language}}.jsonl"

    def found(**options: Any) -> list[tuple[str, str]]:
        return [(r["topic"], r["language"]) for r in rows_of(path, **renamed, **options)]

    renamed = {"columns": {"topic": "domain"}}
    every = [("films", "de"), ("films", "en"), ("tweets", "de")]
    assert found() == every
    assert found(only={"topic": "films"}) == every[:2]
    assert found(only={"topic": "films", "language": ["de", "fr"]}) == every[:1]
    assert found(without={"topic": "tweets", "language": "en"}) == every[:1]
    assert found(only={"language": "de"}, limit=1) == every[:1]
    assert found(only={"language": "de"}, without={"topic": "films"}, limit=1) == every[2:]
    rows = read(Source(path=path, **renamed, without={"topic": "films"}))
    assert list(rows.ids) == [2]  # its place in the source


def test_values_are_compared_as_texts(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"n": 1, "y": true}\n{"n": 2}\n{"n": null, "y": false}\n')
    assert [row["n"] for row in rows_of(file, only={"n": ["1", 2]})] == [1, 2]
    assert [row["n"] for row in rows_of(file, only={"y": True})] == [1]
    assert [row["n"] for row in rows_of(file, only={"y": ""})] == [2]
    table = write(tmp_path / "a.csv", "y,n\ntrue,1\nTrue,2\nfalse,3\n")
    assert [row["n"] for row in rows_of(table, only={"y": True})] == ["1", "2"]
    parquet.write_table(pa.table({"year": [1999.0, 2000.5]}), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet", without={"year": 1999}) == [{"year": 2000.5}]
    assert [row["n"] for row in rows_of(file, without={"n": ""})] == [1, 2]


def test_a_value_that_no_row_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "a.csv", "n,lang\n1,no\n2,sv\n")
    assert len(rows_of(file, without={"lang": [False, "sv"]})) == 1
    assert "a.csv: no row has False in column 'lang', by which some are chosen" in caplog.text
    assert "'sv'" not in caplog.text


def test_what_is_kept_on_disk_serves_every_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    file = write(tmp_path / "a.csv", "n,side\n1,left\n2,right\n3,left\n")
    for side, numbers in (("left", ["1", "3"]), ("right", ["2"])):
        assert [row["n"] for row in rows_of(file, only={"side": side})] == numbers
        assert [row["n"] for row in rows_of(file, only={"side": side}, limit=1)] == numbers[:1]
    assert len(list((tmp_path / "cache" / "unmask").iterdir())) == 1


def test_csv_takes_a_whole_document_in_a_cell(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert len(rows_of(file)[0]["text"]) == 200_000


def test_tsv(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", "text\tlabel\nyes, sir\t1\n")
    assert rows_of(file) == [{"text": "yes, sir", "label": "1"}]


def test_text_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeffone \r\n\r\n \t\n我是\u2028程序员\nlast")
    assert rows_of(file) == [{"text": "one "}, {"text": "我是\u2028程序员"}, {"text": "last"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonl.gz"])
def test_json_lines_keep_their_types(tmp_path: Path, suffix: str) -> None:
    content = b'{"text": "a", "n": 1}\n\n{"text": "b", "tags": [{"k": "v"}], "n": 2.5}\n'
    file = write(tmp_path / f"a{suffix}", gzip.compress(content) if "gz" in suffix else content)
    assert rows_of(file) == [
        {"text": "a", "n": 1.0, "tags": None},
        {"text": "b", "n": 2.5, "tags": [{"k": "v"}]},
    ]


def test_a_column_that_appears_late(tmp_path: Path) -> None:
    lines = ['{"a": null, "s": {"x": 1}}'] * 5000 + ['{"a": "word", "b": 1, "s": {"y": "z"}}']
    rows = rows_of(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert rows[0] == {"a": None, "s": {"x": 1, "y": None}, "b": None}
    assert rows[-1] == {"a": "word", "s": {"x": None, "y": "z"}, "b": 1}


def test_json_documents(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    assert rows_of(write(tmp_path / "a.json", json.dumps(rows))) == rows
    assert rows_of(write(tmp_path / "b.json", json.dumps({"data": rows})), field="data") == rows
    assert rows_of(write(tmp_path / "c.json", '["a", "b"]')) == [{"text": "a"}, {"text": "b"}]


def test_squad(tmp_path: Path) -> None:
    """Versions 1 and 2 of the layout: nested by article and paragraph, a row a question."""
    asked = [
        {"id": "q1", "question": "who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"id": 2, "question": "when?", "is_impossible": True, "plausible_answers": [{}]},
    ]
    paragraphs = [{"context": "Ann sleeps.", "qas": asked}, {"context": "", "qas": []}]
    document = {"version": "v2.0", "data": [{"title": "Cats", "paragraphs": paragraphs}]}
    file = write(tmp_path / "dev-v2.0.json", json.dumps(document))
    common = {"title": "Cats", "context": "Ann sleeps."}
    assert rows_of(file) == [
        {"id": "q1", **common, "question": "who?", "answers": [{"text": "Ann", "start": 0}]},
        {"id": "2", **common, "question": "when?", "answers": []},
    ]
    del asked[0]["question"]
    said = r"dev-v2.0.json is laid out as SQuAD's .*article 1, paragraph 1, question 1 lacks 'quest"
    with pytest.raises(UserError, match=said):
        rows_of(write(file, json.dumps(document)))
    document["data"].append({"title": "Dogs"})
    asked[0] = asked[1]
    with pytest.raises(UserError, match="but article 2 lacks 'paragraphs'"):
        rows_of(write(file, json.dumps(document)))


def test_yaml_texts_at_any_depth_as_they_are_written(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yml",
        "categories: [x]\nconversations:\n- - yes\n  - 1999\n  - [true, ' deep ']\n- 007\n- ''\n",
    )
    texts = [row["text"] for row in rows_of(file, field="conversations")]
    assert texts == ["yes", "1999", "true", " deep ", "007"]


def test_yaml_rows_and_no_objects(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "- {text: hi, label: no}\n- text: !!python/name:os.system x\n"
    )
    assert rows_of(file) == [{"text": "hi", "label": "no"}, {"text": "x", "label": None}]


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "raw": [b"\xff", None], "spans": [[{"s": 1}], []]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == table.to_pylist()


def test_categories_and_classes_become_their_names(tmp_path: Path) -> None:
    classes = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    features = {"label": classes, "tags": {"feature": classes, "_type": "List"}}
    table = pa.table(
        {
            "topic": pa.array(["x", None, "x"]).dictionary_encode(),
            "label": [1, -1, 0],
            "tags": [[0, 1], None, []],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == [
        {"topic": "x", "label": "pos", "tags": ["neg", "pos"]},
        {"topic": None, "label": None, "tags": None},
        {"topic": "x", "label": "neg", "tags": []},
    ]


def test_columns_are_renamed_and_the_recipe_wins(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,sentence,label\nold,new,1\n")
    assert rows_of(file, columns={"text": "sentence"}) == [{"label": "1", "text": "new"}]
    swapped = rows_of(file, columns={"text": "sentence", "sentence": "text"})
    assert swapped == [{"label": "1", "text": "new", "sentence": "old"}]


def test_files_of_different_formats_are_laid_together(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "one\n")
    write(tmp_path / "b.jsonl", '{"text": "two", "label": 3}\n')
    rows = rows_of([str(tmp_path / "b.jsonl"), str(tmp_path / "*.*")])
    assert rows == [{"text": "two", "label": 3}, {"text": "one", "label": None}]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n' * 4096 + "broken")
    assert len(rows_of(file, limit=3)) == 3


def test_rows_are_a_sequence_with_ids(tmp_path: Path) -> None:
    rows = read(Source(path=str(write(tmp_path / "in" / "a.txt", "a\nb\nc\n"))))
    assert rows.origin == "in/a.txt"
    assert rows.column_names == ["text"]
    part = rows[1:]
    assert [row["text"] for row in part] == ["b", "c"]
    assert rows[-1] == {"text": "c"}
    assert part.ids.tolist() == [1, 2]
    with pytest.raises(IndexError):
        rows[3]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_any_text_survives_json_lines_and_parquet(tmp_path: Path, texts: list[str]) -> None:
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    wanted = [{"text": text} for text in texts]
    assert rows_of(write(tmp_path / "a.jsonl", lines)) == wanted
    assert rows_of(tmp_path / "a.parquet") == wanted


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every source counts as too large for memory; the folder of its Arrow files."""
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "unmask"


def test_large_sources_are_mapped_from_one_file(tmp_path: Path, mapped: Path) -> None:
    lines = ['{"a": 1}'] * 5000 + ['{"a": 2.5, "b": "x"}']
    file = write(tmp_path / "a.jsonl", "\n".join(lines))
    rows = read(Source(path=str(file)))
    assert (rows[0], rows[5000]) == ({"a": 1.0, "b": None}, {"a": 2.5, "b": "x"})
    written = [(path, path.stat().st_mtime_ns) for path in mapped.iterdir()]
    assert len(rows_of(file)) == 5001
    assert [(path, path.stat().st_mtime_ns) for path in mapped.iterdir()] == written
    sent = pickle.dumps(rows[4999:])
    copy: Rows = pickle.loads(sent)
    assert len(sent) < 1000
    assert list(copy) == list(rows[4999:])


def test_a_rewritten_file_is_never_stale(tmp_path: Path, mapped: Path) -> None:
    file = write(tmp_path / "a.csv", "text\nold\n")
    times = file.stat()
    assert rows_of(file) == [{"text": "old"}]
    time.sleep(0.05)  # the system's clock for files is coarse
    file.write_text("text\nnew\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert rows_of(file) == [{"text": "new"}]
    assert len(list(mapped.iterdir())) == 1
