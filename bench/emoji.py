"""Emoji: from their names in 25 languages to their pictures, for emoji that no training row has.

    UNMASK_DATA=… .venv/bin/python bench/emoji.py rows runs/emoji-rows
    unmask train recipes/emoji-names.yaml --out runs/emoji-names
    … bench/emoji.py score runs/emoji-names/bundle runs/emoji-rows --sheet docs/figures/emoji.png

Recall at 1, 5 and 10 by language among the pictures of all test emoji. The contact sheet shows for
some English names what was found, best first, the right one framed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine, versions
from PIL import Image, ImageDraw, ImageFont
from results import RESULTS

import unmask

DEPTHS = (1, 5, 10)
Rows = list[dict[str, Any]]


def rows(split: str) -> Rows:
    """The emoji of a split: a picture, and its names by language."""
    table = pq.read_table(f"{os.environ['UNMASK_DATA']}/emoji/{split}.parquet")
    return [
        {
            "id": row["id"],
            "group": row["group"],
            "image": row["image"],
            "names": {text["language"]: text["name"] for text in row["texts"]},
        }
        for row in table.to_pylist()
    ]


def generate(folder: Path) -> None:
    """Write train, valid and test."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        pq.write_table(pa.Table.from_pylist(rows(split)), folder / f"{split}.parquet")


def order(queries: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """The pictures' numbers for each query, best first: (n, m)."""
    found: np.ndarray = (-queries @ pictures.T).argsort(axis=1, kind="stable")
    return found


def score(answers: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Recall by language, and the mean of all."""
    pictures = np.stack([answer.vectors["image"] for answer in answers])
    languages = sorted({name for answer in answers for name in answer.vectors} - {"image"})
    found: dict[str, dict[str, float]] = {}
    for language in languages:
        own = [i for i, answer in enumerate(answers) if language in answer.vectors]
        ranked = order(np.stack([answers[i].vectors[language] for i in own]), pictures)
        place = (ranked == np.array(own)[:, None]).argmax(1)
        found[language] = {f"recall_at_{k}": float((place < k).mean()) for k in DEPTHS}
    metrics = found[languages[0]]
    return {
        "mean": {m: float(np.mean([one[m] for one in found.values()])) for m in metrics}
    } | found


def sheet(rows: Rows, answers: Sequence[Any], count: int, seed: int) -> Image.Image:
    """A line for each of some names: the name, and the five nearest pictures."""
    chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False).tolist()
    pictures = np.stack([answer.vectors["image"] for answer in answers])
    ranked = order(np.stack([answers[i].vectors["en"] for i in chosen]), pictures)
    page = Image.new("RGB", (220 + 5 * 44, count * 44 + 8), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for line, (i, best) in enumerate(zip(chosen, ranked[:, :5].tolist(), strict=True)):
        top = line * 44 + 8
        pen.text((8, top + 8), rows[i]["names"]["en"][:28], fill="black", font=font)
        for column, j in enumerate(best):
            left = 220 + column * 44
            cell = Image.open(io.BytesIO(rows[j]["image"])).convert("RGBA")
            page.paste(cell, (left, top), cell)
            if j == i:
                frame = (left - 3, top - 3, left + cell.width + 2, top + cell.height + 2)
                pen.rectangle(frame, outline="green", width=2)
    return page


def main() -> None:
    """Write the rows, or score a model on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("rows").add_argument("folder", type=Path)
    scores = commands.add_parser("score")
    scores.add_argument("bundle", type=Path)
    scores.add_argument("folder", type=Path)
    scores.add_argument("--sheet", type=Path, help="where the contact sheet is written, as a PNG")
    scores.add_argument("--seed", type=int, default=0, help="of the names on the sheet")
    options = parser.parse_args()
    if options.what == "rows":
        generate(options.folder)
        return
    rows = pq.read_table(options.folder / "test.parquet").to_pylist()
    answers = unmask.load(options.bundle).predict("emoji", rows)
    found = score(answers)
    for language, own in found.items():
        print(f"{language}: " + ", ".join(f"{k} {v:.3f}" for k, v in own.items()))
    if options.sheet:
        sheet(rows, answers, 12, options.seed).save(options.sheet)
    result = {"ours": found, "candidates": len(rows), "machine": machine(), "versions": versions()}
    (RESULTS / "emoji-names.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
