"""One space for three modalities: the numbers 0 to 99 spoken, handwritten, and in 20 languages.

    UNMASK_DATA=… .venv/bin/python bench/one_space.py rows runs/numbers    # writes the rows
    unmask train recipes/one-space.yaml --out runs/one-space
    … bench/one_space.py score runs/one-space/bundle runs/numbers

A number is said by joined recordings of its digits (Free Spoken Digit Dataset), written by joined
digits of scikit-learn's handwritten ones, and in words by `num2words`. Held out are: the published
test recordings; a fifth of the handwritten digits; ten numbers altogether, one of each ten and one
of each unit, so that their parts are known from others; and pictures for two languages, whose words
are only ever seen beside words and sound. Retrieval is among 100 candidates, each number once:
chance is 1 %.
"""

from __future__ import annotations

import argparse
import io
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine, versions
from num2words import num2words
from PIL import Image
from results import RESULTS
from sklearn.datasets import load_digits
from spoken import Digits, joined, speakers

import unmask

LANGUAGES = (
    "ar", "cs", "da", "de", "en", "es", "fi", "fr", "he", "hu",
    "id", "it", "ja", "ko", "lt", "nl", "pl", "pt", "ru", "tr",
)  # fmt: skip
UNSEEN_WITH_PICTURES = ("fi", "pt")
# Numbers that no training row has: 1, 14, 27, 30, 43, 56, 69, 72, 85, 98.
NEW = tuple(10 * ten + (3 * ten + 1) % 10 for ten in range(10))
SETS = 5  # test rows of each number


def words(languages: tuple[str, ...], number: int) -> dict[str, str | None]:
    """A number in words; null in the languages that are left out."""
    return {x: num2words(number, lang=x) if x in languages else None for x in LANGUAGES}


def written(number: int, pictures: dict[int, list[np.ndarray]], rng: np.random.Generator) -> bytes:
    """Its digits side by side, 16 × 16 each, as a PNG: light on dark."""
    own = [pictures[int(d)] for d in str(number)]
    cells = [some[int(rng.integers(len(some)))] for some in own]
    pixels = np.concatenate([np.kron(c, np.ones((2, 2))) for c in cells], axis=1) * (255 / 16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def said(number: int, known: dict[str, Digits], rng: np.random.Generator) -> bytes:
    """Its digits one behind the other, by one speaker."""
    own = known[list(known)[int(rng.integers(len(known)))]]
    parts = [own[int(d)][int(rng.integers(len(own[int(d)])))] for d in str(number)]
    return joined(parts, rng)


def handwriting(seed: int) -> tuple[dict[int, list[np.ndarray]], dict[int, list[np.ndarray]]]:
    """Four fifths of scikit-learn's digits by label, and the rest."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    cut = len(order) * 4 // 5
    sides: list[dict[int, list[np.ndarray]]] = []
    for part in (order[:cut], order[cut:]):
        own: dict[int, list[np.ndarray]] = {d: [] for d in range(10)}
        for i in part:
            own[int(found.target[i])].append(found.images[i])
        sides.append(own)
    return sides[0], sides[1]


def generate(folder: Path, count: int, seed: int, most: int) -> None:
    """Write train.parquet, of numbers up to `most`, and test.parquet."""
    rng = np.random.default_rng(seed)
    learnt, held = handwriting(seed)
    paired = tuple(x for x in LANGUAGES if x not in UNSEEN_WITH_PICTURES)
    numbers = [n for n in range(most + 1) if n not in NEW]
    sides = (("train", learnt, speakers("train")), ("test", held, speakers("test")))
    folder.mkdir(parents=True, exist_ok=True)
    for name, pictures, voices in sides:
        rows: list[dict[str, Any]] = []
        chosen = rng.choice(numbers, count).tolist() if name == "train" else [*range(100)] * SETS
        for i, number in enumerate(chosen):
            seen = name == "test" or i % 3 > 0  # a third of the training rows has no picture
            rows.append(
                {
                    "number": number,
                    "audio": said(number, voices, rng),
                    "image": written(number, pictures, rng) if seen else None,
                    "names": words(paired if name == "train" and seen else LANGUAGES, number),
                }
            )
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def hits(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Whether each number's query is nearest to its own candidate: (100,)."""
    found: np.ndarray = (queries @ candidates.T).argmax(1) == np.arange(len(queries))
    return found


def score(bundle: Path, folder: Path) -> dict[str, Any]:
    """Top-1 among 100 candidates in all six directions, for known and new numbers."""
    rows = pq.read_table(folder / "test.parquet").to_pylist()
    answers = unmask.load(bundle).predict("space", rows)
    table: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), 100):
        own = answers[start : start + 100]
        views = {v: np.stack([a.vectors[v] for a in own]) for v in own[0].vectors}
        for a, b in permutations(views, 2):
            if {a, b} & {"image", "audio"}:
                table.setdefault(f"{a} to {b}", []).append(hits(views[a], views[b]))
    new = np.isin(np.arange(100), NEW)
    found: dict[str, Any] = {}
    for group, languages in (
        ("all", LANGUAGES),
        ("never paired with pictures", UNSEEN_WITH_PICTURES),
    ):
        for a, b in permutations(("text", "image", "audio"), 2):
            pairs = [
                np.stack(table[f"{x} to {y}"])  # (SETS, 100)
                for x in (languages if a == "text" else (a,))
                for y in (languages if b == "text" else (b,))
            ]
            right = np.stack(pairs)
            if group == "all" or "text" in (a, b):
                found[f"{a} to {b}, {group}"] = {
                    "all numbers": float(right.mean()),
                    "learnt numbers": float(right[..., ~new].mean()),
                    "new numbers": float(right[..., new].mean()),
                }
    return found


def main() -> None:
    """Write the rows, or score a model on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="what", required=True)
    rows = commands.add_parser("rows")
    rows.add_argument("folder", type=Path)
    rows.add_argument("--train", type=int, default=6000)
    rows.add_argument("--seed", type=int, default=0)
    rows.add_argument("--most", type=int, default=99, help="the largest number learnt from")
    scores = commands.add_parser("score")
    scores.add_argument("bundle", type=Path)
    scores.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.what == "rows":
        generate(options.folder, options.train, options.seed, options.most)
        return
    found = score(options.bundle, options.folder)
    for name, own in found.items():
        print(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in own.items()))
    result = {"ours": found, "machine": machine(), "versions": versions()}
    (RESULTS / "one-space.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
