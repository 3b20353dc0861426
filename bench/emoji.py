"""Emoji: from their names in 25 languages to their pictures, for emoji that no training row has.

    UNMASK_DATA=… .venv/bin/python bench/emoji.py rows runs/emoji-rows
    unmask train recipes/emoji-names.yaml --out runs/emoji-names
    … bench/emoji.py score runs/emoji-names/bundle runs/emoji-rows --sheet runs/sheet.html

Recall at 1, 5 and 10 by language among the pictures of all test emoji. The contact sheet shows what
some names found in some languages, the five best first, the right one framed. It is one HTML file
that holds the pictures. These are Twemoji, CC-BY 4.0: it names them, and is no part of the project.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine, versions
from results import RESULTS

import unmask

DEPTHS = (1, 5, 10)
NEAREST = 5  # pictures on a line of the sheet
SHOWN = ("en", "zh", "ja", "de", "ru", "hi")  # languages on the sheet
SHEET = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Emoji found by their names</title>
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1rem; max-width: 40rem; }}
th {{ text-align: start; font-weight: 400; padding: 0 1rem 0 .5rem; overflow-wrap: anywhere; }}
td {{ padding: 3px; color: #57606a; font-size: .8rem; }}
img {{ display: block; width: 32px; height: 32px; border: 3px solid transparent; padding: 2px; }}
.right img, .missed img {{ border-color: #1a7f37; border-radius: 6px; }}
.missed {{ padding-left: 1.5rem; }}
.missed img {{ border-style: dashed; }}
@media (max-width: 36rem) {{
  tr {{ display: flex; flex-wrap: wrap; align-items: center; margin-top: .5rem; }}
  th {{ flex: 1 0 80%; }}
  td {{ padding: 0; }}
  .missed {{ padding-left: .5rem; }}
}}
</style>
<h1>Emoji found by their names</h1>
<p>The model learnt from none of these emoji. The five nearest pictures, best first, the right one
framed; where it is not among them it stands behind them, in a dashed frame.</p>
<table>
{body}</table>
<p>Pictures: Twemoji, by Twitter and other contributors, CC-BY 4.0. Names: Unicode CLDR.</p>
</html>
"""
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
    recalls: dict[str, dict[str, float]] = {}
    for language in languages:
        own = [i for i, answer in enumerate(answers) if language in answer.vectors]
        ranked = order(np.stack([answers[i].vectors[language] for i in own]), pictures)
        place = (ranked == np.array(own)[:, None]).argmax(1)
        recalls[language] = {f"recall_at_{k}": float((place < k).mean()) for k in DEPTHS}
    metrics = recalls[languages[0]]
    return {
        "mean": {m: float(np.mean([one[m] for one in recalls.values()])) for m in metrics}
    } | recalls


def found(
    rows: Rows, answers: Sequence[Any], languages: Sequence[str], count: int, seed: int
) -> list[tuple[str, str, int, list[int]]]:
    """Language, name, the row that is right, and the rows of the NEAREST pictures, best first.

    So many rows, drawn by the seed, each in the next of the languages that it has a name in.
    """
    pictures = np.stack([answer.vectors["image"] for answer in answers])
    lines = []
    for line, i in enumerate(np.random.default_rng(seed).permutation(len(rows)).tolist()[:count]):
        turned = [*languages[line % len(languages) :], *languages]
        language = next((x for x in turned if x in answers[i].vectors), None)
        if language is not None:
            (best,) = order(answers[i].vectors[language][None], pictures)[:, :NEAREST].tolist()
            lines.append((language, rows[i]["names"][language], i, best))
    return lines


def sheet(rows: Rows, lines: Sequence[tuple[str, str, int, list[int]]]) -> str:
    """A page with a line for each name: the name, and the pictures that are nearest to it."""

    def picture(i: int, look: str) -> str:
        data = base64.b64encode(rows[i]["image"]).decode()
        return f'<td class="{look}"><img alt="{look}" src="data:image/png;base64,{data}"></td>'

    body = "".join(
        f'<tr><td>{language}</td><th scope="row" lang="{language}" dir="auto">{escape(name)}</th>'
        + "".join(picture(i, "right" if i == right else "wrong") for i in best)
        + ("" if right in best else picture(right, "missed"))
        + "</tr>\n"
        for language, name, right, best in lines
    )
    return SHEET.format(body=body)


def main() -> None:
    """Write the rows, or score a model on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("rows").add_argument("folder", type=Path)
    scores = commands.add_parser("score")
    scores.add_argument("bundle", type=Path)
    scores.add_argument("folder", type=Path)
    scores.add_argument("--sheet", type=Path, help="where the contact sheet is written, as HTML")
    scores.add_argument("--languages", nargs="+", default=SHOWN, help="on the sheet")
    scores.add_argument("--seed", type=int, default=0, help="of the names on the sheet")
    options = parser.parse_args()
    if options.what == "rows":
        generate(options.folder)
        return
    rows = pq.read_table(options.folder / "test.parquet").to_pylist()
    answers = unmask.load(options.bundle).predict("emoji", rows)
    recalls = score(answers)
    for language, own in recalls.items():
        print(f"{language}: " + ", ".join(f"{k} {v:.3f}" for k, v in own.items()))
    if options.sheet:
        lines = found(rows, answers, options.languages, 18, options.seed)
        options.sheet.write_text(sheet(rows, lines), encoding="utf-8")
    result = {"ours": recalls, "candidates": len(rows)}
    result |= {"machine": machine(), "versions": versions()}
    (RESULTS / "emoji-names.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
