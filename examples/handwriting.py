"""Handwritten digits as pictures in Parquet: 1,797 of 8 × 8 pixels, from scikit-learn.

    python examples/handwriting.py                 # writes runs/handwriting/{train,test}.parquet
    unmask train recipes/handwriting.yaml

A fifth of the rows of each digit is for the test; `--fold` says which of the five.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

FOLDS = 5


def png(pixels: np.ndarray) -> bytes:
    """Grey pixels between 0 and 16, (8, 8), as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def write(folder: Path, fold: int) -> None:
    """Write `train.parquet` and `test.parquet`: a picture and its digit a row."""
    found = load_digits()
    rows = pa.table(
        {"image": [png(pixels) for pixels in found.images], "digit": found.target.astype(str)}
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    train, test = list(folds.split(found.data, found.target))[fold]
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in (("train", train), ("test", test)):
        parquet.write_table(rows.take(own), folder / f"{name}.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/handwriting"))
    parser.add_argument("--fold", type=int, choices=range(FOLDS), default=0)
    options = parser.parse_args()
    write(options.folder, options.fold)
    print(f"wrote {options.folder}/train.parquet and test.parquet")
