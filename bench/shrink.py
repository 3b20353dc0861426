"""Every form of a classifier that `unmask shrink` makes, and a trunk trimmed to two languages.

Of Banking77 and SST-2: the recipe is trained with each seed, or its bundles are given, and each
chain shrinks them. Size, speed beside the original (in turn, in one process), and the score with
its deviation over seeds come out. With --trunk, a multilingual encoder's vocabulary is trimmed to
two languages of a file with columns `text` and `language`; rows of a third say what that costs. Of
a bundle with tasks, test rows are scored by language too.

    UNMASK_DATA=… .venv/bin/python bench/shrink.py --recipe recipes/banking77.yaml
    … bench/shrink.py --recipe recipes/sst2.yaml --bundles runs/sst2/bundle --chains int8 "a ninth"
    .venv/bin/python bench/shrink.py --trunk FOLDER --rows FILE --keep en,de --third fr

Results go to bench/results/shrink-NAME.json after each chain, and a chain that stands there is not
run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from results import RESULTS

import unmask
from unmask.data.sources import read
from unmask.errors import UserError
from unmask.evaluation.pairs import Held
from unmask.model import Model
from unmask.recipe import Source
from unmask.shrink import measure
from unmask.shrink.chain import opened, shrink
from unmask.shrink.vocabulary import trim
from unmask.training.loop import evaluate

Found = dict[str, list[dict[str, Any]]]  # by chain, of each bundle
CHAINS: dict[str, list[str]] = {
    "bf16": ["bf16"],
    "vocabulary": ["vocabulary"],
    "int8": ["vocabulary", "int8"],
    "half the units": ["vocabulary", "units=50%", "recover"],
    "half the heads": ["vocabulary", "heads=50%", "recover"],
    "half the layers": ["vocabulary", "layers=50%", "recover"],
    "half of all": ["vocabulary", "layers=50%", "heads=50%", "units=50%", "recover", "bf16"],
    "a student": ["vocabulary", "student=50%", "recover", "bf16"],
    "a third": ["vocabulary", "layers=33%", "units=50%", "recover", "bf16"],
    "a ninth": ["vocabulary", "layers=33%", "heads=50%", "units=25%", "recover", "bf16"],
    # Where the processor has instructions for 8 bits.
    "half the units, int8": ["vocabulary", "units=50%", "recover", "bf16", "int8"],
    "a sixth, int8": [
        "vocabulary",
        "layers=33%",
        "heads=50%",
        "units=50%",
        "recover",
        "bf16",
        "int8",
    ],
}


def forms(
    bundles: Mapping[str, Callable[[], Path]],
    chains: Sequence[str],
    sets: Sequence[str],
    found: Found,
) -> Iterator[None]:
    """What each chain measured of each bundle, put into `found`; a pause after each chain."""
    for label, made in bundles.items():
        known = {"bundle": label, "set": list(sets)}
        for name in chains:
            own = found.setdefault(name, [])
            if any(known.items() <= one.items() for one in own):  # by an earlier run
                yield
                continue
            bundle = made()
            half = max(unmask.load(bundle).encoder.config.num_layers // 2, 1)
            steps = [step.replace("student=50%", f"student={half}") for step in CHAINS[name]]
            with tempfile.TemporaryDirectory() as place:
                try:
                    record = shrink(str(bundle), Path(place) / "small", steps, sets=sets)
                except UserError as refused:
                    own.append({**known, "refused": str(refused)})
                else:
                    first, last = record["figures"][0], record["figures"][-1]
                    own.append({**known, **last, "original": first})
            yield


def trained(recipe: Path, seeds: Sequence[int], folder: Path) -> dict[str, Callable[[], Path]]:
    """Of each seed what makes the recipe's bundle, once, when it is asked for."""

    @cache
    def bundle(seed: int) -> Path:
        return unmask.train(recipe, folder / str(seed), [f"train.seed={seed}"]).bundle

    return {f"seed {seed}": partial(bundle, seed) for seed in seeds}


