"""A bulk job in a process of its own, for `test_bulk.py` to kill: `killed.py MODEL IN OUT PART`."""

import sys
from pathlib import Path

from unmask.bulk.job import run

if __name__ == "__main__":
    model, source, output, part = sys.argv[1:5]
    asked = (
        {"columns": ["text"], "width": None}
        if output.endswith(".npy")
        else {"columns": ["text"], "tasks": ["mood"], "options": {}}
    )
    verb = "embed" if output.endswith(".npy") else "predict"
    run(verb, model, Path(source), Path(output), asked, part=int(part))
