"""Every form of a classifier that `unmask shrink` makes, and a trunk trimmed to two languages.

Of Banking77 and SST-2: the recipe is trained with each seed, and each chain shrinks that bundle.
Size, speed beside the original (in turn, in one process), and the score with its deviation over
seeds come out. With --trunk, a multilingual encoder's vocabulary is trimmed to two languages of a
labelled file with a column `language`; rows of a third say what that costs there.

    UNMASK_DATA=… .venv/bin/python bench/shrink.py --recipe recipes/banking77.yaml --json
    .venv/bin/python bench/shrink.py --trunk FOLDER --rows FILE --keep en,de --third fr --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions

import unmask
from unmask.data.sources import read
from unmask.recipe import Source
from unmask.shrink import measure
from unmask.shrink.chain import shrink
from unmask.shrink.vocabulary import trim

CHAINS: dict[str, list[str]] = {
    "bf16": ["bf16"],
    "vocabulary": ["vocabulary"],
    "half the units": ["vocabulary", "units=50%", "recover"],
    "half the heads": ["vocabulary", "heads=50%", "recover"],
    "half the layers": ["vocabulary", "layers=50%", "recover"],
    "half of all": ["vocabulary", "layers=50%", "heads=50%", "units=50%", "recover", "bf16"],
    "a student": ["vocabulary", "student=50%", "recover", "bf16"],
    "a third": ["vocabulary", "layers=33%", "units=50%", "recover", "bf16"],
}


def forms(recipe: Path, seeds: Sequence[int], sets: Sequence[str]) -> list[dict[str, Any]]:
    """The table of one recipe: a line for the original and each chain."""
    lines: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            folder = Path(place) / str(seed)
            bundle = unmask.train(recipe, folder / "run", [f"train.seed={seed}"]).bundle
            layers = unmask.load(bundle).encoder.config.num_layers
            for name, steps in CHAINS.items():
                named = [s.replace("student=50%", f"student={max(layers // 2, 1)}") for s in steps]
                out = folder / name.replace(" ", "-")
                record = shrink(str(bundle), out, named, sets=[f"train.seed={seed}", *sets])
                first, last = record["figures"][0], record["figures"][-1]
                lines.setdefault("original", []).append(first)
                lines.setdefault(name, []).append(last)
    return [_line(name, found) for name, found in lines.items()]


def _line(name: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    scores = [one["scores"][0]["value"] for one in found]
    drops = [one["scores"][0]["difference"] for one in found]
    return {
        "form": name,
        "bytes": statistics.median(one["bytes"] for one in found),
        "faster": statistics.median(one["faster"] for one in found),
        "milliseconds": statistics.median(one["milliseconds"] for one in found),
        "score": statistics.fmean(scores),
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "difference": statistics.fmean(drops),
    }


def trimmed(trunk: str, rows: Path, keep: Sequence[str], third: str) -> dict[str, Any]:
    """Bytes before and after, and how far vectors moved on each language's texts."""
    texts: dict[str, list[str]] = {}
    for row in read(Source(path=str(rows))):
        texts.setdefault(str(row["language"]), []).append(row["text"])
    model = unmask.load(trunk)
    small = trim(model, lambda: (text for language in keep for text in texts[language]))
    found: dict[str, Any] = {"bytes": [measure.size(model), measure.size(small)]}
    for language in [*keep, third]:
        own = texts[language][:200]
        before, after = (torch.nn.functional.normalize(m.encode(own)) for m in (model, small))
        tokens = [sum(m.text.count(text) for text in own) for m in (model, small)]
        found[language] = {
            "largest_difference": float((before - after).abs().max()),
            "mean_cosine": float((before * after).sum(-1).mean()),
            "tokens": tokens,
        }
    return found


def main() -> None:
    """Measure what was asked for, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/banking77.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for `recover`")
    parser.add_argument("--trunk", help="a multilingual encoder, in place of a recipe")
    parser.add_argument("--rows", type=Path, help="texts with a column `language`")
    parser.add_argument("--keep", default="en,de")
    parser.add_argument("--third", default="fr")
    options = parser.parse_args()
    result: dict[str, Any] = {"peers": {}, "machine": machine(), "versions": versions()}
    if options.trunk:
        found = trimmed(options.trunk, options.rows, options.keep.split(","), options.third)
        before, after = found["bytes"]
        result |= {"ours": after, "ratio": before / after, "unit": "bytes", "runs": 1}
        result["trimmed"] = found
    else:
        table = forms(options.recipe, options.seeds, options.set)
        whole = table[0]["score"]
        good = [one for one in table if one["score"] >= 0.98 * whole]
        best = max(good, key=lambda one: one["faster"])
        result |= {"ours": best["faster"], "ratio": best["faster"], "runs": len(options.seeds)}
        result |= {"unit": "times the original's speed, at 98 % of its score", "table": table}
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
