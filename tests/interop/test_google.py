"""Google's TensorFlow checkpoints: names, numbers, capitals, refusals; and TensorFlow itself."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from typer.testing import CliRunner

import unmask
from unmask.batch import Example, collate
from unmask.cli.app import app
from unmask.encoder import Encoder, preset
from unmask.errors import UserError
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.interop import Checkpoint, read_checkpoint, write_tensorflow
from unmask.interop.google import our_name, their_name
from unmask.saving import save_as

CLOSE = 1e-5
WORDS = [*SPECIAL, *"abcdefgh", *(f"##{c}" for c in "abcdefgh"), "face", "我", "是"]
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": len(WORDS),
}
ATTENTION = "bert/encoder/layer_1/attention/"
NAMES = {
    "bert.embeddings.word_embeddings.weight": "bert/embeddings/word_embeddings",
    "bert.embeddings.token_type_embeddings.weight": "bert/embeddings/token_type_embeddings",
    "bert.embeddings.LayerNorm.weight": "bert/embeddings/LayerNorm/gamma",
    "bert.encoder.layer.1.attention.self.query.weight": f"{ATTENTION}self/query/kernel",
    "bert.encoder.layer.1.attention.self.value.bias": f"{ATTENTION}self/value/bias",
    "bert.encoder.layer.1.attention.output.LayerNorm.bias": f"{ATTENTION}output/LayerNorm/beta",
    "bert.encoder.layer.11.intermediate.dense.weight": (
        "bert/encoder/layer_11/intermediate/dense/kernel"
    ),
    "bert.pooler.dense.bias": "bert/pooler/dense/bias",
    "cls.predictions.bias": "cls/predictions/output_bias",
    "cls.predictions.transform.dense.weight": "cls/predictions/transform/dense/kernel",
    "cls.predictions.transform.LayerNorm.weight": "cls/predictions/transform/LayerNorm/gamma",
    "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
    "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
}


def variables(heads: bool = True) -> dict[str, np.ndarray]:
    """Random variables with the names and shapes of google-research/bert."""
    rng = np.random.default_rng(0)
    D, F, V = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (V, D),
        "bert/embeddings/position_embeddings": (CONFIG["max_position_embeddings"], D),
        "bert/embeddings/token_type_embeddings": (2, D),
        "bert/pooler/dense/kernel": (D, D),
        "bert/pooler/dense/bias": (D,),
    }
    norms = ["bert/embeddings"]
    for layer in range(CONFIG["num_hidden_layers"]):
        own = f"bert/encoder/layer_{layer}"
        dense = {f"{own}/attention/self/{x}": (D, D) for x in ("query", "key", "value")}
        dense |= {f"{own}/attention/output/dense": (D, D), f"{own}/intermediate/dense": (D, F)}
        dense |= {f"{own}/output/dense": (F, D)}
        for name, shape in dense.items():
            shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
        norms += [f"{own}/attention/output", f"{own}/output"]
    if heads:
        shapes |= {
            "cls/predictions/output_bias": (V,),
            "cls/predictions/transform/dense/kernel": (D, D),
            "cls/predictions/transform/dense/bias": (D,),
            "cls/seq_relationship/output_weights": (2, D),
            "cls/seq_relationship/output_bias": (2,),
        }
        norms.append("cls/predictions/transform")
    shapes |= {f"{name}/LayerNorm/{x}": (D,) for name in norms for x in ("gamma", "beta")}
    found = {name: rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
    found |= {name: 1 + value for name, value in found.items() if name.endswith("gamma")}
    return {name: value.astype(np.float32) for name, value in found.items()}


def with_slots(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As training leaves it: with the optimiser's variables."""
    slots = {
        f"{name}/{x}": value * 0 + 1 for name, value in model.items() for x in ("adam_m", "adam_v")
    }
    return model | slots | {"global_step": np.array(7, dtype=np.int64)}


