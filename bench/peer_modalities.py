"""Prepared inputs through `transformers`' models, padded; run by `bench/modalities.py`.

In the peers' own environment; it knows nothing of unmask, and prints one JSON object.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]
Made = tuple[Callable[[list[int]], None], int]  # what runs some rows; positions beside the values


def padded(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows in one array, zeros behind each, and the mask of what is real."""
    longest = max(len(row) for row in rows)
    values = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        values[i, : len(row)], mask[i, : len(row)] = row, 1
    return torch.from_numpy(values), torch.from_numpy(mask)


def text(arrays: Arrays, sizes: dict[str, Any], vocabulary: int) -> Made:
    """BertModel on tokens."""
    config = transformers.BertConfig(vocab_size=vocabulary, **sizes)
    model: torch.nn.Module = transformers.BertModel(config, add_pooling_layer=False)
    model.eval()
    rows = np.split(arrays["values"], np.cumsum(arrays["lengths"])[:-1])

    def run(which: list[int]) -> None:
        ids, mask = padded([rows[i] for i in which])
        model(input_ids=ids, attention_mask=mask)

    return run, 0


def pictures(arrays: Arrays, sizes: dict[str, Any], patch: int) -> Made:
    """ViTModel on pixels; in a batch of several sizes, all are as large as the largest."""
    high, wide = arrays["sizes"].max(0).tolist()
    config = transformers.ViTConfig(image_size=(high, wide), patch_size=patch, **sizes)
    model: torch.nn.Module = transformers.ViTModel(config, add_pooling_layer=False)
    model.eval()
    flat = np.split(arrays["pixels"], np.cumsum(3 * arrays["sizes"].prod(1))[:-1])
    pairs = zip(flat, arrays["sizes"], strict=True)
    rows = [own.reshape(*size, 3).transpose(2, 0, 1) for own, size in pairs]

    def run(which: list[int]) -> None:
        own = [rows[i] for i in which]
        h, w = (max(row.shape[axis] for row in own) for axis in (1, 2))
        pixels = np.zeros((len(own), 3, h, w), np.float32)
        for i, row in enumerate(own):
            pixels[i, :, : row.shape[1], : row.shape[2]] = row
        model(torch.from_numpy(pixels), interpolate_pos_encoding=(h, w) != (high, wide))

    return run, 1


def sound(arrays: Arrays, sizes: dict[str, Any]) -> Made:
    """BertModel on frames, behind the stem that ours has and a first vector."""
    config = transformers.BertConfig(vocab_size=2, **sizes)
    model: torch.nn.Module = transformers.BertModel(config, add_pooling_layer=False)
    model.eval()
    D = sizes["hidden_size"]
    stem = nn.Sequential(nn.Linear(arrays["values"].shape[1], D), nn.GELU(), nn.Linear(D, D))
    rows = np.split(arrays["values"], np.cumsum(arrays["lengths"])[:-1])
    first = torch.zeros(1, 1, D)

    def run(which: list[int]) -> None:
        frames, mask = padded([rows[i] for i in which])
        x = torch.cat([first.expand(len(which), 1, D), stem(frames)], dim=1)
        mask = torch.cat([torch.ones(len(which), 1, dtype=mask.dtype), mask], dim=1)
        model(inputs_embeds=x, attention_mask=mask)

    return run, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs")
    parser.add_argument("--sorted", action="store_true", help="by length")
    parser.add_argument("--bf16", action="store_true")
    for size in ("--batch", "--layers", "--width", "--heads", "--vocabulary", "--patch"):
        parser.add_argument(size, type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": options.layers,
        "hidden_size": options.width,
        "num_attention_heads": options.heads,
        "intermediate_size": 4 * options.width,
    }
    with np.load(options.inputs) as file:
        arrays = dict(file)
    kind = str(arrays["kind"])
    if kind == "text":
        run, more = text(arrays, sizes, options.vocabulary)
    elif kind == "pictures":
        run, more = pictures(arrays, sizes, options.patch)
    else:
        run, more = sound(arrays, sizes)
    lengths = arrays["lengths"] + more
    order = np.argsort(lengths, kind="stable") if options.sorted else np.arange(len(lengths))
    parts = [order[i : i + options.batch].tolist() for i in range(0, len(order), options.batch)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        run(parts[0])  # what is slow only once
        began = time.perf_counter()
        for part in parts:
            run(part)
        seconds = time.perf_counter() - began
    real, grid = int(lengths.sum()), sum(len(p) * int(lengths[p].max()) for p in parts)
    names = {"transformers": transformers.__version__, "torch": torch.__version__}
    found = {"seconds": seconds, "positions": real, "padding": 1 - real / grid, "versions": names}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
