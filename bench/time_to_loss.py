"""Time to a held-out loss: pretraining a 4 × 256 encoder on English descriptions of software.

The peer is `transformers`' Trainer with BERT's recipe (bf16, fused AdamW, 15 % hidden, warm-up
6 %, linear decay to the end of 20 minutes), at the best of three learning rates. Ours has the
defaults of a recipe and 5 minutes. Both have the same tokenizer, the same training texts in pieces
of 128 tokens, and one held-out set with 15 % hidden behind [MASK] once and for all.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/time_to_loss.py --json          # ours, five minutes a seed
    UNMASK_DATA=… .venv/bin/python bench/time_to_loss.py --peer          # the peer anew: an hour

The peer's runs have as many steps as fit into its 20 minutes at the pace that it is first measured
at, alone on the machine; a curve's seconds are steps at that pace. So the long runs may share the
machine with other work. They are kept in a dated file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import PEERS, machine, run_json, versions

from unmask.data.sources import read
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import learn
from unmask.recipe import NewTokenizer, Source

HERE = Path(__file__).parent
PEER_RESULTS = HERE / "results" / "time-to-loss-peer-2026-11-23.json"
MINUTES, PEER_MINUTES = 5, 20
RATES = ("2.5e-4", "5e-4", "1e-3")
RECIPE = """\
encoder: {{shape: mini, tokenizer: {tokenizer}}}
tasks:
  words:
    kind: mlm
    train: {train}
    valid: null
    input: description
    max_length: 128
"""


def texts(split: str, language: str = "en") -> Path:
    """The descriptions of a split."""
    return Path(os.environ["UNMASK_DATA"]) / "debian" / split / f"{language}.parquet"


def prepare(folder: Path, language: str = "en") -> None:
    """The tokenizer, the recipe, and the held-out set: the first 1,000 validation texts."""
    rows = read(Source(path=str(texts("train", language))))
    tokenizer = learn(lambda: (row["description"] for row in rows), NewTokenizer(vocab_size=16384))
    text = TextInput(tokenizer, 128)
    text.save(folder / "tokenizer.json")
    train = texts("train", language)
    recipe = RECIPE.format(tokenizer=folder / "tokenizer.json", train=train)
    (folder / "recipe.yaml").write_text(recipe)
    rng = np.random.default_rng(0)
    held: dict[str, list[Any]] = {"ids": [], "truth": [], "lengths": []}
    for row in read(Source(path=str(texts("valid", language)), limit=1000)):
        encoded = text.encode(row["description"])
        free = np.flatnonzero(~encoded.special)
        hidden = rng.choice(free, max(1, round(0.15 * len(free))), replace=False)
        ids, truth = np.zeros(128, np.int64), np.full(128, -1, np.int64)
        ids[: len(encoded.ids)] = encoded.ids
        truth[hidden], ids[hidden] = encoded.ids[hidden], text.mask_id
        for key, value in (("ids", ids), ("truth", truth), ("lengths", len(encoded.ids))):
            held[key].append(value)
    arrays: dict[str, Any] = {key: np.stack(value) for key, value in held.items()}
    np.savez(folder / "held.npz", **arrays)


def peer(folder: Path, *more: str) -> dict[str, Any]:
    """One run of the peer."""
    command = [str(PEERS), str(HERE / "peer_pretrain.py"), "--train", str(texts("train"))]
    command += ["--tokenizer", str(folder / "tokenizer.json")]
    return run_json([*command, "--held-out", str(folder / "held.npz"), *more])


def ours(folder: Path, *changes: str, core: int | None = None, looks: int = 15) -> dict[str, Any]:
    """One run of ours, on all cores or on one, with so many looks at the held-out set."""
    command = [sys.executable, str(HERE / "our_curve.py"), "--recipe", str(folder / "recipe.yaml")]
    command += ["--held-out", str(folder / "held.npz"), "--looks", str(looks)]
    if core is not None:
        command += ["--core", str(core)]
    return run_json([*command, *changes])


def reached(curve: list[dict[str, float]], loss: float) -> float | None:
    """Seconds until the curve is at most at this loss, between two looks by a straight line."""
    before = None
    for look in curve:
        if look["loss"] <= loss:
            if before is None:
                return look["seconds"]
            part = (before["loss"] - loss) / (before["loss"] - look["loss"])
            return before["seconds"] + part * (look["seconds"] - before["seconds"])
        before = look
    return None


def run_peer(folder: Path) -> dict[str, Any]:
    """The peer's pace, and its curve at each learning rate."""
    pace = statistics.median(peer(folder, "--steps", "40")["tokens_per_second"] for _ in range(3))
    step = 16 * 128 / pace
    steps = round(PEER_MINUTES * 60 / step)
    runs = {}
    for rate in RATES:
        done = peer(folder, "--steps", str(steps), "--rate", rate, "--every", str(steps // 19))
        for look in done["curve"]:
            look["seconds"] = look["step"] * step
        runs[rate] = {key: done[key] for key in ("curve", "weights", "versions")}
        print("peer", rate, done["curve"][-1], file=sys.stderr)
    return {"tokens_per_second": pace, "steps": steps, "runs": runs}


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="run the peer anew and keep it")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ or (options.peer and not PEERS.exists()):
        raise SystemExit("set UNMASK_DATA to the data's folder, and run `make bench-setup` first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        if options.peer:
            PEER_RESULTS.write_text(json.dumps(run_peer(folder)))
            return
        kept = json.loads(PEER_RESULTS.read_text())
        finals = {rate: run["curve"][-1]["loss"] for rate, run in kept["runs"].items()}
        best = min(finals, key=lambda rate: finals[rate])
        runs = []
        for seed in range(options.seeds):
            runs.append(ours(folder, f"train.minutes={MINUTES}", f"train.seed={seed}"))
            print("ours", seed, runs[-1]["curve"][-1], file=sys.stderr)
    seconds = [reached(run["curve"], finals[best]) for run in runs]
    known = [s for s in seconds if s is not None]
    result = {
        "ours": statistics.mean(known) if len(known) == len(runs) else None,
        "peers": dict.fromkeys(finals, PEER_MINUTES * 60),
        "ratio": PEER_MINUTES * 60 / statistics.median(known) if known else None,
        "unit": "seconds to the peer's best final loss",
        "runs": options.seeds,
        "seconds": seconds,
        "loss": {"peer": finals, "ours": [run["curve"][-1]["loss"] for run in runs]},
        "curves": {"ours": [run["curve"] for run in runs], "peer": kept["runs"][best]["curve"]},
        "weights": {"ours": runs[0]["weights"], "peer": kept["runs"][best]["weights"]},
        "machine": machine(),
        "versions": {**versions(), **kept["runs"][best]["versions"]},
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
