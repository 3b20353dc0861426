"""What `unmask export` writes for other engines loads in them and gives what torch gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from typer.testing import CliRunner

from unmask import bundle
from unmask.cli.app import app
from unmask.errors import UserError
from unmask.runtime.export import export
from unmask.runtime.graph import Graph


@pytest.mark.parametrize(("style", "format"), [("classic", "onnx"), ("modern", "openvino")])
def test_one_graph_holds_every_head(
    style: str, format: str, make_bundle: Callable[[str], Path], texts: list[str], tmp_path: Path
) -> None:
    path = make_bundle(style)
    done = CliRunner().invoke(app, ["export", str(path), str(tmp_path / "out"), "--format", format])
    assert done.exit_code == 0, done.output
    folder, model = tmp_path / "out", bundle.load(path)
    said = json.loads((folder / "model.json").read_text())
    assert (folder / "README.md").read_text().count("| `") == 3 + len(said["outputs"])

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(said["max_length"])
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    arrays = {
        "input_ids": np.array([e.ids for e in encoded]),
        "attention_mask": np.array([e.attention_mask for e in encoded]),
        "token_type_ids": np.array([e.type_ids for e in encoded]),
    }
    given = {name: arrays[name] for name in said["inputs"]}
    found = _run(folder / said["graph"], format, given)
    assert list(found) == [output["name"] for output in said["outputs"]]
    assert {name.split(".")[0] for name in list(found)[2:]} == set(model.tasks)

    assert np.abs(found["vector"] - model.encode(texts).numpy()).max() < 1e-5
    for i, text in enumerate(texts[:5]):
        hidden = model.hidden(text).numpy()
        assert np.abs(found["last_hidden_state"][i, : len(hidden)] - hidden).max() < 1e-4
    logits = torch.tensor([answer.logits for answer in model.predict("mood", texts)])
    assert np.abs(found["mood.logits"] - logits.numpy()).max() < 1e-4
    with torch.inference_mode():  # every other head, against the graph in torch
        inputs = [torch.from_numpy(array) for array in arrays.values()]
        expected = Graph(model, model.tasks)(*inputs)
    real = arrays["attention_mask"].astype(bool)
    for (name, ours), theirs in zip(found.items(), expected, strict=True):
        per_position = ours.shape[:2] == real.shape
        own, other = (x[real] if per_position else x for x in (ours, theirs.numpy()))
        assert np.abs(own - other).max() < 1e-4, name


def test_what_a_graph_cannot_hold_is_refused(
    make_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    model = bundle.load(make_bundle("classic"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="not empty"):
        export(model, tmp_path / "full", "openvino")
    with pytest.raises(UserError, match="no task 'nobody'"):
        export(model, tmp_path / "new", "openvino", "nobody")
    assert not (tmp_path / "new").exists()


def _run(path: Path, format: str, given: dict[str, np.ndarray]) -> dict[str, Any]:
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(names, given), strict=True))
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {port.get_any_name(): array for port, array in model(given).items()}
