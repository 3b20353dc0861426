"""Tokens a second of both ways of writing, against an encoder–decoder of `transformers`.

Ours is a bundle that writes in both ways, as recipes/multi30k-both.yaml makes it; the peer
(`bench/peer_writer.py`) has as many weights in its layers, the same vocabulary, and learnt from the
same pairs. All write the same test sentences, in turn, several rounds: the median of tokens a
second and of the ratios round by round, and the BLEU of what was written. In fp32, and in bf16
where the machine has it: each is set against the peer in the same precision.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/generate.py runs/both/bundle --json
    … bench/generate.py runs/both/bundle --peer runs/peer-writer    # trained before; else it is now
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import PEERS, machine, run_json, versions
from translate import scores

import unmask
from unmask.data.sources import read
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Source
from unmask.runtime.stored import lacks
from unmask.tasks import Generate

PEER = Path(__file__).parent / "peer_writer.py"
Way = Callable[[], dict[str, Any]]


def train_peer(bundle: Path, folder: Path, changes: list[str]) -> dict[str, Any]:
    """The peer, learnt from Multi30k, in a folder."""
    data = f"{os.environ['UNMASK_DATA']}/translation/multi30k/train.parquet"
    command = [str(PEERS), str(PEER), "--folder", str(folder), "--train", data, *changes]
    return run_json([*command, "--tokenizer", str(bundle / "tokenizer.json")])


def ours(
    model: Model, precision: str, task: Generate, sources: list[str], decode: dict[str, Any]
) -> Way:
    """One of our ways of writing the sentences."""

    def run() -> dict[str, Any]:
        model.precision = "bf16" if precision == "bf16" else "fp32"
        model.predict(task.name, sources[:4], **decode)  # what is slow only once
        began = time.perf_counter()
        answers = model.predict(task.name, sources, **decode)
        seconds = time.perf_counter() - began
        texts = [answer.short for answer in answers]
        encoded = model.text.tokenizer.encode_batch(texts, add_special_tokens=False)
        return {"seconds": seconds, "tokens": sum(map(len, encoded)), "texts": texts}

    return run


def theirs(bundle: Path, precision: str, folder: Path, file: Path, beams: int) -> Way:
    """The peer's."""
    command = [str(PEERS), str(PEER), "--folder", str(folder), "--write", str(file)]
    command += ["--tokenizer", str(bundle / "tokenizer.json"), "--beams", str(beams)]
    command += ["--precision", precision]
    return lambda: run_json([*command, "--batch", "64"])


def main() -> None:
    """Measure, print a line a way, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--peer", type=Path, help="its folder")
    parser.add_argument("--peer-options", default="", help='of its training, as "--epochs 30"')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000, help="sentences")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ or not PEERS.exists():
        raise SystemExit("set UNMASK_DATA to the data's folder, and run `make bench-setup` first")
    use_available_cpus()
    model = unmask.load(options.bundle)
    writers = [task for task in model.tasks.values() if isinstance(task, Generate)]
    path = f"{os.environ['UNMASK_DATA']}/translation/multi30k/test2016.parquet"
    rows = read(Source(path=path, limit=options.limit))
    sources, truth = [row["en"] for row in rows], [row["de"] for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        folder, trained = options.peer or Path(scratch) / "peer", None
        if options.peer is None:
            trained = train_peer(options.bundle, folder, shlex.split(options.peer_options))
        file = Path(scratch) / "sources.json"
        file.write_text(json.dumps(sources))
        ways: dict[str, Way] = {}
        for precision in ("fp32", "bf16") if lacks("torch-bf16") is None else ("fp32",):
            for way, beams in (("greedy", 1), ("beam 5", 5)):
                peer = theirs(options.bundle, precision, folder, file, beams)
                ways[f"transformers, {way}, {precision}"] = peer
            for task in writers:
                learnt = task.options.mode
                decodes: dict[str, dict[str, Any]] = {}
                if learnt != "parallel":
                    decodes["left to right, greedy"] = {"mode": "left_to_right"}
                    decodes["left to right, beam 5"] = {"mode": "left_to_right", "beams": 5}
                for rounds in (2, 4, 6) if learnt != "left_to_right" else ():
                    decodes[f"parallel, {rounds} rounds"] = {"mode": "parallel", "rounds": rounds}
                for way, decode in decodes.items():
                    name = f"{way}, {precision}"
                    ways[name] = ours(model, precision, task, sources, decode)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way, run in ways.items():
                runs[way].append(run())
                pace = runs[way][-1]["tokens"] / runs[way][-1]["seconds"]
                print(f"round {number}, {way}: {pace:.0f} tokens/s", file=sys.stderr, flush=True)
    paces = {way: [run["tokens"] / run["seconds"] for run in own] for way, own in runs.items()}
    found = {}
    for way, own in paces.items():
        kind = "beam 5" if "beam" in way else "greedy"
        peers = paces[f"transformers, {kind}, {way.rpartition(', ')[2]}"]
        ratios = [a / b for a, b in zip(own, peers, strict=True)]
        found[way] = {
            "tokens_per_second": statistics.median(own),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            **scores(runs[way][0]["texts"], truth),
        }
        print(
            f"{way}: {found[way]['tokens_per_second']:.0f} tokens/s, {found[way]['ratio']:.2f} × "
            f"the peer's, BLEU {found[way]['bleu']:.2f}",
            file=sys.stderr,
        )
    first = found.get("left to right, greedy, fp32") or found["parallel, 4 rounds, fp32"]
    result = {
        "ours": first["tokens_per_second"],
        "peers": {way: own["tokens_per_second"] for way, own in found.items() if "trans" in way},
        "ratio": first["ratio"],
        "unit": "tokens written a second",
        "runs": options.rounds,
        "ways": found,
        "sentences": len(sources),
        "peer_training": trained,
        "machine": machine(),
        "versions": {**versions(), **runs["transformers, greedy, fp32"][0]["versions"]},
    }
    print(json.dumps(result, indent=None if options.json else 2, ensure_ascii=False))


if __name__ == "__main__":
    main()
