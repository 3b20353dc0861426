"""What a bundle keeps of the forms of its model, and a model in the form that was chosen.

forms/choice.json           the form that `unmask tune` kept, its settings and its figures
forms/NAME/form.json        the engine, the precision, and the weights that it was made of
forms/NAME/contract.json    how far it is from the original
forms/NAME/model.…          the graph; of `torch-exits` what `exits.py` says
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask import bundle, files, loading
from unmask.errors import UserError
from unmask.interop import resolve
from unmask.machine.processor import sums_int8_exactly
from unmask.model import Model
from unmask.runtime.engines import ENGINES, Streams, engine, installed
from unmask.runtime.exits import EXITS, put_exits
from unmask.runtime.form import CompiledForm

log = logging.getLogger("unmask")

FORMS = "forms"
CHOICE = f"{FORMS}/choice.json"
WEIGHTS = "model.safetensors"
PRECISIONS: tuple[str, ...] = ("fp32", "bf16", "int8")
TORCH = "torch"
EARLY = "exits"  # torch's alone, in fp32: easy texts leave at a lower layer


@dataclass(frozen=True)
class Settings:
    """How a form is run."""

    threads: int = 1  # of each stream; there are as many streams as the process has threads for
    batch_tokens: int = 2048  # positions of a grid, padding included
    device: str = "cpu"  # of torch's forms


def load(source: str | Path, form: bool = True) -> Model:
    """A bundle, a Hugging Face or sentence-transformers folder, package://… or a hub id.

    What a checkpoint brings becomes a task: its masked-language head is the task `mlm`, its
    classification head the task `classify`, or `rerank` where it has one label, its token
    classification head the task `tag`, its question-answering head the task `span`. Weights
    compute in fp32 unless `precision` is set.

    A bundle that `unmask tune` found a faster form for runs in it; `Model.form_name` says which.
    Where this machine cannot run it, torch does, and a warning says why. `form=False` asks for
    torch.
    """
    path = resolve(str(source))
    model = loading.load(path)
    if form and bundle.is_bundle(path):
        attach(model, path)
    return model


def attach(model: Model, path: Path) -> None:
    """Let a bundle's model run in the form that was chosen for it, if this machine can."""
    if not (path / CHOICE).is_file():
        return
    choice = files.read_json(path / CHOICE)
    try:
        name, settings = str(choice["form"]), Settings(**choice["settings"])
    except (KeyError, TypeError):
        raise UserError(
            f"{path / CHOICE} is not as `unmask tune` writes it; run it again"
        ) from None
    reason = _missing(name, settings) or _stale(path, name)
    if reason is not None:
        log.warning("%s was kept in the form %s, but %s: torch computes now", path, name, reason)
        return
    put(model, path / FORMS / name, name, settings)
    log.info("%s runs as %s", path, model.form_name)


def put(model: Model, folder: Path, name: str, settings: Settings) -> None:
    """Let a model run in a form, kept in a folder of its own."""
    calibrations: dict[str, Any] = {}
    kind, precision = split(name)
    if precision == EARLY:
        put_exits(model, folder)
    elif kind == TORCH:
        model.precision = "bf16" if precision == "bf16" else "fp32"
        model.to(settings.device)
    else:
        streams = Streams.fitted(settings.threads)
        model.form = CompiledForm(
            name,
            precision,
            engine(kind).compile(folder, precision, streams),
            streams.count,
            settings.batch_tokens,
            model.encoder.config.max_positions,
        )
    if (folder / "contract.json").is_file():
        calibrations = files.read_json(folder / "contract.json").get("calibrations", {})
    for name, found in calibrations.items():
        if name in model.tasks:
            task = model.task(name)
            # Of the first form that is put: what stands there afterwards is a form's own.
            own = model.of_weights.setdefault(name, (task.calibration, task.tensors))
            task.calibration, task.tensors = dict(found), own[1] if "known" in found else {}


def split(name: str) -> tuple[str, str]:
    """The engine and the precision of a form's name; a UserError lists those there are."""
    kind, _, precision = name.partition("-")
    if name == EXITS:
        return TORCH, EARLY
    if (kind != TORCH and kind not in ENGINES) or precision not in PRECISIONS:
        known = ", ".join([TORCH, *ENGINES])
        raise UserError(
            f"there is no form {name!r}: write ENGINE-PRECISION, an engine of {known} and a "
            f"precision of {', '.join(PRECISIONS)}"
        )
    return kind, precision


def lacks(name: str) -> str | None:
    """Why a form cannot run here: a library or a kind of instruction is missing."""
    kind, precision = split(name)
    if kind == TORCH:
        if precision == "int8":
            return "torch has no int8 form here: it is for openvino or onnxruntime"
        if precision == "bf16" and not (torch.cuda.is_available() or _torch_has_bf16()):
            return "this processor does not compute in bf16"
        return None
    one = ENGINES[kind]
    if not installed(one):
        return f"{kind} is not installed (pip install 'unmask[{one.extra}]')"
    return one.lacks(precision)


def record(path: Path, form: str) -> dict[str, Any]:
    """What stands beside a form's graph: what it is, of which weights, what it takes for granted.

    Weights of all 8 bits take for granted that sums do not run over.
    """
    kind, precision = split(form)
    found = {"engine": kind, "precision": precision, "weights": files.sha256(path / WEIGHTS)}
    return found | ({"exact_sums": sums_int8_exactly()} if precision == "int8" else {})


def _missing(name: str, settings: Settings) -> str | None:
    """Why a kept form cannot run on this machine; None where it can."""
    if settings.device != "cpu" and not torch.cuda.is_available():
        return "there is no GPU here"
    if split(name)[0] == TORCH and settings.device != "cpu":
        return None
    return lacks(name)


def _stale(path: Path, name: str) -> str | None:
    """Why a form is not of the bundle's weights, or not for this machine; None where it is."""
    kind, precision = split(name)
    if kind == TORCH and precision != EARLY:
        return None
    own = files.read_json(path / bundle.MANIFEST)["sha256"]
    if f"{FORMS}/{name}/form.json" not in own:
        return "it is not in the bundle"
    made = files.read_json(path / FORMS / name / "form.json")
    if precision == "int8" and made.get("exact_sums", True) and not sums_int8_exactly():
        return "it is for processors with VNNI, and on this one its sums would run over"
    return None if made.get("weights") == own[WEIGHTS] else "it was made of other weights"


def _torch_has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
