"""Behaviour tests after CheckList (Ribeiro et al., arXiv:2005.04118): does a task hold its ground?

Three types. *Invariance*: a change without meaning must not change the answer. *Direction*: a
change of meaning must not move the answer the other way. *Minimum functionality*: templates whose
truth is beyond doubt. None needs labels, but for the curves of the score against typos.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.errors import UserError
from unmask.model import Model
from unmask.tasks import Answer, Row, Task
from unmask.tasks.classify import LabelAnswer
from unmask.tasks.regress import NumberAnswer
from unmask.trust import perturb
from unmask.trust.language import Language

TOLERANCE = 0.1  # of a probability that may move the wrong way
DEVIATIONS = 0.25  # of a number that may move, in those of the rows learnt from
EXAMPLES = 5  # of failures that are shown
TYPOS = (0, 1, 2, 4, 8)  # of the curves
_POSITIVE = ("positive", "pos", "1", "good", "positiv", "正面", "积极", "好评")
_NEGATIVE = ("negative", "neg", "0", "bad", "negativ", "负面", "消极", "差评")

Advance = Callable[[int], None] | None


@dataclass(frozen=True)
class Case:
    """A text as it is and as it was changed, or a template with its truth (`before` is None)."""

    before: Row | None
    after: Row
    expected: str


@dataclass(frozen=True)
class Poles:
    """The labels that stand for good and bad."""

    positive: str
    negative: str


def poles_of(task: Task[Any, Any], positive: str | None, negative: str | None) -> Poles | None:
    """The labels of sentiment: those named, or else those of the usual names; None without."""
    labels: Sequence[str] = getattr(task, "labels", ())
    for name in (positive, negative):
        if name is not None and name not in labels:
            known = ", ".join(labels[:10]) or f"none: it is of kind {task.kind}"
            raise UserError(f"task {task.name} has no label {name!r}; its labels: {known}")
    good = positive or next((x for x in labels if x.lower() in _POSITIVE), None)
    bad = negative or next((x for x in labels if x.lower() in _NEGATIVE), None)
    return Poles(good, bad) if good and bad and good != bad else None


def run_tests(
    model: Model,
    task: Task[Any, Any],
    rows: Sequence[Row],
    of: Language,
    poles: Poles | None,
    seed: int = 0,
    advance: Advance = None,
) -> list[dict[str, Any]]:
    """All tests of a task in one language, as plain data, the worst first within each type.

    Rows are changed in their first input column.
    """
    if task.kind not in ("classify", "regress"):
        raise UserError(
            f"task {task.name} is of kind {task.kind}; there are behaviour tests for `classify` "
            "and `regress`"
        )
    column = task.options.inputs[0]
    known = dict(zip(_texts(rows, column), model.predict(task.name, rows, advance), strict=True))
    found = []
    for name, change in perturb.INVARIANT.items():
        cases = list(_changed(rows, column, change, of, f"{seed} {name}", "the same answer"))
        fails = _moved(task)
        found.append(_judge(model, task, "invariance", name, of, cases, fails, known, advance))
    if poles is not None:
        for name, change, fails, expected in _directions(poles):
            some = [row for row in rows if _usable(name, known[row[column]], poles)]
            cases = list(_changed(some, column, change, of, f"{seed} {name}", expected))
            found.append(_judge(model, task, "direction", name, of, cases, fails, known, advance))
        for name, cases in _templates(task, of, poles).items():
            kind = "minimum functionality"
            found.append(_judge(model, task, kind, name, of, cases, _wrong, {}, advance))
    kinds = ("invariance", "direction", "minimum functionality")
    found = [test for test in found if test["cases"]]
    return sorted(found, key=lambda test: (kinds.index(test["type"]), -test["rate"]))


def curve(
    model: Model, task: Task[Any, Any], rows: Sequence[Row], of: Language, seed: int = 0
) -> dict[str, Any]:
    """The headline score of rows with their truth, against the number of slips in each text."""
    column = task.options.inputs[0]
    points = []
    for count in TYPOS:
        changed: list[Row] = []
        for i, row in enumerate(rows):
            text = perturb.typos(count)(row[column], of, random.Random(f"{seed} {i}"))
            changed.append(row if text is None else {**row, column: text})
        answers = model.predict(task.name, changed)
        points.append({"typos": count, "score": task.score(answers, rows)[task.headline]})
    return {
        "task": task.name,
        "language": of.code,
        "metric": task.headline,
        "rows": len(rows),
        "points": points,
    }


Fails = Callable[[Answer | None, Answer, str], bool]  # before, after, and what was expected


def _judge(
    model: Model,
    task: Task[Any, Any],
    kind: str,
    name: str,
    of: Language,
    cases: Sequence[Case],
    fails: Fails,
    known: dict[str, Answer],
    advance: Advance,
) -> dict[str, Any]:
    """One test: how many of its cases fail, with a 95 % interval and some that do."""
    column = task.options.inputs[0]
    answers = model.predict(task.name, [case.after for case in cases], advance)
    bad = []
    for case, after in zip(cases, answers, strict=True):
        before = known[case.before[column]] if case.before else None
        if fails(before, after, case.expected):
            bad.append(
                {
                    "text": case.before[column] if case.before else None,
                    "changed": case.after[column],
                    "expected": case.expected,
                    "before": before.short if before else None,
                    "after": after.short,
                }
            )
    low, high = wilson(len(bad), len(cases))
    return {
        "task": task.name,
        "type": kind,
        "name": name,
        "language": of.code,
        "cases": len(cases),
        "failures": len(bad),
        "rate": len(bad) / len(cases) if cases else 0.0,
        "low": low,
        "high": high,
        "examples": bad[:EXAMPLES],
    }


def wilson(failures: int, cases: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    from scipy.stats import binomtest

    if not cases:
        return 0.0, 1.0
    found = binomtest(failures, cases).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _texts(rows: Sequence[Row], column: str) -> list[str]:
    return [row[column] for row in rows]


def _changed(
    rows: Sequence[Row], column: str, change: perturb.Change, of: Language, seed: str, expected: str
) -> Iterator[Case]:
    """The rows that a change changes; each has a randomness of its own."""
    for i, row in enumerate(rows):
        text = change(row[column], of, random.Random(f"{seed} {i}"))
        if text is not None and text.strip() and text != row[column]:
            yield Case(row, {**row, column: text}, expected)


def _moved(task: Task[Any, Any]) -> Fails:
    """Whether another label is chosen, or a number without a name moved."""

    def moved(before: Answer | None, after: Answer, expected: str) -> bool:
        if isinstance(before, NumberAnswer) and isinstance(after, NumberAnswer) and not after.name:
            return abs(after.value - before.value) > DEVIATIONS * task.facts["deviation"]
        return before is not None and before.short != after.short

    return moved


def _wrong(before: Answer | None, after: Answer, expected: str) -> bool:
    return after.short != expected


def _p(answer: Answer | None, label: str) -> float:
    return answer.probabilities[label] if isinstance(answer, LabelAnswer) else 0.0


def _directions(poles: Poles) -> list[tuple[str, perturb.Change, Fails, str]]:
    """Changes with the way in which they must not move an answer."""

    def falls(label: str) -> Fails:
        return lambda before, after, _: _p(after, label) < _p(before, label) - TOLERANCE

    def denied(before: Answer | None, after: Answer, _: str) -> bool:
        label = before.short if before else ""
        return _p(after, label) > _p(before, label) + TOLERANCE

    return [
        ("denied", perturb.negation, denied, "no surer of what it said"),
        ("praise added", perturb.praise, falls(poles.positive), f"no less {poles.positive}"),
        ("blame added", perturb.blame, falls(poles.negative), f"no less {poles.negative}"),
    ]


def _usable(name: str, answer: Answer, poles: Poles) -> bool:
    """Only what has a sentiment can be denied."""
    return name != "denied" or answer.short in (poles.positive, poles.negative)


def _templates(task: Task[Any, Any], of: Language, poles: Poles) -> dict[str, list[Case]]:
    """Texts of sentiment whose truth is beyond doubt, by what they ask of a model."""
    if len(task.options.inputs) > 1:  # a pair has no sentiment of its own
        return {}
    own, column = of.sentiment, task.options.inputs[0]

    def case(text: str, good: bool) -> Case:
        return Case(None, {column: text}, poles.positive if good else poles.negative)

    words = [(word, True) for word in own.positive] + [(word, False) for word in own.negative]
    others = {True: own.negative, False: own.positive}
    return {
        "plain sentiment": [
            case(form.format(thing=thing, word=word), good)
            for form in own.plain
            for thing in own.things
            for word, good in words
        ],
        "sentiment of somebody": [
            case(form.format(name=name, thing=own.things[i % len(own.things)], word=word), good)
            for form in own.names
            for i, name in enumerate(of.names)
            for word, good in words[:: len(words) // 4]
        ],
        "praise denied": [
            case(form.format(thing=thing, positive=word), False)
            for form in own.negated
            for thing in own.things
            for word in own.positive
        ],
        "a change of mind": [
            case(form.format(thing=thing, word=word, other=others[good][i % 6]), good)
            for form in own.changed
            for thing in own.things
            for i, (word, good) in enumerate(words)
        ],
    }
