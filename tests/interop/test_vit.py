"""ViT-layout checkpoints: the same numbers as transformers, read and written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

import unmask
from unmask.encoder import preset
from unmask.errors import UserError
from unmask.interop import read_checkpoint
from unmask.recipe import ImageOptions
from unmask.saving import save_as

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 16,
    "patch_size": 4,
    "initializer_range": 0.2,
}
LABELS = {"id2label": {0: "cat", 1: "dog", 2: "bee"}, "label2id": {"cat": 0, "dog": 1, "bee": 2}}


def saved(path: Path, kind: type[Any] = ViTForImageClassification, **changes: Any) -> Any:
    """A tiny random ViT in a folder, all of its weights drawn."""
    torch.manual_seed(0)
    model = kind(ViTConfig(**SHAPE | LABELS | changes)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(path)
    return model


def processor(path: Path, **changes: Any) -> Any:
    found = ViTImageProcessorPil(size={"height": 16, "width": 16}, **changes)
    found.save_pretrained(path)
    return found


def pictures() -> list[bytes]:
    found = []
    for seed, (height, width) in enumerate(((16, 16), (40, 23), (9, 30))):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        found.append(out.getvalue())
    return found


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize(
    "changes",
    [{}, {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}],
)
def test_the_same_probabilities_as_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs, prepare = saved(tmp_path), processor(tmp_path, **changes)
    ours = unmask.load(tmp_path)
    with torch.no_grad():
        seen = prepare([opened(data) for data in pictures()], return_tensors="pt")
        truth = theirs(**seen).logits.softmax(-1)
    read = ours.text.beside["image"].values(pictures()[1])
    assert np.abs(read.transpose(2, 0, 1) - seen["pixel_values"][1].numpy()).max() < 1e-5
    answers = ours.predict("classify", pictures())
    for answer, expected in zip(answers, truth, strict=True):
        found = torch.tensor([answer.probabilities[name] for name in ("cat", "dog", "bee")])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert answers[0].tokens == 17


def test_the_bare_encoder_gives_the_same_states(tmp_path: Path) -> None:
    theirs = saved(tmp_path, ViTModel)
    ours = unmask.load(tmp_path)
    prepare = processor(tmp_path / "prepared")
    with torch.no_grad():
        seen = prepare([opened(pictures()[0])], return_tensors="pt")
        truth = theirs(**seen).last_hidden_state
    (vector,) = ours.encode([{"image": pictures()[0]}])
    expected = torch.nn.functional.normalize(truth[0].mean(0), dim=0)
    torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [ViTForImageClassification, ViTModel])
def test_read_and_written_back(tmp_path: Path, kind: type[Any]) -> None:
    theirs = saved(tmp_path / "in", kind)
    processor(tmp_path / "in", image_mean=[0.1, 0.2, 0.3])
    from unmask.interop import write_checkpoint

    write_checkpoint(read_checkpoint(tmp_path / "in"), tmp_path / "out")
    again = kind.from_pretrained(tmp_path / "out").eval()
    state = theirs.state_dict()
    assert all(torch.equal(weight, state[key]) for key, weight in again.state_dict().items())
    assert (
        load_file(tmp_path / "out/model.safetensors").keys()
        == load_file(tmp_path / "in/model.safetensors").keys()
    )
    prepare = ViTImageProcessorPil.from_pretrained(tmp_path / "out")
    assert list(prepare.image_mean) == [0.1, 0.2, 0.3]
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").image_size == 16


def test_it_becomes_a_bundle_learns_on_and_goes_back(tmp_path: Path) -> None:
    saved(tmp_path / "vit")
    rows = [
        {"picture": str(tmp_path / f"{i}.png"), "label": ("up", "down")[i % 2]} for i in range(8)
    ]
    for i, row in enumerate(rows):
        Path(row["picture"]).write_bytes(pictures()[i % 2])
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "encoder": {"from": str(tmp_path / "vit")},
        "tasks": {
            "way": {
                "kind": "classify",
                "train": str(tmp_path / "rows.jsonl"),
                "input": {"image": "picture"},
                "valid": None,
            }
        },
        "train": {"steps": 2},
    }
    unmask.train(recipe, tmp_path / "run")
    model = unmask.load(tmp_path / "run" / "bundle")
    (answer,) = model.predict("way", pictures()[0])
    head = model.task("way").head
    if head.pooling == "cls":
        save_as(model, tmp_path / "back", "huggingface", "way")
        theirs = ViTForImageClassification.from_pretrained(tmp_path / "back").eval()
        seen = ViTImageProcessorPil.from_pretrained(tmp_path / "back")(
            [opened(pictures()[0])], return_tensors="pt"
        )
        with torch.no_grad():
            found = theirs(**seen).logits.softmax(-1)[0]
        named = {theirs.config.id2label[i]: float(p) for i, p in enumerate(found)}
        assert named == pytest.approx(answer.probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("config.json", {"qkv_bias": False}, "qkv_bias"),
        ("config.json", {"image_size": 20}, "its positions"),
        ("config.json", {"patch_size": 5}, "no multiple"),
        ("config.json", {"patch_size": 10**9}, "no multiple"),
        ("preprocessor_config.json", {"resample": 3}, "resample"),
        ("preprocessor_config.json", {"do_center_crop": True}, "do_center_crop"),
        ("preprocessor_config.json", {"size": {"height": 20, "width": 16}}, "its positions"),
        ("preprocessor_config.json", {"image_std": [0.0, 1.0, 1.0]}, "deviation"),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2]}, "mean"),
    ],
)
def test_what_is_not_ours_is_refused(
    tmp_path: Path, file: str, changes: dict[str, Any], said: str
) -> None:
    saved(tmp_path)
    processor(tmp_path)
    raw = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(raw | changes))
    with pytest.raises(UserError, match=said):
        unmask.load(tmp_path)


def test_an_encoder_of_text_and_pictures_stays_a_bundle(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from unmask.encoder import Encoder
    from unmask.inputs.text import TextInput
    from unmask.inputs.vocabulary import SPECIAL, wordpiece
    from unmask.model import Model

    tokenizer: Tokenizer = wordpiece({t: i for i, t in enumerate([*SPECIAL, "a"])}, True)
    config = preset("tiny", "classic", vocab_size=64, image=ImageOptions(size=16, patch=4))
    model = Model(Encoder(config), TextInput(tokenizer))
    with pytest.raises(UserError, match="image"):
        save_as(model, tmp_path / "out", "huggingface")
