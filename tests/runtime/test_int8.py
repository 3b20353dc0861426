"""What int8 computes, and an encoder that learns with it."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unmask import bundle, files
from unmask.batch import Batch, Example, Segment, Sequence, collate
from unmask.encoder.int8 import between, by_row, plain, scales_of, simulate, up_to
from unmask.machine import processor
from unmask.model import Model
from unmask.runtime import stored
from unmask.runtime.graph import INPUTS, Trunk
from unmask.tuning import making

FORM = "openvino-int8"
T = 16  # tokens of every text: a width that forms have, so nothing is padded
WORDS = "a the film was good bad great dull it is not and".split()
TEXTS = [" ".join(WORDS[(i * 5 + k * (7 + i % 3)) % 12] for k in range(T - 2)) for i in range(24)]


def _made(model: Model, folder: Path) -> Path:
    """The int8 form of a model, calibrated by the texts."""
    pytest.importorskip("nncf")
    logging.getLogger("unmask").setLevel(logging.ERROR)  # of texts of one length
    bundle.save(model, folder / "bundle")
    form = folder / "form"
    form.mkdir()
    making.make(bundle.load(folder / "bundle"), folder / "bundle", FORM, form, TEXTS)
    logging.getLogger("unmask").setLevel(logging.NOTSET)
    return form


def _computed(form: Path, model: Model, as_written: bool) -> Tensor:
    """Hidden states (B, T, D) by a form's graph: as it is written, in floats, or as it is run."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if as_written:
        settings["LP_TRANSFORMS_MODE"] = "NO"
    compiled = core.compile_model(core.read_model(form / "model.xml"), "CPU", settings)
    given = dict(zip(INPUTS, _inputs(model), strict=True))
    names = [port.get_any_name() for port in compiled.inputs]
    return torch.from_numpy(compiled({name: given[name].numpy() for name in names})[0])


def _inputs(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.stack([torch.from_numpy(np.asarray(model.text.encode(t).ids)) for t in TEXTS])
    return ids.long(), torch.ones_like(ids).long(), torch.zeros_like(ids).long()


def _hidden(model: Model) -> Tensor:
    with torch.no_grad():
        return Trunk(model.encoder)(*_inputs(model))[0]


def _grids(model: Model) -> list[Batch]:
    first = (np.array([0]),)
    return [collate([Example((model.text.encode(text).sequence(),), first)]) for text in TEXTS]


def _apart(a: Tensor, b: Tensor) -> float:
    """How far a is from b, as a share of b."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("style", "bits"), [("classic", 7), ("modern", 8)])
def test_simulated_is_what_the_form_computes(
    style: str,
    bits: int,
    make_bundle: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(making, "sums_int8_exactly", lambda: bits == 8)
    model = bundle.load(make_bundle(style))
    form = _made(model, tmp_path)
    before = _hidden(model)
    scales = scales_of(model.encoder, _grids(model))
    assert torch.equal(_hidden(model), before)  # measuring changes nothing
    simulate(model.encoder, scales, bits)
    ours, written = _hidden(model), _computed(form, model, as_written=True)
    lost = _apart(written, before)
    assert lost > 1e-4
    # Of what int8 changes nearly all is foreseen; the rest is values that lie between two levels.
    assert _apart(ours, written) < 0.4 * lost
    if bits == 7 or processor.sums_int8_exactly():  # else its sums run over
        assert _apart(_computed(form, model, as_written=False), written) < 0.25 * lost
    plain(model.encoder)
    assert torch.equal(_hidden(model), before)


def test_a_form_for_other_sums_is_not_used(
    make_bundle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_bundle("classic")
    for exact in (True, False):
        monkeypatch.setattr(stored, "sums_int8_exactly", lambda exact=exact: exact)
        assert stored.record(path, FORM)["exact_sums"] is exact
        assert "exact_sums" not in stored.record(path, "openvino-fp32")
    monkeypatch.undo()
    other = tmp_path / "bundle"
    bundle.save(bundle.load(path), other)
    made = {"weights": files.sha256(other / stored.WEIGHTS)}

    def keep(folder: Path) -> None:
        shutil.rmtree(folder / stored.FORMS, ignore_errors=True)
        (folder / stored.FORMS / FORM).mkdir(parents=True)
        files.write_json(folder / stored.FORMS / FORM / "form.json", made)

    for made["exact_sums"], able, used in (
        (True, True, True),
        (True, False, False),
        (False, False, True),
        (False, True, True),
    ):
        bundle.change(other, keep)
        monkeypatch.setattr(stored, "sums_int8_exactly", lambda able=able: able)
        assert (stored._stale(other, FORM) is None) is used


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu avx avx2 fma", False),
        ("x86_64", "fpu avx2 avx_vnni", True),
        ("x86_64", "fpu avx512f avx512_vnni", True),
        ("aarch64", "", True),
        ("riscv64", "", False),
    ],
)
def test_processors(
    machine: str, flags: str, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : some\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.sums_int8_exactly() is exact
    monkeypatch.setattr(processor, "INFO", tmp_path / "none")
    assert processor.sums_int8_exactly() is (machine == "aarch64")


def test_levels() -> None:
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    for levels in (127.0, 63.499):
        step = x.abs().amax(1, keepdim=True) / levels
        rounded = by_row(x, levels)
        assert ((rounded - x).abs() <= step * 0.5001).all()
        assert torch.allclose(rounded / step, (rounded / step).round(), atol=1e-3)
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (-0.3, 0.3), (0.0, 0.0)):
        assert between(torch.zeros(3), low, high).abs().max() == 0  # zero is a level
        inside = torch.linspace(low, high, 50)
        step = max(max(high, 0.0) - min(low, 0.0), 8e-4) / 254
        assert (between(inside, low, high) - inside).abs().max() <= step
    assert up_to(torch.tensor([9.0, -9.0]), 3.0).tolist() == pytest.approx([3.0, -3 * 128 / 127])


@pytest.mark.parametrize("style", ["classic", "modern"])
def test_gradients_pass_and_weights_stay(style: str, make_bundle: Callable[[str], Path]) -> None:
    model = bundle.load(make_bundle(style))
    found = []
    for on in (False, True):
        if on:
            simulate(model.encoder, scales_of(model.encoder, _grids(model)))
        before = copy.deepcopy(model.state_dict())
        model.zero_grad()
        hidden = Trunk(model.encoder)(*_inputs(model))[0]
        (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
        after = model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        found.append({n: p.grad.clone() for n, p in model.encoder.named_parameters()
                      if p.grad is not None})  # fmt: skip
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        other = found[1][name]
        assert other.isfinite().all()
        assert (other.norm() > 0) == (gradient.norm() > 0), name
        if name.startswith("layers") and gradient.ndim == 2:
            assert torch.cosine_similarity(gradient.flatten(), other.flatten(), 0) > 0.3, name


def test_grids_without_text_have_no_scales(make_bundle: Callable[[str], Path]) -> None:
    """A grid is needed: nothing is made up where nothing was measured."""
    model = bundle.load(make_bundle("classic"))
    with pytest.raises(RuntimeError):
        scales_of(model.encoder, [])
    one = Example((Sequence((Segment(np.arange(4), 0),)),), (np.array([0]),))
    assert scales_of(model.encoder, [collate([one])]).keys()
