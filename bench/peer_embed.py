"""One setting of a peer for bench/embed.py and bench/latency.py, with the peers' own libraries.

    .venv-peers/bin/python bench/peer_embed.py default --model FOLDER --count 500

`default` and `bf16` are sentence-transformers on torch; `onnx` and `openvino` its other backends,
which need optimum; `fastembed` runs a graph that `unmask export --format onnx` wrote.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from embed_texts import LONGEST, texts

Encode = Callable[[list[str]], Any]


def sentence_transformers(how: str, folder: Path, batch: int) -> Encode:
    """Texts to vectors by sentence-transformers in one of its backends."""
    import torch
    from sentence_transformers import SentenceTransformer

    backend: Any = how if how in ("onnx", "openvino") else "torch"
    given = {"dtype": torch.bfloat16} if how == "bf16" else {}
    model = SentenceTransformer(str(folder), backend=backend, model_kwargs=given, device="cpu")
    model.max_seq_length = LONGEST
    return lambda rows: model.encode(rows, batch_size=batch, show_progress_bar=False)


def fastembed(folder: Path, batch: int) -> Encode:
    """Texts to vectors by fastembed, on a graph and a tokenizer that lie in a folder."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(url="file:///nowhere"),
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding("local/minilm", specific_model_path=str(folder))
    return lambda rows: np.stack(list(model.embed(rows, batch_size=batch)))


def main() -> None:
    """Embed the texts, and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["default", "bf16", "onnx", "openvino", "fastembed"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--each", action="store_true", help="one text at a time")
    options = parser.parse_args()
    rows = texts(options.count, column="synopsis" if options.each else "description")
    if options.how == "fastembed":
        encode, library = fastembed(options.model, options.batch), "fastembed"
    else:
        encode = sentence_transformers(options.how, options.model, options.batch)
        library = "sentence-transformers"
    encode(rows[:32])  # what is slow only once
    found: dict[str, object] = {"version": f"{library} {version(library)}"}
    if options.each:
        times = []
        for row in rows:
            start = time.perf_counter()
            encode([row])
            times.append(time.perf_counter() - start)
        found["seconds_each"] = times
    else:
        start = time.perf_counter()
        vectors = np.asarray(encode(rows), dtype=np.float32)
        found["seconds"] = time.perf_counter() - start
        if options.vectors:
            np.save(options.vectors, vectors)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    found["peak_memory_mb"] = int(peak.split()[1]) / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
