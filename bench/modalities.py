"""Text, pictures and sound through one encoder, packed; `transformers`' models, padded.

    UNMASK_DATA=… .venv/bin/python bench/modalities.py
    … bench/modalities.py --count 32 --batch 8 --rounds 1 --shape tiny --result /tmp/tried.json

Each modality's inputs are made ready once: descriptions of packages as tokens, emoji of one size,
written numbers of two sizes, and recordings of strings of digits as log-mel frames. Then the same
inputs go through an encoder of ours and through a model of the same depth and widths: BertModel for
text, ViTModel for pictures, and for sound BertModel behind the stem that ours has. Ours lays a
batch's rows side by side, as `unmask` does in training and in answering with torch; the peer pads
to the longest of the batch, in the order that the rows come in, and sorted by length, which is the
best that padding can do. What is timed is laying out and the forward pass, hidden states of all
positions, with weights drawn at random.

Every setting runs in a process of its own, all in turn, several rounds; ratios are of the same
round. Results go to bench/results/modalities-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import cube_rows
import emoji
import numpy as np
from embed_texts import LONGEST, texts
from machine import PEERS, machine, run_json, versions
from one_space import handwriting, written
from results import RESULTS

from unmask.encoder.config import EncoderConfig, preset
from unmask.inputs.audio import AudioInput
from unmask.inputs.image import ImageInput
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import learn
from unmask.recipe import AudioOptions, ImageOptions, NewTokenizer

IMAGE = ImageOptions(size=32, patch=4)
AUDIO = AudioOptions(rate=8000, mels=40, frames=4, seconds=10)
VOCABULARY = 8192
Arrays = dict[str, np.ndarray]


def shape(name: str) -> EncoderConfig:
    """An encoder as BERT is, that reads everything."""
    return preset(name, "classic", vocab_size=VOCABULARY, image=IMAGE, audio=AUDIO)


def words(count: int) -> Arrays:
    """Tokens of descriptions, special ones and all."""
    rows = texts(count)
    known = texts(4096, "train")
    text = TextInput(learn(lambda: known, NewTokenizer(vocab_size=VOCABULARY)))
    whole = [text.encode(row, max_length=LONGEST).sequence() for row in rows]
    ids = [np.concatenate([part.values for part in one.segments]) for one in whole]
    return {"values": np.concatenate(ids), "lengths": np.array([len(one) for one in ids])}


def pictures(cells: list[bytes]) -> Arrays:
    """Patches with their places for ours, and for the peer the pixels that they are of."""
    reader = ImageInput(IMAGE)
    parts = [reader.segment(cell, None)[0] for cell in cells]
    pixels = [reader.values(cell) for cell in cells]
    return {
        "values": np.concatenate([part.values for part in parts]),
        "place": np.concatenate([part.place for part in parts if part.place is not None]),
        "lengths": np.array([len(part.values) for part in parts]),
        "pixels": np.concatenate([p.ravel() for p in pixels]),
        "sizes": np.array([p.shape[:2] for p in pixels]),
    }


def sounds(count: int) -> Arrays:
    """Frames of recordings."""
    reader = AudioInput(AUDIO)
    cells = [row["audio"] for row in cube_rows.connected(count, 0)["train"]]
    parts = [reader.segment(cell, None)[0].values for cell in cells]
    return {"values": np.concatenate(parts), "lengths": np.array([len(part) for part in parts])}


def inputs(count: int) -> Iterator[tuple[str, Arrays]]:
    """What each modality has to read."""
    rng = np.random.default_rng(0)
    yield "text", words(count)
    drawn = rng.choice([row["image"] for row in emoji.rows("train")], count).tolist()
    yield "pictures of one size", pictures(drawn)
    numbers, (known, _) = rng.integers(0, 100, count), handwriting(0)
    yield "pictures of two sizes", pictures([written(n, known, rng) for n in numbers])
    yield "sound", sounds(count)


def settings(arrays: Arrays, file: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each setting: ours, the peer, and the peer with rows sorted by length."""
    config = shape(options.shape)
    more = [str(file), "--batch", str(options.batch)]
    ours = [sys.executable, str(Path(__file__).with_name("our_modalities.py")), *more]
    theirs = [str(options.python), str(Path(__file__).with_name("peer_modalities.py")), *more]
    theirs += ["--layers", str(config.num_layers), "--width", str(config.hidden_size)]
    theirs += ["--heads", str(config.num_heads), "--vocabulary", str(VOCABULARY)]
    theirs += ["--patch", str(IMAGE.patch)]
    found = {"ours": [*ours, "--shape", options.shape], "padded": theirs}
    if len(set(arrays["lengths"])) > 1:
        found["padded, sorted by length"] = [*theirs, "--sorted"]
    if options.bf16:
        found = {name: [*command, "--bf16"] for name, command in found.items()}
    return found


def compared(arrays: Arrays, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Medians and spread of all settings of one modality, and ratios to the better peer."""
    commands = settings(arrays, file, options)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            taken[name].append(run_json(command))
    positions = taken["ours"][0]["positions"]
    rows = {}
    for name, own in taken.items():
        seconds = [one["seconds"] for one in own]
        middle = statistics.median(seconds)
        rows[name] = {
            "rows_per_second": len(arrays["lengths"]) / middle,
            "positions_per_second": positions / middle,
            "seconds": seconds,
            "padding": own[0]["padding"],
        }
    peers = [name for name in rows if name != "ours"]
    best = min(peers, key=lambda name: statistics.median(rows[name]["seconds"]))
    pairs = zip(rows["ours"]["seconds"], rows[best]["seconds"], strict=True)
    ratios = [theirs / ours for ours, theirs in pairs]
    return {
        "rows": len(arrays["lengths"]),
        "positions": positions,
        "settings": rows,
        "best_peer": best,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peer": taken[best][0]["versions"],
    }


def main() -> None:
    """Measure each modality, print a line a setting, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1024, help="rows of each modality")
    parser.add_argument("--batch", type=int, default=32, help="rows that go through together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", default="mini", choices=["tiny", "mini", "small", "base"])
    parser.add_argument("--bf16", action="store_true", help="both under autocast")
    parser.add_argument("--python", type=Path, default=PEERS, help="of the peers' environment")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, arrays in inputs(options.count):
            file = Path(folder) / f"{name}.npz"
            np.savez(file, kind=name.split()[0], **arrays)  # type: ignore[arg-type]
            found[name] = compared(arrays, file, options)
            for setting, row in found[name]["settings"].items():
                print(
                    f"{name}, {setting}: {row['rows_per_second']:.1f} rows/s, "
                    f"{row['positions_per_second']:.0f} positions/s, padding {row['padding']:.1%}",
                    file=sys.stderr,
                )
    result = {
        "ours": {name: own["settings"].pop("ours") for name, own in found.items()},
        "peers": {name: own.pop("settings") for name, own in found.items()},
        "ratio": {name: own["ratio"] for name, own in found.items()},
        "unit": "positions a second",
        "runs": options.rounds,
        "batch": options.batch,
        "shape": options.shape,
        "precision": "bf16" if options.bf16 else "fp32",
        "modalities": found,
        "machine": machine(),
        "versions": versions(),
    }
    file = options.result or RESULTS / f"modalities-{date.today()}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