class Stand:
    """As much of TensorFlow as is asked for, its files of another format: for tests without it."""

    bfloat16 = "bfloat16"

    def __init__(self) -> None:
        self.train = SimpleNamespace(load_checkpoint=self.load)
        self.raw_ops = SimpleNamespace(SaveV2=self.save)

    def save(self, prefix: str, tensor_names: Any, shape_and_slices: Any, tensors: Any) -> None:
        with open(f"{prefix}.index", "wb") as file:
            np.savez(file, **dict(zip(tensor_names, tensors, strict=True)))
        data = b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors)
        Path(f"{prefix}.data-00000-of-00001").write_bytes(data)

    def load(self, prefix: str) -> Any:
        with np.load(f"{prefix}.index") as file:
            found = dict(file)
        types = {
            name: SimpleNamespace(is_floating=value.dtype.kind == "f", size=value.itemsize)
            for name, value in found.items()
        }
        return SimpleNamespace(
            get_variable_to_shape_map=lambda: {name: v.shape for name, v in found.items()},
            get_variable_to_dtype_map=lambda: types,
            get_tensor=found.__getitem__,
        )


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    found = Stand()
    monkeypatch.setitem(sys.modules, "tensorflow", found)
    return found


def folder_of(path: Path, save: Callable[..., None], found: dict[str, np.ndarray]) -> Path:
    path.mkdir()
    (path / "bert_config.json").write_text(json.dumps(CONFIG))
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    save(str(path / "bert_model.ckpt"), list(found), [""] * len(found), list(found.values()))
    return path


@pytest.fixture
def made(tmp_path: Path, stand: Stand) -> Path:
    return folder_of(tmp_path / "uncased_L-2_H-24_A-3", stand.save, with_slots(variables()))


@pytest.mark.parametrize(("ours", "theirs"), NAMES.items())
def test_names(ours: str, theirs: str) -> None:
    assert (their_name(ours), our_name(theirs)) == (theirs, ours)


def test_every_name_comes_back() -> None:
    model = transformers.BertForPreTraining(transformers.BertConfig(**CONFIG))
    ours = {key for key in model.state_dict() if ".decoder." not in key}
    assert {their_name(key) for key in ours} == set(variables())
    assert {our_name(their_name(key)) for key in ours} == ours


def test_the_numbers_are_those_of_transformers(made: Path) -> None:
    reference = transformers.BertForPreTraining(transformers.BertConfig(**CONFIG)).eval()
    state = {
        our_name(name): torch.from_numpy(np.ascontiguousarray(v.T if "kernel" in name else v))
        for name, v in variables().items()
    }
    lost = reference.load_state_dict(state, strict=False).missing_keys
    assert all(".decoder." in key for key in lost)
    reference.tie_weights()
    checkpoint = read_checkpoint(made)
    assert list(checkpoint.heads) == ["mlm"]
    extra = {"bert.pooler.dense.weight", "cls.seq_relationship.bias"}
    assert extra < checkpoint.extra.keys()
    encoded = checkpoint.text.encode("faced 我是", "a B c")
    assert encoded.tokens[1:5] == ["face", "##d", "我", "是"]
    example = Example((encoded.sequence(),), (np.arange(len(encoded.ids)),))
    with torch.no_grad():
        hidden = checkpoint.encoder(collate([example]))
        logits = checkpoint.heads["mlm"](hidden.wanted)
        truth = reference(
            torch.from_numpy(encoded.ids)[None],
            token_type_ids=torch.from_numpy(encoded.kinds)[None],
            output_hidden_states=True,
        )
    assert (hidden.last[0] - truth.hidden_states[-1][0]).abs().max() <= CLOSE
    assert (logits - truth.prediction_logits[0]).abs().max() <= CLOSE


def test_written_back(made: Path, stand: Stand, tmp_path: Path) -> None:
    write_tensorflow(read_checkpoint(made), tmp_path / "out")
    assert json.loads((tmp_path / "out/bert_config.json").read_text()) == CONFIG
    assert (tmp_path / "out/vocab.txt").read_text() == (made / "vocab.txt").read_text()
    reader = stand.load(str(tmp_path / "out/bert_model.ckpt"))
    truth = variables()
    assert reader.get_variable_to_shape_map() == {name: v.shape for name, v in truth.items()}
    assert all(np.array_equal(reader.get_tensor(name), v) for name, v in truth.items())
    again = unmask.load(tmp_path / "out")
    assert again.encode(["a faced"]).equal(unmask.load(made).encode(["a faced"]))


