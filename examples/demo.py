"""The main job, start to finish, on real data: what `make demo` runs.

One pretrained English encoder learns three tasks at once from dialogue lines in 28 languages:
the topic of a line, its language, and its hidden words. Then: scores, predictions, a fill-in.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path

import unmask
from unmask.cli.output import print_table
from unmask.data.splits import split_rows
from unmask.recipe import parse, read
from unmask.tasks import OPTIONS

RECIPE = Path(__file__).parent.parent / "recipes" / "demo.yaml"
LINES = (
    "Who won the world cup?",
    "Mi computadora no se enciende.",
    "Quando finirà la mia tristezza?",
)
HIDDEN = ("What is your favorite [MASK]?", "My computer does not [MASK].")


def main() -> None:
    """Train, score, predict, fill."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unmask").setLevel(logging.INFO)
    trained = unmask.train(RECIPE, Path("runs/demo"), sys.argv[1:], overwrite=True)

    logging.getLogger("unmask").setLevel(logging.WARNING)
    (run,) = parse(read(RECIPE), OPTIONS).values()
    rows = split_rows("topic", run.tasks["topic"], run.train.seed)
    assert rows.test is not None
    topics = Counter(row["topic"] for row in rows.train)
    usual = topics.most_common(1)[0][0]
    of_usual: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in rows.test:
        for place in ("all", row["language"]):
            total[place] += 1
            of_usual[place] += row["topic"] == usual
    scores = {
        (s.task, s.language or "all"): s.value
        for s in trained.scores
        if s.split == "test" and s.metric == "accuracy"
    }
    print_table(
        f"\nAccuracy on held-out lines: {len(topics)} topics, {len(total) - 1} languages, "
        f"{trained.seconds / 60:.1f} minutes of training",
        ["language", "topic", f"always “{usual}”", "which language", "hidden words", "lines"],
        [
            [
                place,
                scores["topic", place],
                of_usual[place] / count,
                scores["language", place],
                scores.get(("words", place), "–"),
                count,
            ]
            for place, count in total.most_common(12)
        ],
    )
    print(
        "\nThe encoder was pretrained on English, and its vocabulary has few Chinese characters: "
        "most of\nthem are [UNK] to it, easily guessed and worth nothing. "
        "recipes/from-zero-zh.yaml shows the mend.\n"
    )
    model = unmask.load(trained.bundle)
    answers = {task: model.predict(task, LINES) for task in ("topic", "language")}
    print_table(
        "Three predictions",
        ["line", "topic", "probability", "language", "probability "],
        [
            [line, *(x for a in pair for x in (a.short, max(a.probabilities.values())))]
            for line, *pair in zip(LINES, *answers.values(), strict=True)
        ],
    )
    print("\nFill-ins, by the head that was just trained")
    for text in HIDDEN:
        (guess,) = model.fill(text).guesses
        words = ", ".join(f"{word} {p:.2f}" for word, p in guess.candidates)
        print(f"  {text}  →  {words}")
    print(f"\nThe bundle is {trained.bundle}; try:")
    print(f'  .venv/bin/unmask predict {trained.bundle} --task topic "I am so happy today"')
    print(f'  .venv/bin/unmask fill {trained.bundle} "I love [MASK]."')
    print(f"  .venv/bin/unmask eval {trained.bundle}")


if __name__ == "__main__":
    main()
