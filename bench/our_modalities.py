"""Prepared inputs through an encoder of ours, packed; run by `bench/modalities.py`."""

from __future__ import annotations

import argparse
import json
import time

import modalities
import numpy as np
import torch

from unmask.batch import Batch, Example, Segment, Sequence, collate
from unmask.encoder import Encoder
from unmask.machine.memory import reuse_freed_memory
from unmask.machine.threads import use_available_cpus
from unmask.model import ROW_TOKENS

NAMES = {"pictures": "image", "sound": "audio"}


def sequences(arrays: modalities.Arrays) -> list[Sequence]:
    """A sequence a row; what is not text stands behind a first token."""
    cuts = np.cumsum(arrays["lengths"])[:-1]
    values = np.split(arrays["values"], cuts)
    kind = str(arrays["kind"])
    if kind == "text":
        return [Sequence((Segment(own),)) for own in values]
    places = np.split(arrays["place"], cuts) if "place" in arrays else [None] * len(values)
    first = Segment(np.zeros(1, np.int64))
    return [
        Sequence((first, Segment(own, modality=NAMES[kind], place=place)))
        for own, place in zip(values, places, strict=True)
    ]


def main() -> None:
    """Time one pass over all rows, and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    use_available_cpus()
    reuse_freed_memory()
    torch.manual_seed(0)
    encoder = Encoder(modalities.shape(options.shape)).eval()
    with np.load(options.inputs) as file:
        rows = sequences(dict(file))
    parts = [rows[i : i + options.batch] for i in range(0, len(rows), options.batch)]

    def run(part: list[Sequence]) -> Batch:
        first = np.zeros(1, np.int64)
        batch = collate([Example((one,), (first,), {}) for one in part], ROW_TOKENS)
        encoder(batch)
        return batch

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        run(parts[0])  # what is slow only once
        began = time.perf_counter()
        batches = [run(part) for part in parts]
        seconds = time.perf_counter() - began
    real, grid = sum(b.tokens for b in batches), sum(b.owner.numel() for b in batches)
    print(json.dumps({"seconds": seconds, "positions": real, "padding": 1 - real / grid}))


if __name__ == "__main__":
    main()
