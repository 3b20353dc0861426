"""Connected digits: recordings of single ones joined, with silence between and noise over all.

    UNMASK_DATA=… .venv/bin/python bench/spoken.py runs/connected            # train, test
    … bench/spoken.py runs/connected-theo --unknown theo                     # without this speaker

Each row is 3 to 8 recordings of one speaker, 0.05 to 0.3 s of silence around each, each as loud as
it is, and white noise 10 to 30 dB below the speech. Rows to learn from are joined of the training
recordings alone, those of the test of its recordings. Written as Parquet: audio, text, speaker.
"""

from __future__ import annotations

import argparse
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

RATE = 8000
Digits = dict[int, list[np.ndarray]]  # the recordings of each digit


def speakers(split: str) -> dict[str, Digits]:
    """The recordings of a split, by speaker and digit."""
    table = pq.read_table(f"{os.environ['UNMASK_DATA']}/speech/digits/{split}.parquet")
    found: dict[str, Digits] = defaultdict(lambda: defaultdict(list))
    for row in table.to_pylist():
        samples, rate = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")
        assert rate == RATE
        found[row["speaker"]][row["digit"]].append(samples)
    return {name: dict(own) for name, own in sorted(found.items())}


def joined(parts: Sequence[np.ndarray], rng: np.random.Generator) -> bytes:
    """Recordings one behind the other, with silence and noise, as a WAV."""

    def silence() -> np.ndarray:
        return np.zeros(int(rng.uniform(0.05, 0.3) * RATE), np.float32)

    sound = np.concatenate([silence(), *(x for part in parts for x in (part, silence()))])
    power = float(np.mean(np.concatenate(parts) ** 2))
    level = np.sqrt(power / 10 ** (rng.uniform(10, 30) / 10))
    noisy = sound + rng.normal(0, level, len(sound)).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(noisy, -1, 1), RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def rows_of(known: dict[str, Digits], count: int, seed: int) -> list[dict[str, Any]]:
    """So many strings of digits, of each speaker as many."""
    rng = np.random.default_rng(seed)
    names = list(known)
    rows = []
    for i in range(count):
        own = known[names[i % len(names)]]
        digits = rng.integers(0, 10, rng.integers(3, 9)).tolist()
        parts = [own[d][int(rng.integers(len(own[d])))] for d in digits]
        rows.append(
            {
                "audio": joined(parts, rng),
                "text": " ".join(map(str, digits)),
                "speaker": names[i % len(names)],
            }
        )
    return rows


def generate(folder: Path, train: int, test: int, unknown: str | None, seed: int) -> None:
    """Write train.parquet and test.parquet; an `unknown` speaker is all of the test and no more."""
    learnt, held = speakers("train"), speakers("test")
    if unknown is not None:
        held = {unknown: held[unknown]}
        del learnt[unknown]
    folder.mkdir(parents=True, exist_ok=True)
    for name, own, count in (("train", learnt, train), ("test", held, test)):
        table = pa.Table.from_pylist(rows_of(own, count, seed * 2 + (name == "test")))
        pq.write_table(table, folder / f"{name}.parquet")


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--unknown", help="a speaker to learn nothing of, and to be tested on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generate(options.folder, options.train, options.test, options.unknown, options.seed)


if __name__ == "__main__":
    main()
