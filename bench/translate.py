"""A recipe that translates: trained, and its test rows written in each way that it learnt.

    UNMASK_DATA=… .venv/bin/python bench/translate.py recipes/multi30k.yaml
    … bench/translate.py recipes/multi30k.yaml --name both tasks.translate.mode=both
    … bench/translate.py recipes/multi30k.yaml --bundle runs/multi30k/bundle --limit 100

BLEU is sacrebleu's own, and beside it that of papers on these rows: lower-cased, normalised and
tokenised text. The test rows choose nothing. Where a recipe has several tasks that write, each
writes its own; where `tags` find languages in a column, each language has figures of its own.
Results go to bench/results/translate-NAME.json.
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
from unmask.model import Model
from unmask.recipe import Column, Run
from unmask.tasks import OPTIONS, Generate, Row

RESULTS = Path(__file__).parent / "results"
SHOWN = 160  # characters of a text in a table
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
    f"parallel, {rounds} rounds": {"mode": "parallel", "rounds": rounds} for rounds in (1, 4, 6, 10)
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


def ways_of(task: Generate) -> dict[str, dict[str, Any]]:
    """The options of each way of writing that a task has learnt."""
    learnt = task.options.mode
    return (LEFT_TO_RIGHT if learnt != "parallel" else {}) | (
        PARALLEL if learnt != "left_to_right" else {}
    )


def by_language(task: Generate, rows: Sequence[Row]) -> dict[str, list[int]]:
    """The numbers of each language's rows, where the task's tags find languages in a column."""
    tag = task.options.tags.get("language")
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if isinstance(tag, Column):
            found.setdefault(str(row[tag.column]), []).append(i)
    return found


def written(
    model: Model, task: Generate, rows: Sequence[Row], decode: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """The texts written for rows, and how that went."""
    began = time.perf_counter()
    answers = model.predict(task.name, rows, **decode)
    took = time.perf_counter() - began
    unfinished = sum(answer.unfinished for answer in answers)
    texts = [answer.short for answer in answers]
    return texts, {"unfinished": unfinished, "rows_per_second": len(rows) / took}


def trained(options: argparse.Namespace, name: str) -> tuple[Path, float | None, Run]:
    """The bundle that is given, or one trained now and in how many seconds; the recipe's last run.

    `options` has the command's recipe, changes and bundle.
    """
    run = list(recipe.parse(recipe.read(options.recipe, options.changes), OPTIONS).values())[-1]
    if options.bundle is not None:
        return options.bundle, None, run
    began = time.perf_counter()
    done = unmask.train(options.recipe, Path("runs") / name, options.changes)
    return done.bundle, time.perf_counter() - began, run


def keep(name: str, options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write bench/results/NAME.json: what was found, of what recipe, and on what machine."""
    result = {
        "recipe": str(options.recipe),
        "changes": options.changes,
        **found,
        "machine": machine(),
        "versions": versions() | {"sacrebleu": sacrebleu.__version__},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def arguments(description: str | None, recipe: str | None = None) -> argparse.ArgumentParser:
    """What every script that trains a recipe and writes asks for."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    if recipe is None:
        parser.add_argument("recipe", type=Path)
    else:
        parser.set_defaults(recipe=Path(recipe))
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    parser.add_argument("--bundle", type=Path, help="trained before by this recipe")
    parser.add_argument("--name", help="of the result (the recipe's unless said)")
    parser.add_argument("--limit", type=int, help="only the first test rows, of each language")
    return parser


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows of texts as Markdown; of long ones the beginning."""

    def cell(text: str) -> str:
        text = " ".join(text.split()).replace("|", "\\|")
        return text if len(text) <= SHOWN else text[:SHOWN].rsplit(" ", 1)[0] + " …"

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(t) for t in r.values()] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Train unless a bundle is given, write, print, and keep the JSON."""
    options = arguments(__doc__).parse_intermixed_args()
    name = options.name or options.recipe.stem
    bundle, seconds, run = trained(options, name)
    model = unmask.load(bundle)
    tasks = [task for task in model.tasks.values() if isinstance(task, Generate)]
    found: dict[str, Any] = {}
    for task in tasks:
        rows = split_rows(task.name, run.tasks[task.name], run.train.seed).test
        assert rows is not None
        own = list(rows)
        languages = by_language(task, own)
        kept = sorted(i for places in languages.values() for i in places[: options.limit])
        own = [own[i] for i in kept] if languages else own[: options.limit]
        languages = by_language(task, own)
        truth = [task.truth(row) for row in own]
        for way, decode in ways_of(task).items():
            texts, how = written(model, task, own, decode)
            parts = {"": list(range(len(own)))} | (languages if len(languages) > 1 else {})
            for language, places in parts.items():
                key = ", ".join(filter(None, [task.name if tasks[1:] else "", way, language]))
                some = [texts[i] for i in places]
                one = scores(some, [truth[i] for i in places])
                found[key] = {**one, "rows": len(some), "first": some[:3]}
                print(
                    f"{name}, {key}: BLEU {one['bleu_lower_cased_normalised_tokenised']:.2f} "
                    f"(lower-cased, normalised, tokenised), {one['bleu']:.2f} (sacrebleu), "
                    f"chrF {one['chrf']:.2f}, {how['rows_per_second']:.1f} rows/s"
                )
                if not language:
                    found[key] |= how
    weights = sum(p.numel() for p in model.parameters())
    keep(
        f"translate-{name}", options,
        {"training_seconds": seconds, "weights": weights, "ways": found},
    )  # fmt: skip


if __name__ == "__main__":
    main()
