"""One setting of ours for bench/embed.py and bench/latency.py, in a process of its own.

.venv/bin/python bench/our_embed.py openvino-fp32 --bundle BUNDLE --form FOLDER --count 500
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from embed_texts import LONGEST, texts
from machine import peak_memory_mb

from unmask import bundle
from unmask.jobs import WINDOW, batches_by_tokens, bucket, chunks
from unmask.machine.threads import available_cpus, use_available_cpus
from unmask.runtime.stored import Settings, put


def main() -> None:
    """Embed the texts, and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--form", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--each", action="store_true", help="one text at a time")
    options = parser.parse_args()
    logging.getLogger("unmask").setLevel(logging.ERROR)
    use_available_cpus()
    model = bundle.load(options.bundle)
    model.text.max_length = LONGEST
    torch_alone = options.name.startswith("torch")
    threads = available_cpus() if options.each or torch_alone else 1
    put(model, options.form, options.name, Settings(threads, options.tokens))
    rows = texts(options.count, column="synopsis" if options.each else "description")
    model.encode(rows[:32])  # what is slow only once
    found: dict[str, object] = {}
    if options.each:
        times = []
        for row in rows:
            start = time.perf_counter()
            model.encode(row)
            times.append(time.perf_counter() - start)
        found["seconds_each"] = times
    else:
        start = time.perf_counter()
        vectors = model.encode(rows)
        found["seconds"] = time.perf_counter() - start
        if options.vectors:
            np.save(options.vectors, vectors.numpy())
    lengths = [len(model.tokenize(row).ids) for row in rows]
    grid = sum(
        len(batch) * bucket(max(own[i] for i in batch))
        for own in chunks(lengths, WINDOW)
        for batch in batches_by_tokens(own, options.tokens, padded=True)
    )
    config = model.encoder.config
    D, L = config.hidden_size, config.num_layers
    weights = 4 * D * D + 2 * D * config.intermediate_size
    found |= {
        "tokens": sum(lengths),
        "padding": 0.0 if torch_alone else 1 - sum(lengths) / grid,
        "operations": sum(2 * n * weights * L + 4 * n * n * D * L for n in lengths),
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(found))


def ceiling(dtype: torch.dtype = torch.float32) -> float:
    """Operations a second of a large matrix product, on all processors."""
    torch.set_num_threads(available_cpus())
    a = torch.randn(2048, 2048).to(dtype)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, a)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
