"""Pretraining speed: a masked-language step of ours against `transformers`' BertForMaskedLM.

The same shape, batches, masks, dropout and optimiser (AdamW, clipping at 1) on both sides; full
rows of 128 tokens, so that nothing is won by packing. Each measurement is a process of its own,
taken in turn; the figure of a process is its median step after two to warm up. Compiled, the peer
is measured once, and in every round only where that makes it faster.

    make bench-setup
    .venv/bin/python bench/pretrain.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import PEERS, machine, run_json, versions

HERE = Path(__file__).parent
T = 128
HIDDEN = 19  # of the 126 tokens of a row: 15 %
SHAPES: dict[str, dict[str, int]] = {
    "6x384": {"layers": 6, "width": 384, "heads": 12, "vocabulary": 30522, "rows": 32},
    "4x256": {"layers": 4, "width": 256, "heads": 4, "vocabulary": 16384, "rows": 64},
}
PEER_SETTINGS = {
    "default (fp32)": [],
    "bf16": ["--bf16"],
    "bf16, fused AdamW": ["--bf16", "--fused"],
}
COMPILED = "bf16, fused AdamW, compiled"


def batches(shape: dict[str, int], steps: int, path: Path) -> None:
    """Random tokens, 15 % of them hidden as in BERT: [MASK] 80 %, random 10 %, itself 10 %."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, shape["vocabulary"], (steps, shape["rows"], T))
    truth = np.full(ids.shape, -100)
    for row, answers in zip(ids.reshape(-1, T), truth.reshape(-1, T), strict=True):
        where = rng.choice(np.arange(1, T - 1), HIDDEN, replace=False)
        answers[where] = row[where]
        fate = rng.random(HIDDEN)
        row[where[fate < 0.8]] = 4
        swapped = where[fate >= 0.9]
        row[swapped] = rng.integers(5, shape["vocabulary"], len(swapped))
    np.savez(path, ids=ids, truth=truth)


def products(shape: dict[str, int]) -> float:
    """Floating-point operations of a step's matrix products, the hidden positions' head only."""
    D, V, L = shape["width"], shape["vocabulary"], shape["layers"]
    tokens, hidden = shape["rows"] * T, shape["rows"] * HIDDEN
    forward = L * (tokens * 12 * D * D + 2 * tokens * T * D) + hidden * (D * D + D * V)
    return 3.0 * 2 * forward  # a product has a multiplication and an addition, and two gradients


def ceiling(size: int = 2048, seconds: float = 3.0) -> float:
    """bf16 products of 2048³ on this machine, in floating-point operations a second."""
    a, b = torch.randn(2, size, size).bfloat16()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        began = time.perf_counter()
        a @ b
        found.append(2 * size**3 / (time.perf_counter() - began))
    return statistics.median(found)


def one(script: str, python: Path, path: Path, shape: dict[str, int], *more: str) -> dict[str, Any]:
    """One process: the median of its steps, and its peak memory."""
    command = [str(python), str(HERE / script), "--batches", str(path), *more]
    for key in ("layers", "width", "heads", "vocabulary"):
        command += [f"--{key}", str(shape[key])]
    done = run_json(command)
    seconds = statistics.median(done["seconds"][2:])
    return done | {"tokens_per_second": done["tokens"] / seconds, "step_seconds": seconds}


def measure(shape: dict[str, int], rounds: int, steps: int) -> dict[str, Any]:
    """Ours and each setting of the peer, in turn."""
    ours = Path(sys.executable)
    found: dict[str, list[dict[str, Any]]] = {"ours": []}
    settings = dict(PEER_SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batches.npz"
        batches(shape, steps, path)
        for number in range(rounds):
            found["ours"].append(one("our_step.py", ours, path, shape))
            for setting, flags in settings.items():
                found.setdefault(setting, []).append(
                    one("peer_step.py", PEERS, path, shape, *flags)
                )
            if not number:
                flags = [*PEER_SETTINGS["bf16, fused AdamW"], "--compile"]
                found[COMPILED] = [one("peer_step.py", PEERS, path, shape, *flags)]
                uncompiled = max(_speed(found[setting][0]) for setting in settings)
                if _speed(found[COMPILED][0]) > uncompiled:
                    settings[COMPILED] = flags
            print({k: round(_speed(v[-1])) for k, v in found.items()}, file=sys.stderr)
        profile = one("our_step.py", ours, path, shape, "--profile")["profile"]
    speed = {name: statistics.median(map(_speed, own)) for name, own in found.items()}
    memory = {
        name: statistics.median(run["peak_memory_mb"] for run in own) for name, own in found.items()
    }
    ratios = {
        name: [_speed(a) / _speed(b) for a, b in zip(found["ours"], own, strict=False)]
        for name, own in found.items()
        if name != "ours"
    }
    best = max((name for name in speed if name != "ours"), key=lambda name: speed[name])
    step = statistics.median(run["step_seconds"] for run in found["ours"])
    top = ceiling()
    return {
        "ours": speed.pop("ours"),
        "peers": speed,
        "best": best,
        "ratios": {name: statistics.median(own) for name, own in ratios.items()},
        "ratio_range": {name: [min(own), max(own)] for name, own in ratios.items()},
        "peak_memory_mb": memory,
        "last_loss": {name: own[-1]["losses"][-1] for name, own in found.items()},
        "ceiling_gflops": top / 1e9,
        "share_of_ceiling": products(shape) / step / top,
        "profile": profile,
        "peer_versions": found[best][0]["versions"],
    }


def _speed(run: dict[str, Any]) -> float:
    return float(run["tokens_per_second"])


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="in each process")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    options = parser.parse_args()
    if not PEERS.exists():
        raise SystemExit("run `make bench-setup` first")
    found = {name: measure(SHAPES[name], options.rounds, options.steps) for name in options.shapes}
    peer = found[options.shapes[0]]["peer_versions"]
    result = {
        "ours": {name: own["ours"] for name, own in found.items()},
        "peers": {name: own["peers"] for name, own in found.items()},
        "ratio": min(own["ratios"][own["best"]] for own in found.values()),
        "unit": "tokens a second",
        "runs": options.rounds,
        "shapes": found,
        "machine": machine(),
        "versions": {**versions(), **peer},
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