def test_import_and_export(made: Path, stand: Stand, tmp_path: Path) -> None:
    """Through a bundle, which holds no parts that are not run."""
    for command in (
        ["import", str(made), str(tmp_path / "bundle")],
        ["export", str(tmp_path / "bundle"), str(tmp_path / "out"), "--format", "tensorflow"],
    ):
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    shapes = stand.load(str(tmp_path / "out/bert_model.ckpt")).get_variable_to_shape_map()
    left_out = {name for name in variables() if "pooler" in name or "seq_relationship" in name}
    assert variables().keys() - shapes.keys() == left_out
    model = unmask.load(tmp_path / "out")
    assert model.fill("a [MASK] face") == unmask.load(made).fill("a [MASK] face")


@pytest.mark.parametrize("heads", [True, False])
def test_a_checkpoint_of_the_encoder_alone(tmp_path: Path, stand: Stand, heads: bool) -> None:
    path = folder_of(tmp_path / "made", stand.save, variables(heads))
    assert list(unmask.load(path).tasks) == (["mlm"] if heads else [])


# ---- capitals ----


@pytest.mark.parametrize(
    ("name", "words", "lower", "said"),
    [
        ("uncased_L-2", ["A"], True, "in lower case .by the name"),
        ("multi_cased_L-2", [], False, "cased .by the name"),
        ("chinese_L-2", [], True, "in lower case .its vocabulary has no capital letters"),
        ("showcased", ["##Ab"], False, "cased .its vocabulary has '##Ab'"),
    ],
)
def test_capitals(
    tmp_path: Path, stand: Stand, caplog: Any, name: str, words: list[str], lower: bool, said: str
) -> None:
    path = folder_of(tmp_path / name, stand.save, variables())
    listed = [*WORDS[: len(WORDS) - len(words)], *words]
    (path / "vocab.txt").write_text("\n".join(listed), encoding="utf-8")
    with caplog.at_level(logging.INFO, "unmask"):
        text = read_checkpoint(path).text
    assert text.tokenizer.normalizer.lowercase is lower
    (record,) = caplog.messages
    assert re.search(f"texts are read {said}", record)


def test_what_a_file_says_of_capitals_needs_no_guess(
    made: Path, tmp_path: Path, caplog: Any
) -> None:
    (made / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with caplog.at_level(logging.INFO, "unmask"):
        checkpoint = read_checkpoint(made)
        assert not checkpoint.text.tokenizer.normalizer.lowercase
        write_tensorflow(checkpoint, tmp_path / "uncased")
        assert not read_checkpoint(tmp_path / "uncased").text.tokenizer.normalizer.lowercase
    assert not caplog.messages


# ---- refusals ----


def _remove(name: str) -> Callable[[Path, Stand], Any]:
    return lambda path, stand: (path / name).unlink()


def _save(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path, Stand], None]:
    def apply(path: Path, stand: Stand) -> None:
        found = variables()
        change(found)
        stand.save(str(path / "bert_model.ckpt"), list(found), [], list(found.values()))

    return apply


def _cut(path: Path, stand: Stand) -> None:
    file = path / "bert_model.ckpt.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:1000])


def _spoil(path: Path, stand: Stand) -> None:
    (path / "bert_model.ckpt.index").write_bytes(b"nothing")


def _several(path: Path, stand: Stand) -> None:
    for ending in ("index", "data-00000-of-00001"):
        file = path / f"bert_model.ckpt.{ending}"
        (path / f"model.ckpt-1.{ending}").write_bytes(file.read_bytes())
        file.rename(path / f"model.ckpt-2.{ending}")


def _config(**changes: Any) -> Callable[[Path, Stand], None]:
    return lambda path, stand: _write(path, CONFIG | changes)


def _write(path: Path, config: dict[str, Any]) -> None:
    (path / "bert_config.json").write_text(json.dumps(config))


def _link(path: Path, stand: Stand) -> None:
    file = path / "bert_model.ckpt.data-00000-of-00001"
    file.rename(path.parent / "outside")
    file.symlink_to(path.parent / "outside")


