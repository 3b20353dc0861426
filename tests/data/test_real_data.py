"""The reader meets real files: those in the folder that UNMASK_DATA names, and a package's."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from unmask.data.sources import Source, hold_out, read

with_data = pytest.mark.skipif("UNMASK_DATA" not in os.environ, reason="UNMASK_DATA is not set")


@with_data
def test_labelled_sentences() -> None:
    rows = read(Source(path="${UNMASK_DATA}/sentiment/sst2/train.parquet"))
    assert rows.column_names == ["text", "label"]
    rest, held = hold_out(rows, 0.1, ["text"], 0)
    assert not {row["text"] for row in rest} & {row["text"] for row in held}
    assert abs(len(held) - len(rows) / 10) < 10


@with_data
def test_many_languages() -> None:
    rows = read(Source(path="${UNMASK_DATA}/debian/valid/{language}.parquet"))
    assert len({row["language"] for row in rows}) == 15


@pytest.mark.skipif(find_spec("chatterbot_corpus") is None, reason="chatterbot-corpus is missing")
def test_dialogues_of_a_package() -> None:
    path = "package://chatterbot_corpus/data/{language}/{topic}.yml"
    rows = read(Source(path=path, field="conversations"))
    assert len(rows) > 10_000
    assert len({row["language"] for row in rows}) > 20
    assert all(row["text"].strip() for row in rows)
