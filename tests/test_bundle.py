"""A bundle is data that is checked on load; whatever is wrong with it is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import unmask
from unmask import bundle, files
from unmask.encoder import Encoder, HeadConfig, Pooling
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks.classify import Classify, ClassifyOptions
from unmask.tasks.mlm import Mlm, MlmOptions


@pytest.fixture
def model(text: TextInput, make_encoder: Callable[..., Encoder]) -> Model:
    encoder = make_encoder("modern")
    options = ClassifyOptions(head=HeadConfig(pooling="cls", activation="tanh"))
    tasks = {
        "mood": Classify("mood", options, text, {"labels": ["neg", "pos"]}),
        "words": Mlm("words", MlmOptions(rate=0.2), text),
    }
    heads = {name: task.build(encoder) for name, task in tasks.items()}
    return Model(encoder, text, tasks, heads, Pooling(mode="cls", normalise=False))


def test_what_is_loaded_is_what_was_saved(model: Model, tmp_path: Path) -> None:
    bundle.save(model, tmp_path / "b", recipe={"a": 1}, scores=[], card="# card")
    again = unmask.load(tmp_path / "b")
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert again.pooling == model.pooling is not None
    assert again.text.max_length == model.text.max_length
    texts = ["the film was good", "the cat", "bad " * 20]
    assert torch.equal(model.encode(texts), again.encode(texts))
    before, after = (m.predict("mood", texts) for m in (model, again))
    assert before == after
    assert model.fill("the [MASK]") == again.fill("the [MASK]")
    # twice saved is once saved, byte for byte
    bundle.save(again, tmp_path / "c", recipe={"a": 1}, scores=[], card="# card")
    hashes = [files.read_json(tmp_path / x / "manifest.json")["sha256"] for x in "bc"]
    assert hashes[0] == hashes[1]


def test_nothing_but_a_bundle_is_replaced(model: Model, tmp_path: Path) -> None:
    bundle.save(model, tmp_path / "b")
    bundle.save(model, tmp_path / "b")
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="exists and is no bundle"):
        bundle.save(model, other)
    assert (other / "thesis.txt").read_text() == "years"


def damage_byte(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut_short(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def swap_labels(folder: Path) -> None:
    text = (folder / "tasks.json").read_text()
    (folder / "tasks.json").write_text(text.replace("neg", "xxx"))


def link_out(folder: Path) -> None:
    (folder / "tasks.json").rename(folder.parent / "tasks.json")
    (folder / "tasks.json").symlink_to(folder.parent / "tasks.json")


def leave_folder(folder: Path) -> None:
    manifest = files.read_json(folder / "manifest.json")
    manifest["sha256"]["../tasks.json"] = "0"
    files.write_json(folder / "manifest.json", manifest)


def no_hashes(folder: Path) -> None:
    files.write_json(folder / "manifest.json", {"format": 1, "sha256": {}})


def other_format(folder: Path) -> None:
    files.write_json(folder / "manifest.json", {"format": 99})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_byte, r"model\.safetensors is not what the manifest says"),
        (cut_short, r"model\.safetensors is not what the manifest says"),
        (swap_labels, r"tasks\.json is not what the manifest says"),
        (link_out, r"tasks\.json is missing or leads out"),
        (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json is not readable JSON"),
        (leave_folder, "outside its folder"),
        (no_hashes, "lists no hashes"),
        (other_format, "another version"),
    ],
)
def test_harm_is_named(
    model: Model, tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    bundle.save(model, tmp_path / "b")
    harm(tmp_path / "b")
    with pytest.raises(UserError, match=said):
        unmask.load(tmp_path / "b")


def rehash(folder: Path) -> None:
    """Make the manifest agree with whatever the files hold now."""
    hashes = {p.name: files.sha256(p) for p in folder.iterdir() if p.name != "manifest.json"}
    files.write_json(folder / "manifest.json", {"format": 1, "sha256": hashes})


def edit(folder: Path, name: str, change: Callable[[object], object]) -> None:
    value = files.read_json(folder / name)
    change(value)
    files.write_json(folder / name, value)
    rehash(folder)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", lambda c: c.pop("encoder"), "its config is wrong or incomplete"),
        ("config.json", lambda c: c["encoder"].update(num_layers=9), "does not fit its config"),
        ("config.json", lambda c: c["encoder"].update(vocab_size=20), "only 20 token vectors"),
        ("config.json", lambda c: c.update(max_length=999), "max_length 999 is over"),
        (
            "tasks.json",
            lambda t: t[0].update(facts={}),
            "its config is wrong or incomplete: 'labels'",
        ),
        ("tasks.json", lambda t: t[0]["options"].update(kind="sing"), "kind 'sing'"),
        ("tasks.json", lambda t: t[0]["facts"].update(labels=["a"]), "does not fit its config"),
        ("tasks.json", lambda t: t.append(t[0]), "two tasks are called"),
    ],
)
def test_a_manifest_that_agrees_does_not_make_nonsense_sense(
    model: Model, tmp_path: Path, name: str, change: Callable[[object], object], said: str
) -> None:
    bundle.save(model, tmp_path / "b")
    edit(tmp_path / "b", name, change)
    with pytest.raises(UserError, match=said):
        unmask.load(tmp_path / "b")


def test_weights_that_are_not_finite(model: Model, tmp_path: Path) -> None:
    with torch.no_grad():
        next(model.encoder.parameters())[0, 0] = float("nan")
    bundle.save(model, tmp_path / "b")
    with pytest.raises(UserError, match="not finite"):
        unmask.load(tmp_path / "b")


def test_the_hub_caches_links_are_no_harm(model: Model, tmp_path: Path) -> None:
    bundle.save(model, tmp_path / "b")
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (tmp_path / "b").iterdir():
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(blobs / file.name)
    assert unmask.load(snapshot).tasks.keys() == model.tasks.keys()


def test_a_tokenizer_with_more_ids_than_vectors(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    with pytest.raises(UserError, match="only 20 token vectors"):
        Model(make_encoder(vocab_size=20), text)


def test_a_disk_that_fills_while_saving_leaves_nothing(model: Model, tmp_path: Path) -> None:
    """A child process may write files of 8 kB at most: less than the weights need."""
    bundle.save(model, tmp_path / "b")
    script = (
        "import sys, signal, resource, unmask\n"
        "from pathlib import Path\nfrom unmask import bundle\n"
        "m = unmask.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "try:\n    bundle.save(m, Path(sys.argv[2]))\n"
        "except unmask.UserError as error:\n    print(error)\n"
    )
    for target in ("c", "b"):  # a new bundle, and one in the place of another
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "b"), str(tmp_path / target)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"could not write {tmp_path / target}" in done.stdout
        assert "nothing half-written was left" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    bundle.verify(tmp_path / "b")
