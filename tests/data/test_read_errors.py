"""Every mistake gives one line that names the file, the line and the way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from unmask.data.sources import Source, hold_out, read, require
from unmask.errors import UserError


def message(**options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(Source(**options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_that_nothing_chooses(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,side\na,left\nb,right\n")
    path = str(tmp_path / "a.csv")
    assert "has no column 'sides'; did you mean 'side'?" in message(path=path, only={"sides": "x"})
    said = message(path=path, without={"side": ["left", "right"]})
    assert said.endswith(
        "a.csv has no row that `only` and `without` choose; in side there is 'left', 'right'"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b'text,label\na,1\n\n"b\nc",1,2\n', "a.csv, line 4: 3 cells, where .* has 2"),
        ("a.csv", b"text,label\na\n", "a.csv, line 2: 1 cells"),
        ("a.csv", b'text\nfine\n"open\nfor ever\n', "a.csv, line 3: unexpected end of data"),
        ("a.csv", b"text,text\na,b\n", "a.csv, line 1: two columns are called 'text'"),
        ("a.csv", b"text\nfine\ncaf\xe9\n", "a.csv, line 3 is not UTF-8; save it as UTF-8"),
        ("a.csv", "text\n".encode("utf-16"), "a.csv, line 1 is not UTF-8"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"text,label\n", "a.csv holds no rows"),
        ("a.txt", b"\n\n", "a.txt holds no rows"),
        ("a.txt", b"caf\xe9", "a.txt, line 1 is not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "a.jsonl, line 3 is not JSON: Expecting value"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "a.jsonl, line 2 is no JSON object"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}\n{"a": "x"}\n', "a.jsonl, line 3: 'a' is 'x', unlike"),
        ("a.jsonl", b'{"a": 1}\n{"a": 9999999999999999999999}\n', "a.jsonl, line 2: 'a' is"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000, "a.jsonl, line 1 is not JSON"),
        ("a.json", b'[{"a": 1},\n{"a" 1}]', "a.json, line 2 is not JSON: Expecting ':'"),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "a.json, line 2 .* call the file .jsonl"),
        ("a.json", b'{"data": []}', "a.json: set `field` to .*, of: data"),
        ("a.json", b"3", "a.json holds no list of rows"),
        ("a.json", b'[{"a": 1}, {"a": "x"}]', "a.json, row 2: 'a' is 'x'"),
        ("a.yml", b"a: [1\nb: 2\n", "a.yml, line 2 is not YAML"),
        ("a.yml", b"a\0b", "a.yml is not YAML"),
        ("a.yml", b"&a [*a]", "a.yml, line 1 is not YAML: .* recursive"),
        ("a.yml", b"- " * 3000 + b"x", "a.yml is"),
        ("a.json", b"[" * 90_000, "a.json is not JSON that can be read"),
        ("a.parquet", b"PAR1 and nonsense", "a.parquet is not readable Parquet"),
        ("a.parquet", b"", "a.parquet is empty"),
        ("a.jsonl.gz", b"\x1f\x8b\x08cut", "a.jsonl.gz could not be read"),
        ("a.jsonl.gz", b"plain", "a.jsonl.gz could not be read"),
        ("a.xlsx", b"x", "a.xlsx: .xlsx is no known format; known: .parquet, .txt, .csv"),
        ("rows", b"x", "rows: no suffix is no known format"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert re.search(said, message(path=str(tmp_path / name)))


def test_a_line_far_down_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "a,1\n" * 9000 + "a\n")
    assert "a.csv, line 9002: 1 cells" in message(path=str(tmp_path / "a.csv"))


def test_cut_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["word"] * 1000}), file)
    file.write_bytes(file.read_bytes()[:-100])
    assert "a.parquet is not readable Parquet" in message(path=str(file))


def test_field(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "a.json").write_text('{"rows": "x"}')
    assert "a.csv: `field` is for JSON and YAML" in message(path=str(tmp_path / "a.csv"), field="x")
    assert "holds no list of rows under 'rows'" in message(
        path=str(tmp_path / "a.json"), field="rows"
    )


def test_types_that_differ_between_files(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"label": [1]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"label": ["x"]}), tmp_path / "b.parquet")
    said = message(path=str(tmp_path / "*.parquet"))
    assert re.search(
        "b.parquet does not fit .* label has incompatible types: int64 vs string", said
    )


def test_missing_columns(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "a.csv").write_text("text,labels\na,1\n")
    rows = read(Source(path=str(folder / "a.csv")))
    require(rows, ["text", "labels"])
    with pytest.raises(UserError) as caught:
        require(rows, ["text", "label"])
    wanted = "reviews/a.csv (columns: text, labels) has no column 'label'; did you mean 'labels'?"
    assert str(caught.value) == wanted
    assert "has no column 'sentence'" in message(
        path=str(folder / "a.csv"), columns={"text": "sentence"}
    )


def test_nothing_to_hold_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same\nsame\n")
    with pytest.raises(UserError, match="fewer than two different rows in text"):
        hold_out(read(Source(path=str(tmp_path / "a.txt"))), 0.5, ["text"], 0)


def test_options_that_do_not_belong(tmp_path: Path) -> None:
    assert "`split` and `name` are for hub:// paths" in message(path="a.csv", split="train")
    assert "stands alone" in message(path=["hub://a/b", "c.csv"])
    assert "empty list" in message(path=[])