QUERY = "bert/encoder/layer_0/attention/self/query/kernel"
CASES: dict[str, tuple[Callable[[Path, Stand], Any], str]] = {
    "no config": (_remove("bert_config.json"), "bert_config.json is missing"),
    "no vocabulary": (_remove("vocab.txt"), "neither tokenizer.json nor vocab.txt"),
    "no index": (_remove("bert_model.ckpt.index"), "bert_model.ckpt.index is missing"),
    "no data": (_remove("bert_model.ckpt.data-00000-of-00001"), "data-00000-of-00001 is missing"),
    "cut": (_cut, "is cut short: its data files lack weights"),
    "spoilt": (_spoil, r"bert_model.ckpt is broken or cut short \("),
    "several": (_several, "several checkpoints: model.ckpt-1, model.ckpt-2; keep"),
    "link": (_link, "leads out of the folder"),
    "lost": (_save(lambda v: v.pop(QUERY)), "lacks the weight .*layer.0.attention.self.query"),
    "strange": (_save(lambda v: v.update(x=np.ones(2, "f4"))), "has a weight x that a bert of"),
    "whole numbers": (_save(lambda v: v.update(x=np.ones(2, int))), "holds x, no weight of"),
    "infinite": (_save(lambda v: v.update({QUERY: v[QUERY] / 0})), "holds NaN or infinity"),
    "shape": (_config(intermediate_size=41), r"has the shape \(40, 24\)"),
    "fewer layers": (_config(num_hidden_layers=1), "has a weight bert.encoder.layer.1."),
    "activation": (_config(hidden_act="linear"), "bert_config.json: activation 'linear' is none"),
    "heads": (_config(num_attention_heads=5), "bert_config.json cannot be right: .*multiple of"),
    "no size": (lambda path, stand: _write(path, {}), "bert_config.json lacks 'vocab_size'"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("change", "said"), CASES.values(), ids=CASES)
def test_refused(made: Path, stand: Stand, change: Callable[[Path, Stand], Any], said: str) -> None:
    change(made, stand)
    with pytest.raises(UserError, match=said) as error:
        read_checkpoint(made)
    assert "\n" not in str(error.value)


def test_the_only_checkpoint_may_have_another_name(made: Path) -> None:
    for ending in ("index", "data-00000-of-00001"):
        (made / f"bert_model.ckpt.{ending}").rename(made / f"model.ckpt-200.{ending}")
    assert list(unmask.load(made).tasks) == ["mlm"]


def test_the_extra_is_named(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = unmask.load(made)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"pip install 'unmask\[tensorflow\]'"):
        unmask.load(made)
    with pytest.raises(UserError, match=r"pip install 'unmask\[tensorflow\]'"):
        save_as(model, tmp_path / "out", "tensorflow")
    assert not (tmp_path / "out").exists()


def test_what_google_has_no_place_for(made: Path, tmp_path: Path, stand: Stand) -> None:
    checkpoint = read_checkpoint(made)
    words = {word: i for i, word in enumerate(WORDS)}
    kept = wordpiece(words, lowercase=True, strip_accents=False)
    modern = Encoder(preset("tiny", "modern", vocab_size=len(WORDS)))
    other = checkpoint.config.model_copy(update={"norm_epsilon": 1e-5})
    tanh = checkpoint.config.model_copy(update={"activation": "gelu_tanh"})
    cases = [
        ("tokenizer is another", checkpoint.config, checkpoint.encoder, kept),
        ("cannot be written as bert", modern.config, modern, checkpoint.text.tokenizer),
        ("layer_norm_eps 1e-12", other, Encoder(other), checkpoint.text.tokenizer),
        ("hidden_act gelu or relu or tanh", tanh, Encoder(tanh), checkpoint.text.tokenizer),
    ]
    for said, config, encoder, tokenizer in cases:
        text = type(checkpoint.text)(tokenizer, 32)
        with pytest.raises(UserError, match=said):
            write_tensorflow(Checkpoint(config, encoder, text), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    labelled = Checkpoint(
        checkpoint.config, checkpoint.encoder, checkpoint.text, {"classify": torch.nn.Linear(1, 1)}
    )
    with pytest.raises(UserError, match="a place for a head of kind mlm, and none for classify"):
        write_tensorflow(labelled, tmp_path / "out")


# ---- TensorFlow itself ----


def computed(tf: Any, v: dict[str, Any], ids: Any, kinds: Any) -> Any:
    """The hidden states (T, D) of one sequence, by BERT's equations in plain TensorFlow."""

    def norm(x: Any, name: str) -> Any:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + 1e-12)
        return x * v[f"{name}/LayerNorm/gamma"] + v[f"{name}/LayerNorm/beta"]

    def dense(x: Any, name: str) -> Any:
        return tf.matmul(x, v[f"{name}/kernel"]) + v[f"{name}/bias"]

    def heads(x: Any) -> Any:  # (T, D) -> (H, T, D / H)
        return tf.transpose(tf.reshape(x, (len(ids), CONFIG["num_attention_heads"], -1)), (1, 0, 2))

    x = tf.gather(v["bert/embeddings/word_embeddings"], ids)
    x += v["bert/embeddings/position_embeddings"][: len(ids)]
    x += tf.gather(v["bert/embeddings/token_type_embeddings"], kinds)
    x = norm(x, "bert/embeddings")
    for layer in range(CONFIG["num_hidden_layers"]):
        own = f"bert/encoder/layer_{layer}"
        q, k, value = (
            heads(dense(x, f"{own}/attention/self/{n}")) for n in ("query", "key", "value")
        )
        scores = tf.matmul(q, k, transpose_b=True) / float(q.shape[-1]) ** 0.5
        seen = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), (1, 0, 2))
        seen = dense(tf.reshape(seen, x.shape), f"{own}/attention/output/dense")
        x = norm(x + seen, f"{own}/attention/output")
        inner = tf.nn.gelu(dense(x, f"{own}/intermediate/dense"), approximate=False)
        x = norm(x + dense(inner, f"{own}/output/dense"), f"{own}/output")
    return x


