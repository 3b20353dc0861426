"""Making a form of a model: its graph for an engine, in int8 if that is asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from unmask import files
from unmask.batch import Example, collate
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.machine.processor import sums_int8_exactly
from unmask.model import Model
from unmask.runtime.engines import OpenVino, engine, quiet
from unmask.runtime.form import arrays
from unmask.runtime.graph import INPUTS, Trunk
from unmask.runtime.stored import TORCH, lacks, record, split

log = logging.getLogger("unmask")

FEWEST = 8  # different texts to calibrate int8 with
MOST = 300


def make(model: Model, bundle: Path, name: str, folder: Path, texts: Sequence[str]) -> None:
    """Write a form of a bundle's model into a folder.

    In int8 weights have a scale a row, and activations fixed scales from these texts: what a text
    gives does not depend on its neighbours in a batch, as it would with scales found while
    running. Where this processor's sums would run over, weights have 7 of the 8 bits. All heads
    stay in floats. Tasks with an adapter are not served: torch computes them.
    """
    kind, precision = split(name)
    if (reason := lacks(name)) is not None:
        raise UserError(f"form {name}: {reason}")
    if kind == TORCH:
        return
    trunk = Trunk(model.encoder).eval()
    if precision == "int8":
        _write_int8(kind, trunk, folder, calibration(model.text, texts))
    else:
        engine(kind).write(trunk, folder)
    files.write_json(folder / "form.json", record(bundle, name))


def calibration(text: TextInput, texts: Iterable[str]) -> list[dict[str, np.ndarray]]:
    """What int8 learns its scales from: one text a grid; a UserError where there is too little."""
    different = [one for one in dict.fromkeys(texts) if one.strip()]
    if len(different) < FEWEST:
        raise UserError(
            f"int8 learns its scales from texts, and there are {len(different)} different ones "
            f"that are not empty: give {FEWEST} or more, such as a few hundred that will be read"
        )
    chosen = np.linspace(0, len(different) - 1, min(MOST, len(different))).astype(int)
    sequences = [text.encode(different[i]).sequence() for i in chosen]
    lengths = [sequence.length for sequence in sequences]
    if max(lengths) < 2 * min(lengths) and max(lengths) * 4 < text.max_length:
        log.warning(
            "all texts that int8 learns its scales from have %d to %d tokens; give texts as "
            "different as those that will be read",
            min(lengths),
            max(lengths),
        )
    grids = (arrays(collate([Example((one,), ())]), max(lengths)) for one in sequences)
    return [dict(zip(INPUTS, grid, strict=True)) for grid in grids]


def _write_int8(kind: str, trunk: Trunk, folder: Path, rows: list[dict[str, np.ndarray]]) -> None:
    """Static scales through NNCF: of weights a row, of activations a tensor."""
    try:
        with quiet():
            import nncf
    except ImportError:
        raise UserError("int8 needs nncf: pip install 'unmask[openvino]'") from None
    logging.getLogger("nncf").setLevel(logging.ERROR)
    half = nncf.OverflowFix.DISABLE if sums_int8_exactly() else nncf.OverflowFix.ENABLE

    def quantised(model: Any, inputs: Sequence[str]) -> Any:
        given = nncf.Dataset([{name: row[name] for name in inputs} for row in rows])
        with quiet(), redirect_stdout(sys.stderr):  # where its bars belong
            return nncf.quantize(
                model,
                given,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(rows),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=half),
            )

    found = engine(kind)
    if isinstance(found, OpenVino):
        model = found.convert(trunk)
        names = [port.get_any_name() for port in model.inputs]
        found.save(quantised(model, names), folder)
        return
    import onnx

    found.write(trunk, folder)
    model = onnx.load(folder / found.file)
    names = [port.name for port in model.graph.input]
    onnx.save(quantised(model, names), folder / found.file)
