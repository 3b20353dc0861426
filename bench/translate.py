"""A recipe that translates: trained, and its test rows written in each way that it learnt.

    UNMASK_DATA=… .venv/bin/python bench/translate.py recipes/multi30k.yaml
    … bench/translate.py recipes/multi30k.yaml --name both tasks.translate.mode=both
    … bench/translate.py recipes/multi30k.yaml --bundle runs/multi30k/bundle --limit 100

BLEU is sacrebleu's own, and beside it that of papers on these rows: lower-cased, normalised and
tokenised text. The test rows choose nothing. Results go to bench/results/translate-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sacrebleu
from machine import machine, versions
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

import unmask
from unmask import recipe
from unmask.data.splits import split_rows
from unmask.tasks import OPTIONS, Generate

RESULTS = Path(__file__).parent / "results"
# As Moses' normalize-punctuation does it: one kind of quotes, dashes, dots and spaces.
_SAME = str.maketrans(
    {"„": '"', "“": '"', "”": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "`": "'",
     "–": "-", "—": "-", "…": "...", "\u00a0": " ", "\u202f": " "}
)  # fmt: skip
LEFT_TO_RIGHT: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam 5": {"beams": 5},
}
PARALLEL: dict[str, dict[str, Any]] = {
    f"parallel, {rounds} rounds": {"mode": "parallel", "rounds": rounds} for rounds in (1, 4, 10)
}


def plain(text: str) -> str:
    """Lower-cased, normalised and tokenised."""
    return str(Tokenizer13a()(text.translate(_SAME).lower()))  # type: ignore[no-untyped-call]


def scores(written: Sequence[str], truth: Sequence[str]) -> dict[str, Any]:
    """BLEU in both settings, and chrF, from 0 to 100."""
    bleu = sacrebleu.BLEU()
    standard = bleu.corpus_score(list(written), [list(truth)]).score
    tokenised = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(
        [plain(text) for text in written], [[plain(text) for text in truth]]
    )
    return {
        "bleu": standard,
        "bleu_lower_cased_normalised_tokenised": tokenised.score,
        "chrf": sacrebleu.CHRF().corpus_score(list(written), [list(truth)]).score,
        "signature": str(bleu.get_signature()),
    }


def main() -> None:
    """Train unless a bundle is given, write, print, and keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--bundle", type=Path, help="trained before by this recipe")
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    parser.add_argument("--limit", type=int, help="only the first test rows")
    options = parser.parse_intermixed_args()
    name = options.name or options.recipe.stem
    seconds, bundle = None, options.bundle
    if bundle is None:
        began = time.perf_counter()
        trained = unmask.train(options.recipe, Path("runs") / name, options.changes)
        seconds, bundle = time.perf_counter() - began, trained.bundle
    model = unmask.load(bundle)
    run = list(recipe.parse(recipe.read(options.recipe, options.changes), OPTIONS).values())[-1]
    (task,) = (task for task in model.tasks.values() if isinstance(task, Generate))
    rows = split_rows(task.name, run.tasks[task.name], run.train.seed).test
    assert rows is not None
    own = [rows[i] for i in range(min(len(rows), options.limit or len(rows)))]
    truth = [task.truth(row) for row in own]
    learnt = task.options.mode
    ways = (LEFT_TO_RIGHT if learnt != "parallel" else {}) | (
        PARALLEL if learnt != "left_to_right" else {}
    )
    found: dict[str, Any] = {}
    for way, decode in ways.items():
        began = time.perf_counter()
        answers = model.predict(task.name, own, **decode)
        took = time.perf_counter() - began
        texts = [answer.short for answer in answers]
        found[way] = {
            **scores(texts, truth),
            "unfinished": sum(answer.unfinished for answer in answers),
            "rows_per_second": len(own) / took,
            "first": texts[:3],
        }
        print(
            f"{name}, {way}: BLEU {found[way]['bleu_lower_cased_normalised_tokenised']:.2f} "
            f"(lower-cased, normalised, tokenised), {found[way]['bleu']:.2f} (sacrebleu), "
            f"chrF {found[way]['chrf']:.2f}, {len(own) / took:.1f} rows/s"
        )
    result = {
        "recipe": str(options.recipe),
        "changes": options.changes,
        "training_seconds": seconds,
        "weights": sum(p.numel() for p in model.parameters()),
        "rows": len(own),
        "ways": found,
        "machine": machine(),
        "versions": versions() | {"sacrebleu": sacrebleu.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"translate-{name}.json").write_text(
        json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