@pytest.mark.slow
def test_a_checkpoint_that_tensorflow_wrote(tmp_path: Path) -> None:
    """The same hidden states, and written back the same variables to the last bit."""
    tf = pytest.importorskip(
        "tensorflow", reason="needs TensorFlow: .venv/bin/pip install 'tensorflow-cpu==2.21.0'"
    )

    def save(prefix: str, names: list[str], _: Any, tensors: list[np.ndarray]) -> None:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            for name, tensor in zip(names, tensors, strict=True):
                tf.compat.v1.get_variable(name, initializer=tensor)
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, prefix)

    truth = variables()
    path = folder_of(tmp_path / "uncased_L-2_H-24_A-3", save, with_slots(truth))
    assert {file.suffix for file in path.iterdir()} >= {".index", ".meta", ".data-00000-of-00001"}
    model = unmask.load(path)
    for text, pair in (("faced 我是 a", None), ("a b c d", "e f g 我 faced h")):
        encoded = model.text.encode(text, pair)
        example = Example((encoded.sequence(),), (np.arange(len(encoded.ids)),))
        with torch.no_grad():
            ours = model.encoder(collate([example])).last[0].numpy()
        theirs = computed(tf, truth, encoded.ids, encoded.kinds).numpy()
        far = np.abs(ours - theirs).max()
        print(f"largest difference of hidden states: {far:.1e}")
        assert far <= CLOSE

    write_tensorflow(read_checkpoint(path), tmp_path / "out")
    reader = tf.train.load_checkpoint(str(tmp_path / "out/bert_model.ckpt"))
    assert reader.get_variable_to_shape_map() == {n: list(v.shape) for n, v in truth.items()}
    for name, value in truth.items():
        assert reader.get_tensor(name).tobytes() == value.tobytes(), name

    data = path / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for size, said in ((1000, "is cut short"), (len(whole) - 3000, "broken or cut short")):
        data.write_bytes(whole[:size])
        with pytest.raises(UserError, match=said):
            unmask.load(path)
    data.write_bytes(bytes(8) + whole[8:])  # which TensorFlow's checksums notice
    with pytest.raises(UserError, match="broken or cut short"):
        unmask.load(path)
    data.write_bytes(whole)
    index = path / "bert_model.ckpt.index"
    index.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(UserError, match="broken or cut short"):
        unmask.load(path)
