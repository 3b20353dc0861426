"""What a start is worth: held-out mlm loss after the same steps from several starts, three seeds.

    UNMASK_DATA=… .venv/bin/python bench/starts.py vectors
    UNMASK_DATA=… .venv/bin/python bench/starts.py vocabulary                # German
    UNMASK_DATA=… .venv/bin/python bench/starts.py vocabulary --language en  # a domain's own

`vectors`: a new 4 × 256 encoder on the English descriptions of `time_to_loss.py`, its token
vectors drawn at random, or begun at word vectors in word2vec's text format. Those are counted from
the same training texts (positive pointwise mutual information and its singular vectors).

`vocabulary`: all-MiniLM-L6-v2 with a vocabulary learnt from a language's descriptions. Its token
vectors are carried over, with what the training texts say of which words are alike and without
(each new token is then read by the old vocabulary), or all are drawn at random. For scale, a new
4 × 256 encoder with the defaults of one.

All sides of a part have one tokenizer, one set of training texts in pieces of 128 tokens, and one
held-out set with 15 % hidden once and for all. Results go to bench/results/starts-WHAT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from results import RESULTS, spread
from time_to_loss import ours, prepare, texts
from transfer import MINILM

import unmask
from unmask.bundle import save
from unmask.data.sources import read
from unmask.inputs.text import TextInput
from unmask.inputs.word_vectors import learn_vectors
from unmask.recipe import Source
from unmask.training.new_vocabulary import with_vocabulary

OLD = ["train.batch_tokens=2048", "train.learning_rate=3e-4"]  # of a pretrained encoder
WIDTH = 256  # of the vectors, as of the encoder
SIDES = dict[str, list[str]]


def vectors(folder: Path, language: str) -> SIDES:
    """A random start, and one from vectors of the training texts' words."""
    rows = read(Source(path=str(texts("train", language))))
    words = list(learn_vectors(lambda: (row["description"] for row in rows), WIDTH))
    with (folder / "vectors.txt").open("w", encoding="utf-8") as file:
        print(len(words), len(words[0].vector), file=file)
        for word in words:
            print(word.word, *(f"{x:.5f}" for x in word.vector), file=file)
    return {"random": [], "word vectors": [f"encoder.vectors={folder}/vectors.txt"]}


def vocabulary(folder: Path, language: str) -> SIDES:
    """An old model with new token vectors: carried over, read by the old vocabulary, random."""
    tokenizer = folder / "tokenizer.json"
    old = unmask.load(MINILM)
    read_by_old = with_vocabulary(old, TextInput.read(tokenizer).tokenizer, lambda: (), 0)
    save(read_by_old, folder / "read")
    table = old.encoder.embeddings.token.weight
    new = read_by_old.encoder.embeddings.token.weight
    torch.manual_seed(0)
    with torch.no_grad():
        new.copy_(table.mean(0) + table.std(0) * torch.randn_like(new))
    save(read_by_old, folder / "random")
    return {
        "carried over": [f"encoder={{from: '{MINILM}', tokenizer: {tokenizer}}}", *OLD],
        "read by the old vocabulary": [f"encoder={{from: {folder}/read}}", *OLD],
        "random token vectors": [f"encoder={{from: {folder}/random}}", *OLD],
        "a new encoder": ["train.batch_tokens=2048"],
    }


def main() -> None:
    """Measure, print a line a run, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["vectors", "vocabulary"])
    parser.add_argument("changes", nargs="*", help="key=value of every side, as in `unmask train`")
    parser.add_argument("--language", help="of the texts (vectors: en; vocabulary: de)")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--looks", type=int, default=15, help="at the held-out texts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", help="of the result (WHAT-LANGUAGE unless said)")
    options = parser.parse_intermixed_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    language = options.language or {"vectors": "en", "vocabulary": "de"}[options.what]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, language)
        sides = {"vectors": vectors, "vocabulary": vocabulary}[options.what](folder, language)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for seed in range(options.seeds):
            for side, changes in sides.items():
                more = [f"train.steps={options.steps}", f"train.seed={seed}", *options.changes]
                runs[side].append(ours(folder, *changes, *more, looks=options.looks))
                print(side, seed, runs[side][-1]["curve"][-1], file=sys.stderr, flush=True)
    found = {side: spread([run["curve"][-1]["loss"] for run in own]) for side, own in runs.items()}
    for side, value in found.items():
        print(f"{side}: {value['mean']:.4f} ± {value['sd'] or 0:.4f}")
    result = {
        "ours": {side: value["mean"] for side, value in found.items()},
        "loss": found,
        "unit": f"nats a hidden token of the held-out texts, after {options.steps} steps",
        "runs": options.seeds,
        "curves": {side: [run["curve"] for run in own] for side, own in runs.items()},
        "weights": {side: own[0]["weights"] for side, own in runs.items()},
        "changes": options.changes,
        "machine": machine(),
        "versions": versions(),
    }
    name = options.name or f"{options.what}-{language}"
    (RESULTS / f"starts-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