def table(found: Found) -> list[dict[str, Any]]:
    """A line for the original and each chain."""
    first = {
        one["bundle"]: one["original"] for own in found.values() for one in own if "step" in one
    }
    every = {"original": [*first.values()], **found}
    return [_line(name, own) for name, own in every.items() if own]


def _line(name: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A line of the table; of a form that was refused with some seed, that and no more."""
    refused = [one["refused"] for one in found if "refused" in one]
    if refused:
        return {"form": name, "refused": refused}
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
    """Bytes before and after; how far vectors of each language's texts moved, and its scores."""
    texts: dict[str, list[str]] = {}
    for row in read(Source(path=str(rows))):
        texts.setdefault(str(row["language"]), []).append(row["text"])
    model = unmask.load(trunk)
    small = trim(model, lambda: (text for language in keep for text in texts[language]))
    found: dict[str, Any] = {"bytes": [measure.size(model), measure.size(small)]}
    found["tokens_known"] = [one.text.vocab_size for one in (model, small)]
    held = opened(trunk).held if model.tasks else {}
    judged = [_by_language(one, held) for one in (model, small)]
    for language in [*keep, third]:
        own = texts[language][:200]
        before, after = (torch.nn.functional.normalize(m.encode(own)) for m in (model, small))
        tokens = [sum(m.text.count(text) for text in own) for m in (model, small)]
        found[language] = {
            "largest_difference": float((before - after).abs().max()),
            "mean_cosine": float((before * after).sum(-1).mean()),
            "tokens": tokens,
            "scores": [one.get(language) for one in judged],
        }
    return found


def _by_language(model: Model, held: Mapping[str, Held]) -> dict[str, dict[str, Any]]:
    """Each task's headline on its test rows in each language, and how many rows those are."""
    rows = {name: own.rows for name, own in held.items()}
    found: dict[str, dict[str, Any]] = {}
    for score in evaluate(model, rows, "test") if rows else ():
        if score.language and score.metric == model.task(score.task).headline:
            found.setdefault(score.language, {})[score.task] = [score.value, score.rows]
    return found


def main() -> None:
    """Measure what was asked for, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/banking77.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bundles", type=Path, nargs="+", help="one of each seed, trained already")
    parser.add_argument("--chains", nargs="+", default=list(CHAINS), choices=list(CHAINS))
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for `recover`")
    parser.add_argument("--trunk", help="a multilingual encoder or bundle, in place of a recipe")
    parser.add_argument("--rows", type=Path, help="texts with a column `language`")
    parser.add_argument("--keep", default="en,de")
    parser.add_argument("--third", default="fr")
    parser.add_argument("--name", help="of the file in bench/results/")
    options = parser.parse_args()
    name = options.name or ("trunk" if options.trunk else options.recipe.stem)
    file = RESULTS / f"shrink-{name}.json"
    result: dict[str, Any] = {"peers": {}, "machine": machine(), "versions": versions()}
    if options.trunk:
        found = trimmed(options.trunk, options.rows, options.keep.split(","), options.third)
        before, after = found["bytes"]
        result |= {"ours": after, "ratio": before / after, "unit": "bytes", "runs": 1}
        result["trimmed"] = found
        file.write_text(json.dumps(result, indent=1) + "\n")
    else:
        measured: Found = json.loads(file.read_text())["measured"] if file.exists() else {}
        with tempfile.TemporaryDirectory() as place:
            bundles = trained(options.recipe, options.seeds, Path(place))
            if options.bundles:
                bundles = {str(path): partial(Path, path) for path in options.bundles}
            for _ in forms(bundles, options.chains, options.set, measured):
                lines = table(measured)
                least = 0.98 * lines[0].get("score", math.inf)
                good = [one["faster"] for one in lines if one.get("score", 0) >= least]
                result |= {"ours": max(good, default=None), "ratio": max(good, default=None)}
                result |= {"unit": "times the original's speed, at 98 % of its score"}
                result |= {"runs": max(map(len, measured.values())), "table": lines}
                result |= {"measured": measured}
                file.write_text(json.dumps(result, indent=1) + "\n")
    result.pop("measured", None)
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
