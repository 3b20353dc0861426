"""Embedding mixed-length texts in bulk: our forms against sentence-transformers' and fastembed's.

All-MiniLM-L6-v2 on descriptions of Debian packages, cut to 256 tokens. Every setting runs in a
process of its own, all in turn, several rounds; ratios are of the same round. Prints texts a
second, the ratio to sentence-transformers' default, the share of padding and of the measured matrix
product, cosines to the default's vectors, and peak memory. A peer whose library is missing is said
to be, and left out.

    UNMASK_DATA=… .venv/bin/python bench/embed.py --count 5000 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed_texts import LONGEST, MODEL, texts
from machine import EMBED_PEERS, machine, run_json, versions
from our_embed import ceiling

from unmask import bundle
from unmask.interop import resolve
from unmask.loading import load
from unmask.runtime.export import export
from unmask.runtime.stored import lacks
from unmask.tuning.making import make

HERE = Path(__file__).parent
OURS = ["torch-fp32", "openvino-fp32", "onnxruntime-fp32", "openvino-bf16", "openvino-int8"]
THEIRS = ["default", "bf16", "onnx", "openvino", "fastembed"]
BASE = "sentence-transformers default"


def prepare(work: Path, names: list[str]) -> dict[str, Path]:
    """The bundle, our forms, and what peers read, as far as this machine can make them."""
    logging.getLogger("unmask").setLevel(logging.ERROR)
    model = load(MODEL)
    bundle.save(model, work / "bundle")
    found = {}
    for name in names:
        if (reason := lacks(name)) is not None:
            print(f"{name}: left out, {reason}", file=sys.stderr)
            continue
        found[name] = work / name
        found[name].mkdir()
        make(model, work / "bundle", name, found[name], texts(300, "train"))
    export(model, work / "exported", "onnx")
    source = resolve(MODEL)
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (source / name).is_file():
            (work / "exported" / name).write_bytes((source / name).read_bytes())
    place = work / "exported" / "tokenizer_config.json"  # where fastembed finds where to cut
    place.write_text(json.dumps(json.loads(place.read_text()) | {"model_max_length": LONGEST}))
    return found


def commands(
    work: Path, forms: dict[str, Path], peers: Path, theirs: list[str], more: list[str]
) -> dict[str, list[str]]:
    """The command of each setting."""
    found = {}
    for how in theirs:
        folder = work / "exported" if how == "fastembed" else resolve(MODEL)
        name = how if how == "fastembed" else f"sentence-transformers {how}"
        script = [str(peers), str(HERE / "peer_embed.py"), how, "--model", str(folder)]
        found[name] = [*script, *more]
    for name, folder in forms.items():
        script = [sys.executable, str(HERE / "our_embed.py"), name, "--form", str(folder)]
        found[name] = [*script, "--bundle", str(work / "bundle"), *more]
    return found


def rounds(settings: dict[str, list[str]], count: int) -> dict[str, list[dict[str, Any]]]:
    """What each setting took in each round; a setting that cannot run is left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for number in range(count):
        for name in list(found):
            try:
                found[name].append(run_json(settings[name]))
            except SystemExit as error:
                if number or name == BASE:
                    raise
                print(f"{name}: left out, {str(error).splitlines()[-1]}", file=sys.stderr)
                del found[name]
    return found


def asked(about: str | None, count: int) -> argparse.Namespace:
    """The options, of bench/latency.py too: so many texts unless told otherwise."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0] if about else "")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", nargs="*", default=OURS)
    parser.add_argument("--theirs", nargs="*", default=THEIRS)
    parser.add_argument("--peers", type=Path, default=EMBED_PEERS, help="their Python")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run, print a line a setting, and write the JSON."""
    options = asked(__doc__, 5000)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        forms = prepare(work, options.ours)
        more = ["--count", str(options.count)]
        settings = commands(work, forms, options.peers, options.theirs, more)
        for name, command in settings.items():
            command += ["--vectors", str(work / f"{name}.npy")]
        taken = rounds(settings, options.rounds)
        known = next(iter(forms))
        shape = taken[known][0]  # the work there is, without padding
        top = ceiling()
        base = np.load(work / f"{BASE}.npy")
        rows = {}
        for name, own in taken.items():
            vectors = np.load(work / f"{name}.npy")
            cosine = (vectors * base).sum(1) / np.linalg.norm(vectors, axis=1)
            cosine /= np.linalg.norm(base, axis=1)
            seconds = statistics.median(one["seconds"] for one in own)
            ratios = [a["seconds"] / b["seconds"] for a, b in zip(taken[BASE], own, strict=True)]
            rows[name] = {
                "texts_per_second": options.count / seconds,
                "ratio": statistics.median(ratios),
                "ratios": ratios,
                "share_of_matrix_product": shape["operations"] / seconds / top,
                "padding": own[0].get("padding"),
                "cosine_mean": float(cosine.mean()),
                "cosine_min": float(cosine.min()),
                "peak_memory_mb": max(one["peak_memory_mb"] for one in own),
                "version": own[0].get("version"),
            }
    ours = {name: row for name, row in rows.items() if name in forms}
    peers = {name: row for name, row in rows.items() if name not in forms}
    best = max(ours, key=lambda name: ours[name]["ratio"])
    strongest = max(peers, key=lambda name: peers[name]["ratio"])
    result = {
        "ours": ours,
        "peers": peers,
        "ratio": ours[best]["ratio"] / peers[strongest]["ratio"],
        "ratio_of": [best, strongest],
        "unit": "texts a second",
        "texts": options.count,
        "tokens": shape["tokens"],
        "ceiling_gflops": top / 1e9,
        "ceiling_gflops_bf16": ceiling(torch.bfloat16) / 1e9,
        "runs": options.rounds,
        "machine": machine(),
        "versions": versions(),
    }
    for name, row in rows.items():
        padding = "–" if row["padding"] is None else f"{row['padding']:.1%}"
        print(
            f"{name}: {row['texts_per_second']:.1f} texts/s, {row['ratio']:.2f} x default, "
            f"{row['share_of_matrix_product']:.0%} of the matrix product, padding {padding}, "
            f"cosine {row['cosine_mean']:.6f} (least {row['cosine_min']:.6f}), "
            f"{row['peak_memory_mb']:.0f} MB",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(result))
    out = HERE / "results" / f"embed-{date.today()}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
