"""Every folder that cannot be trusted or is not what it says: one clear line, and nothing run."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask.errors import UserError
from unmask.interop import read_checkpoint, write_checkpoint

TABLE = "bert.embeddings.word_embeddings.weight"


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | changes))

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        weights = load_file(path / "model.safetensors")
        change(weights)
        save_file(weights, path / "model.safetensors")

    return apply


def _shard(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "model.safetensors").rename(path.parent / "outside.safetensors")
        index = {"weight_map": {TABLE: name.format(path.parent)}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def _link(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).rename(path.parent / "outside")
        (path / name).symlink_to(path.parent / "outside")

    return change


def _remove(*names: str) -> Callable[[Path], None]:
    return lambda path: [(path / name).unlink(missing_ok=True) for name in names]  # type: ignore


def _only_pickle(path: Path) -> None:
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def _cut(path: Path) -> None:
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:-100])


def _empty(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def _long_header(path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    header = header.ljust(9 * 2**20)
    data = struct.pack("<Q", len(header)) + header + b"\0\0\0\0"
    (path / "model.safetensors").write_bytes(data)


def _many(path: Path) -> None:
    save_file({f"x{n}": torch.zeros(1) for n in range(20_001)}, path / "model.safetensors")


def _big_tokenizer(path: Path) -> None:
    with (path / "tokenizer.json").open("wb") as file:
        file.truncate(101 * 2**20)


def _spoil(weights: dict[str, torch.Tensor]) -> None:
    weights[TABLE][3, 3] = torch.inf


def _broken_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").write_text("{}")


def _settings(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        settings = json.loads((path / "tokenizer_config.json").read_text())
        (path / "tokenizer_config.json").write_text(json.dumps(settings | changes))

    return change


LAYER = "bert.encoder.layer.1.attention.self.key.weight"
CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (_remove("model.safetensors"), "has no model.safetensors"),
    "no config": (_remove("config.json"), "config.json is missing"),
    "no tokenizer": (_remove("tokenizer.json"), "neither tokenizer.json nor vocab.txt"),
    "pickle": (_only_pickle, "pytorch_model.bin, a pickle, .* never opened; convert it"),
    "cut": (_cut, "model.safetensors is broken or cut short"),
    "empty": (_empty, "model.safetensors is broken or cut short"),
    "long header": (_long_header, "header of 9 MB, over the limit of 8 MB"),
    "many tensors": (_many, "holds 20001 tensors, over the limit of 20000"),
    "big tokenizer": (_big_tokenizer, "101 MB, over the limit of 100 MB"),
    "broken tokenizer": (_broken_tokenizer, "is not a tokenizer"),
    "settings": (_settings(do_lower_case="x"), "tokenizer_config.json cannot be right: do_lower"),
    "token types": (
        _settings(model_input_names=["input_ids"]),
        "second text of a pair token type 1",
    ),
    "own code": (_config(auto_map={"AutoModel": "code.Model"}), "asks for code of its own"),
    "unknown family": (_config(model_type="gpt2"), "model_type 'gpt2'; unmask reads bert, "),
    "unknown class": (
        _config(architectures=["BertForMultipleChoice"]),
        "architecture is BertForMultiple",
    ),
    "odd class": (_config(architectures={"a": 1}), "config.json lacks 0"),
    "decoder": (_config(is_decoder=True), "is_decoder is True and unmask reads only False"),
    "relative": (_config(position_embedding_type="relative_key"), "reads only 'absolute'"),
    "activation": (_config(hidden_act="mish"), "activation 'mish' is none of those"),
    "heads": (_config(num_attention_heads=5), "config.json cannot be right: .*multiple of num_h"),
    "no number": (_config(hidden_size="wide"), "config.json cannot be right: hidden_size"),
    "null": (_config(type_vocab_size=None), "setting of the wrong kind"),
    "labels": (_config(id2label={"0": "a", "2": "b"}), "id2label does not give the numbers"),
    "layers": (_config(num_hidden_layers=10**9), "too few weights for 1000000000 layers"),
    "more layers": (_config(num_hidden_layers=5), "lacks the weight bert.encoder.layer.4."),
    "fewer layers": (_config(num_hidden_layers=3), "has a weight bert.encoder.layer.3."),
    "shape": (_config(intermediate_size=50), r"intermediate.* has the shape \(48.* have \(50"),
    "small vocabulary": (_config(vocab_size=20), "ids up to .* vocab_size in config.json is 20"),
    "lost key": (_weights(lambda w: w.pop(LAYER)), f"lacks the weight {LAYER}"),
    "lost head": (_weights(lambda w: w.pop("classifier.bias")), "lacks the weight classifier.bias"),
    "strange key": (_weights(lambda w: w.update(x=torch.zeros(1))), "has a weight x that"),
    "infinite": (_weights(_spoil), "holds NaN or infinity"),
    "whole numbers": (
        _weights(lambda w: w.update({TABLE: w[TABLE].to(torch.int8)})),
        "is torch.int8; save it as float32",
    ),
    "shard above": (_shard("../outside.safetensors"), "leads out of the folder"),
    "shard absolute": (_shard("{}/outside.safetensors"), "leads out of the folder"),
    "shard missing": (_shard("none.safetensors"), "none.safetensors is missing"),
    "linked weights": (_link("model.safetensors"), "leads out of the folder"),
    "linked config": (_link("config.json"), "leads out of the folder"),
    "linked tokenizer": (_link("tokenizer.json"), "leads out of the folder"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, make: Any) -> None:
    path = make("bert", "classify").path
    change, said = CASES[case]
    change(path)
    with pytest.raises(UserError, match=said) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"] * 2}, "layer_types"),
        ({"layer_types": None, "global_attn_every_n_layers": 0}, "config.json cannot be right"),
        ({"norm_bias": True}, "differ and unmask reads only one value"),
        ({"decoder_bias": False}, "decoder_bias is False and unmask reads only True"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling is"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type is 'yarn'"),
    ],
)
def test_refused_of_modernbert(changes: dict[str, Any], said: str, make: Any) -> None:
    path = make("modernbert").path
    _config(**changes)(path)
    with pytest.raises(UserError, match=said):
        read_checkpoint(path)


def test_untied_output_matrix(make: Any) -> None:
    path = make("bert", "mlm").path
    rows = load_file(path / "model.safetensors")[TABLE]
    _weights(lambda w: w.update({"cls.predictions.decoder.weight": rows + 1}))(path)
    with pytest.raises(UserError, match=r"decoder.weight .* differs from bert.embeddings"):
        read_checkpoint(path)


def test_not_a_word_piece_list(make: Any) -> None:
    path = make("bert").path
    (path / "tokenizer.json").unlink()
    (path / "vocab.txt").write_text("just\nsome\nwords\n")
    with pytest.raises(UserError, match="lacks one of"):
        read_checkpoint(path)
    (path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_checkpoint(path)


def test_write_refusals(make: Any, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make("bert", "classify").path)
    out = tmp_path / "out"
    with pytest.raises(UserError, match="'gpt2' is none of the families"):
        write_checkpoint(checkpoint, out, "gpt2")
    with pytest.raises(UserError, match=r"written as modernbert, .* pre_norm False \(there True\)"):
        write_checkpoint(checkpoint, out, "modernbert")
    head = checkpoint.head_configs["classify"]
    checkpoint.head_configs["classify"] = head.model_copy(update={"pooling": "mean"})
    with pytest.raises(UserError, match="no place for its classify head's pooling 'mean'"):
        write_checkpoint(checkpoint, out)
    checkpoint.head_configs["classify"] = head
    other = read_checkpoint(make("bert", "mlm").path)
    checkpoint.heads |= other.heads
    with pytest.raises(UserError, match="holds one head and this model has classify, mlm"):
        write_checkpoint(checkpoint, out)
    assert not out.exists()


def test_positions_counted_from_the_padding_token(make: Any, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make("roberta").path)
    checkpoint.text = read_checkpoint(make("bert").path).text
    with pytest.raises(UserError, match="must be 1, and is 0 in this tokenizer"):
        write_checkpoint(checkpoint, tmp_path / "out")
