"""Answers to lines of dialogue, found and written, on topics that training never saw.

    .venv/bin/python bench/dialogue.py
    … bench/dialogue.py 'encoder={shape: mini, tokenizer: {kind: bpe, vocab_size: 8192}}'

The lines are those of the package chatterbot-corpus in three of the languages that have the most
topics. A line and the next are a question and its answer; the pairs of the topics HELD are the
test rows, but for questions that another topic has too. Found are answers by the vectors of `find`:
among all answers of the language, for recall, and among those that were learnt from, where the
right one is not, as it would not be in use. Written are they by `reply`. Results go to
bench/results/NAME.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from translate import arguments, keep, scores, table, trained, written

import unmask
from unmask.data.paths import find
from unmask.model import Model
from unmask.tasks import Generate
from unmask.tasks.generation.scores import distinct
from unmask.tasks.search import nearest, numbered

ROWS = Path("runs/dialogue-rows")
LINES = "package://chatterbot_corpus/data/{language}/{topic}.yml"
LANGUAGES = ("english", "italian", "ukrainian")
HELD = ("food", "money", "sports", "movies", "literature", "health")
EXAMPLES = 5  # of each language

Pair = tuple[str, str]


def pairs(language: str) -> tuple[list[Pair], list[Pair]]:
    """The different questions with their answers, to learn from and to test."""
    learnt: dict[Pair, None] = {}
    held: dict[Pair, None] = {}
    for path, captured in find(LINES).items():
        if captured["language"] == language:
            talks = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
            lines = [[str(line).strip() for line in talk if line] for talk in talks]
            found = (pair for talk in lines for pair in pairwise(talk) if all(pair))
            (held if captured["topic"] in HELD else learnt).update(dict.fromkeys(found))
    questions = {question for question, _ in learnt}
    return list(learnt), [pair for pair in held if pair[0] not in questions]


def write_rows(path: Path, rows: dict[str, list[Pair]]) -> None:
    """The pairs of each language, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for language, own in rows.items():
            for question, answer in own:
                row = {"language": language, "question": question, "answer": answer}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def near(model: Model, questions: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """The ten nearest answers to each question."""
    vectors = model.encode(questions), model.encode(answers)
    return nearest(*vectors, 10, [[]] * len(questions))


def quality(texts: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """How near in chrF to the real answers, and the share of word pairs that are different ones."""
    return {"chrf": scores(texts, truth)["chrf"], "distinct_2": distinct(texts)}


def compared(
    model: Model, reply: Generate, learnt: list[Pair], test: list[Pair]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The scores of one language, of each different question once; and its first examples."""
    first = dict(reversed(test))  # where a question has several answers, the first is the real one
    questions, truth = list(first)[::-1], list(first.values())[::-1]
    every, right = numbered([*test, *learnt])
    known = list(dict.fromkeys(answer for _, answer in learnt))
    tops = near(model, questions, list(every))
    found = [known[top[0]] for top in near(model, questions, known)]
    texts, how = written(model, reply, [{"question": q} for q in questions], {"beams": 4})
    hits = {
        f"recall_at_{k}": sum(
            bool(right[q] & set(top[:k])) for q, top in zip(questions, tops, strict=True)
        )
        / len(questions)
        for k in (1, 10)
    }
    result = {
        "questions": len(questions),
        "answers": len(every),
        "found among all": {**hits, **quality([list(every)[top[0]] for top in tops], truth)},
        "found among those learnt": quality(found, truth),
        "written": {**quality(texts, truth), **how},
        "real": {"distinct_2": distinct(truth)},
    }
    shown = zip(questions, truth, found, texts, strict=True)
    names = ("question", "answer", "found", "written")
    return result, [dict(zip(names, one, strict=True)) for one in list(shown)[:EXAMPLES]]


def main() -> None:
    """Write the rows, train unless a bundle is given, compare, and keep the JSON."""
    options = arguments(__doc__, "recipes/dialogue.yaml").parse_intermixed_args()
    name = options.name or options.recipe.stem
    rows = {language: pairs(language) for language in LANGUAGES}
    write_rows(ROWS / "train.jsonl", {language: learnt for language, (learnt, _) in rows.items()})
    bundle, seconds, _ = trained(options, name)
    model = unmask.load(bundle)
    (reply,) = (task for task in model.tasks.values() if isinstance(task, Generate))
    found: dict[str, Any] = {}
    examples: list[dict[str, str]] = []
    for language, (learnt, test) in rows.items():
        found[language], some = compared(model, reply, learnt, test[: options.limit])
        examples += [{"language": language, **one} for one in some]
        for way in ("found among all", "found among those learnt", "written", "real"):
            values = ", ".join(f"{k} {v:.3f}" for k, v in found[language][way].items())
            print(f"{name}, {language}, {way}: {values}")
    print(f"\n{table(examples)}")
    keep(
        name, options,
        {"held": HELD, "training_seconds": seconds, "scores": found, "examples": examples},
    )  # fmt: skip


if __name__ == "__main__":
    main()
