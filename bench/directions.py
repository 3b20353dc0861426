"""Rows of several directions of translation for one model: pairs, told apart by a language tag.

    UNMASK_DATA=… .venv/bin/python bench/directions.py runs/directions

From Multi30k: English into German, English into Czech, German into English. Each row is a `source`
and a `target`; the file is named after the language to write, so a recipe's
`runs/directions/train/{language}.parquet` has it as a column.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pyarrow.parquet as pq

DIRECTIONS = (("en", "de"), ("en", "cs"), ("de", "en"))
SPLITS = {"train": "train", "valid": "valid", "test": "test2016"}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="only the first rows of each file")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    data = Path(os.environ["UNMASK_DATA"]) / "translation" / "multi30k"
    for split, file in SPLITS.items():
        table = pq.read_table(data / f"{file}.parquet").slice(0, options.limit)
        folder = options.folder / split
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in DIRECTIONS:
            pairs = table.select([source, target]).rename_columns(["source", "target"])
            pq.write_table(pairs, folder / f"{target}.parquet")


if __name__ == "__main__":
    main()
