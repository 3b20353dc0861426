"""A model as one graph in a folder, for ONNX Runtime, OpenVINO and what reads their files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unmask import files
from unmask.errors import UserError
from unmask.model import Model
from unmask.runtime.engines import Engine, engine
from unmask.runtime.graph import INPUTS, Graph
from unmask.tasks import Task

log = logging.getLogger("unmask")

FORMATS = {"onnx": "onnxruntime", "openvino": "openvino"}

_README = """# {title}

One graph with the encoder and {heads}. `model.json` says what each output is.

| input | shape | |
|---|---|---|
| `input_ids` | (B, T) int64 | token ids of `tokenizer.json`, padded to the longest |
| `attention_mask` | (B, T) int64 | 1 where a token is, 0 for padding |
| `token_type_ids` | (B, T) int64 | 1 for the second text of a pair; only if the encoder has types |

| output | shape | |
|---|---|---|
{outputs}

Texts are cut to {length} tokens. Logits are as the weights give them: where `model.json` has a
`calibration`, divide them by its `temperature`, or multiply by `scale` and add `shift`, before a
softmax.
"""


def export(model: Model, folder: Path, format: str, task: str | None = None) -> None:
    """Write a graph with every head that takes one pass, or with one task's alone.

    Beside it stand `tokenizer.json`, `model.json` (inputs, outputs, labels, calibration) and a
    README. Tasks that need several passes or another adapter are left out, and that is said.
    """
    found = engine(FORMATS[format])
    if not files.empty_or_new(folder):
        raise UserError(f"{folder} exists and is not empty: choose another folder or remove it")
    tasks = _fitting(model, task)
    graph = Graph(model, tasks).eval()
    described = _described(model, graph, found)
    with files.new_folder(folder) as partial:
        found.write(graph, partial)
        model.text.save(partial / "tokenizer.json")
        files.write_json(partial / "model.json", described)
        rows = [f"| `{o['name']}` | {o['shape']} | {o['what']} |" for o in described["outputs"]]
        readme = _README.format(
            title=f"An encoder for {found.name}",
            heads=f"the heads of {', '.join(tasks)}" if tasks else "no head",
            outputs="\n".join(rows),
            length=model.text.max_length,
        )
        files.write_text(partial / "README.md", readme)


def _fitting(model: Model, name: str | None) -> dict[str, Task[Any, Any]]:
    """The tasks whose heads go into one graph: of one adapter, and of one pass."""
    if name is not None and model.task(name).many_passes:
        raise UserError(f"task {name} writes in many passes, which one graph cannot hold")
    chosen = {name: model.task(name)} if name is not None else model.tasks
    found = {n: t for n, t in chosen.items() if not t.many_passes}
    adapters = [task.options.adapter for task in found.values()]
    found = {n: t for n, t in found.items() if t.options.adapter == adapters[0]}
    for left in chosen.keys() - found.keys():
        log.warning(
            "task %s is left out: it takes many passes or has another adapter; export it by itself "
            "with --task, if it takes one",
            left,
        )
    return found


def _described(model: Model, graph: Graph, found: Engine) -> dict[str, Any]:
    """What is in the folder, as plain data."""
    width = model.encoder.config.hidden_size
    outputs = [
        {"name": "last_hidden_state", "shape": f"(B, T, {width})", "what": "hidden states"},
        {
            "name": "vector",
            "shape": f"(B, {width})",
            "what": f"a vector a text: pooled by {graph.pooling.mode}"
            + (", of length 1" if graph.pooling.normalise else ""),
        },
    ]
    for name in graph.outputs[2:]:
        task = graph.tasks[name.rpartition(".")[0]]
        rows = "B" if task.pools else "B, T"
        outputs.append(
            {"name": name, "shape": f"({rows}, …)", "what": f"task {task.name}, `{task.kind}`"}
        )
    used = [name for name in INPUTS if model.encoder.config.num_segments or name != INPUTS[2]]
    return {
        "graph": found.file,
        "inputs": used,
        "outputs": outputs,
        "max_length": model.text.max_length,
        "tasks": {
            name: {
                "kind": task.kind,
                "input": list(task.options.inputs),
                "facts": task.facts,
                "calibration": task.calibration,
            }
            for name, task in graph.tasks.items()
        },
    }
