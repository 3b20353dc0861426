"""What int8 costs a classifier's answers, and what learning with it gives back.

    UNMASK_DATA=… .venv/bin/python bench/int8.py runs/banking77/bundle --chain vocabulary
    … bench/int8.py BUNDLE --name small --chain vocabulary layers=33% heads=50% units=25% recover

The bundle is taken through a chain. Then its int8 form is made of the weights as they are, after
learning some more in floats (`recover`), and after learning as int8 computes (`recover=int8`), both
from the same rows and for as long. The form is scored whether it is fast here or not.
Prints a line each, and writes bench/results/int8-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from machine import machine, versions
from results import RESULTS

from unmask import bundle
from unmask.evaluation.pairs import Scored
from unmask.runtime.stored import Settings, put
from unmask.shrink import measure
from unmask.shrink.chain import opened, shrink
from unmask.tuning.making import make

FORM = "openvino-int8"
WAYS = {"as it is": [], "more in floats": ["recover"], "as int8 computes": ["recover=int8"]}


def scores(path: Path, before: dict[str, Scored] | None = None) -> tuple[Any, dict[str, Scored]]:
    """A bundle's scores in floats and in int8, this beside `before` or its own floats."""
    chain = opened(str(path))
    texts = list(dict.fromkeys(one for one in chain.material.spoken() if one.strip()))[:300]
    form = bundle.load(path)
    with tempfile.TemporaryDirectory() as place:
        make(form, path, FORM, Path(place), texts)
        put(form, Path(place), FORM, Settings())
        whole = measure.scores(form, chain.held)
    plain = {name: own.value for name, own in chain.before.items()}
    changes = measure.changes(form, chain.held, whole, before or chain.before)
    return {"floats": plain, "int8": changes}, chain.before


def main() -> None:
    """Measure, print a line a way, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--chain", nargs="+", default=["vocabulary"], help="what comes before")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for what is learnt here")
    parser.add_argument("--name", default="classifier", help="of the file in bench/results/")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        start = Path(place) / "start"
        teacher = str(options.bundle)
        shrink(teacher, start, options.chain)
        before = None
        for number, (way, steps) in enumerate(WAYS.items()):
            path = Path(place) / str(number) if steps else start
            if steps:
                shrink(str(start), path, steps, sets=options.set)
            found[way], own = scores(path, before)
            before = before or own
            for one in found[way]["int8"]:
                plain, bounds = found[way]["floats"][one["task"]], (one["low"], one["high"])
                shown = "the same" if None in bounds else "{:+.4f} … {:+.4f}".format(*bounds)
                print(
                    f"{way}: {one['task']} {plain:.4f} in floats, {one['value']:.4f} in int8, "
                    f"{one['difference']:+.4f} ({shown}) from the floats it began with",
                    flush=True,
                )
            result = {"chain": options.chain, "set": options.set, "found": found}
            result |= {"machine": machine(), "versions": versions()}
            (RESULTS / f"int8-{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
