"""One short text at a time: what a request takes, of our forms and the peers of bench/embed.py.

UNMASK_DATA=… .venv/bin/python bench/latency.py --count 300 --rounds 3 --json
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from embed import HERE, asked, commands, prepare, rounds
from machine import machine, versions


def main() -> None:
    """Run, print a line a setting, and write the JSON."""
    options = asked(__doc__, 300)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        forms = prepare(work, options.ours)
        more = ["--count", str(options.count), "--each"]
        taken = rounds(commands(work, forms, options.peers, options.theirs, more), options.rounds)
    rows = {}
    for name, own in taken.items():
        p50, p99 = (
            statistics.median(float(np.quantile(one["seconds_each"], q)) * 1000 for one in own)
            for q in (0.5, 0.99)
        )
        rows[name] = {"p50_ms": p50, "p99_ms": p99}
        print(f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", file=sys.stderr)
    ours = {name: row for name, row in rows.items() if name in forms}
    peers = {name: row for name, row in rows.items() if name not in forms}
    result = {
        "ours": ours,
        "peers": peers,
        "ratio": min(r["p50_ms"] for r in peers.values()) / min(r["p50_ms"] for r in ours.values()),
        "unit": "milliseconds a text",
        "peer_versions": {name: taken[name][0]["version"] for name in peers},
        "texts": options.count,
        "runs": options.rounds,
        "machine": machine(),
        "versions": versions(),
    }
    if options.json:
        print(json.dumps(result))
    out = HERE / "results" / f"latency-{date.today()}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
