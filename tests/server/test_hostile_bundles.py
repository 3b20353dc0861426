"""Bundles that somebody tampered with: each is refused with one line that names the reason.

All but the first few have hashes that fit, as if they were made so.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import unmask
from unmask import files
from unmask.errors import UserError

WEIGHTS = "model.safetensors"


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the value of a JSON file."""

    def apply(path: Path) -> None:
        value = json.loads((path / name).read_text(encoding="utf-8"))
        found = change(value)
        (path / name).write_text(json.dumps(value if found is None else found), encoding="utf-8")

    return apply


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """Put other bytes into a file."""
    return lambda path: (path / name).write_bytes(data) and None


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Change the weights."""

    def apply(path: Path) -> None:
        state = {name: tensor.clone() for name, tensor in load_file(path / WEIGHTS).items()}
        change(state)
        save_file(state, path / WEIGHTS)

    return apply


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change what a safetensors file says of itself, and leave its numbers."""

    def apply(path: Path) -> None:
        data = (path / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        said = json.loads(data[8 : 8 + size])
        change(said)
        text = json.dumps(said).encode()
        (path / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return apply


def task(number: int, **changes: Any) -> Callable[[Path], None]:
    """Change one task's record; its options are given with dots, as `options.kind`."""

    def change(tasks: list[dict[str, Any]]) -> None:
        for key, value in changes.items():
            where, _, last = key.rpartition("__")
            (tasks[number][where] if where else tasks[number])[last] = value

    return edit("tasks.json", change)


def encoder(**changes: Any) -> Callable[[Path], None]:
    """Change the encoder's shape."""
    return edit("config.json", lambda config: config["encoder"].update(changes))


def tokenizer(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the tokenizer's model."""
    return edit("tokenizer.json", lambda found: change(found["model"]))


def first(state: dict[str, Any]) -> str:
    return next(name for name in state if name != "__metadata__")


SIGNED: dict[str, Callable[[Path], Any]] = {
    "config: no JSON": write("config.json", b"{"),
    "config: a list": write("config.json", b"[]"),
    "config: null": write("config.json", b"null"),
    "config: deep": write("config.json", b"[" * 100_000),
    "config: no UTF-8": write("config.json", b'{"a": "\xff"}'),
    "config: no encoder": edit("config.json", lambda c: c.pop("encoder") and None),
    "config: a layer count of text": encoder(num_layers="x"),
    "config: no layers": encoder(num_layers=-1),
    "config: more layers than weights": encoder(num_layers=3),
    "config: heads that do not divide": encoder(num_heads=3),
    "config: code": encoder(auto_map={"a": "b.py"}),
    "config: another width": encoder(hidden_size=32),
    "config: a length beyond": edit("config.json", lambda c: c.update(max_length=10**6)),
    "config: a length of text": edit("config.json", lambda c: c.update(max_length="long")),
    "config: pooling that is none": edit("config.json", lambda c: c.update(pooling={"mode": "x"})),
    "tasks: no JSON": write("tasks.json", b"\x80\x04\x95"),
    "tasks: an object": write("tasks.json", b'{"a": 1}'),
    "tasks: numbers": write("tasks.json", b"[1]"),
    "tasks: an unknown kind": task(0, options__kind="pickle"),
    "tasks: no options": task(0, options=None),
    "tasks: an unknown option": task(0, options__code="import os"),
    "tasks: no labels": task(0, facts={}),
    "tasks: fewer labels than weights": task(0, facts__labels=["a"]),
    "tasks: more labels than weights": task(0, facts__labels=list("abcdefgh")),
    "tasks: tags that are none": task(3, facts__tags=["O", "X-"]),
    "tokenizer: no JSON": write("tokenizer.json", b"\x00" * 64),
    "tokenizer: empty": write("tokenizer.json", b""),
    "tokenizer: an object": write("tokenizer.json", b"{}"),
    "tokenizer: an unknown model": tokenizer(lambda model: model.update(type="Evil")),
    "tokenizer: ids beyond": tokenizer(lambda model: model["vocab"].update(zzz=10**6)),
    "weights: a pickle": write(WEIGHTS, b"\x80\x04\x95\x0b" + bytes(7) + b"cos\nsystem\n."),
    "weights: empty": write(WEIGHTS, b""),
    "weights: a header beyond the file": write(WEIGHTS, struct.pack("<Q", 1 << 60) + b"{}"),
    "weights: a header of noise": write(WEIGHTS, struct.pack("<Q", 8) + b"\xff" * 8),
    "weights: cut short": lambda path: os.truncate(path / WEIGHTS, 900),
    "weights: more behind": lambda path: (path / WEIGHTS).open("ab").write(b"x" * 99),
    "weights: NaN": weights(lambda s: s[first(s)].fill_(torch.nan)),
    "weights: infinity": weights(lambda s: s[first(s)].fill_(torch.inf)),
    "weights: one is missing": weights(lambda s: [s.pop(first(s))]),
    "weights: one too many": weights(lambda s: s.update(extra=torch.zeros(2))),
    "weights: another shape": weights(lambda s: s.update({first(s): torch.zeros(1)})),
    "weights: overlapping": header(
        lambda h: h[first(h)].update(data_offsets=[1, h[first(h)]["data_offsets"][1] + 1])
    ),
    "weights: offsets backwards": header(lambda h: h[first(h)].update(data_offsets=[64, 0])),
    "weights: a type that is none": header(lambda h: h[first(h)].update(dtype="OBJ")),
    "weights: a shape below 0": header(lambda h: h[first(h)].update(shape=[-1, 4])),
}  # fmt: skip


def sign(path: Path, change: Callable[[dict[str, Any]], Any] = lambda manifest: None) -> None:
    """A manifest that fits."""
    own = {one.name: files.sha256(one) for one in sorted(path.iterdir()) if one.is_file()}
    own.pop("manifest.json")
    manifest = {"format": 1, "sha256": own}
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to tamper with."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as said:
        unmask.load(path)
    message = str(said.value)
    assert 20 < len(message) < 1000
    assert "\n" not in message
    return message


@pytest.mark.parametrize("tamper", SIGNED.values(), ids=SIGNED.keys())
def test_signed(copy: Path, tamper: Callable[[Path], Any]) -> None:
    tamper(copy)
    sign(copy)
    refused(copy)


@pytest.mark.parametrize("name", ["config.json", "tasks.json", "tokenizer.json", WEIGHTS])
def test_changed_or_missing(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b" ")
    assert "manifest says" in refused(copy)
    (copy / name).unlink()
    assert "missing" in refused(copy)


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda m: m.update(format=99),
    "no hashes": lambda m: m.update(sha256=None),
    "no weights": lambda m: m["sha256"].pop(WEIGHTS),
    "a path out": lambda m: m["sha256"].update({"../../etc/passwd": "0"}),
    "an absolute path": lambda m: m["sha256"].update({"/etc/passwd": "0"}),
    "a hidden file": lambda m: m["sha256"].update({".bashrc": "0"}),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_manifests(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    sign(copy, change)
    refused(copy)


def test_a_link_out(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    (copy / "config.json").rename(elsewhere)
    (copy / "config.json").symlink_to(elsewhere)
    assert "leads out" in refused(copy)


def test_they_are_many() -> None:
    assert len(SIGNED) + len(MANIFESTS) + 5 >= 40
