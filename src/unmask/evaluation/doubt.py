"""Whether a model knows when it is wrong: promises against what was kept, and what it withholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unmask.errors import UserError
from unmask.evaluation.calibration import expected_by_chance, expected_calibration_error
from unmask.evaluation.scores import Judged, cell_of, in_order, laid_out
from unmask.recipe import Column
from unmask.tasks import Answer, Choices, Row, Task

COVERAGES = (0.8, 0.9, 0.95, 0.99)
RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
USUAL = 0.9  # the coverage that cells are compared by
FEWEST = 50  # rows of a cell: below, chance says more than the cell
STEPS = 20  # of the curve


def doubt(task: Task[Any, Any], judged: Sequence[Judged], form: str) -> dict[str, Any] | None:
    """How far answers can be trusted, as plain data; None of a kind that says nothing of it.

    `coverage` holds, for each coverage promised, the share of truths in the sets or intervals, and
    their mean size. `risk`: for each share of errors promised, the share answered and the errors
    there were. `selective`: the errors of the surest answers, and their mean over all shares (AURC,
    Geifman et al., arXiv:1805.08206). `known`: the share of rows that are like those learnt.
    `cells`: calibration and coverage of each language and domain with enough rows. All is of the
    rows at hand: of another data set it says what is left of promises there.
    """
    answers, rows, _ = laid_out(judged)
    choices = task.choices(answers, rows)
    promised = task.calibration.get("promises") or {}
    knowing = [a.known.known for a in answers if a.known is not None]
    if choices is None and not promised and not knowing:
        return None
    found: dict[str, Any] = {"promised_by": promised.get("rows"), "notes": []}
    kept = {c: _kept(task, answers, rows, c, form, found["notes"]) for c in COVERAGES if promised}
    found["coverage"] = [own for one in kept.values() if (own := _mean(one))]
    found["selective"] = None if choices is None else _selective(choices)
    found["risk"] = _risks(task, answers, choices, form) if "risk" in promised else []
    found["known"] = _known(task, knowing)
    found["cells"] = _cells(task, judged, choices, kept.get(USUAL))
    return found


# What was promised; which hold (N,); how large each is (N,), and whether in labels.
Kept = tuple[float, np.ndarray, np.ndarray, bool]


def _kept(
    task: Task[Any, Any],
    answers: Sequence[Answer],
    rows: Sequence[Row],
    coverage: float,
    form: str,
    notes: list[str],
) -> Kept | None:
    """Whether the promise was kept in each row, and how much each promise left open."""
    try:
        hedged = task.hedged(answers, {"coverage": coverage}, form)
    except UserError as error:  # too few validation rows, or those of another form
        notes.append(str(error))
        return None
    holds = [task.holds(answer, row) for answer, row in zip(hedged, rows, strict=True)]
    promises = [answer.promise for answer in hedged if answer.promise]
    sizes = np.array([promise.size for promise in promises], dtype=float)
    return coverage, np.array(holds), sizes, promises[0].labels is not None


def _mean(kept: Kept | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    promised, holds, sizes, counted = kept
    return {
        "promised": promised,
        "kept": float(holds.mean()),
        "size": float(sizes.mean()),
        "single": float((sizes == 1).mean()) if counted else None,
    }


def _selective(choices: Choices) -> dict[str, Any]:
    """The errors among the surest answers, for more and more of them."""
    order = np.argsort(-choices.probabilities.max(1), kind="stable")
    wrong = (choices.chosen != choices.truth)[order]
    n = len(wrong)
    risk = wrong.cumsum() / np.arange(1, n + 1)  # (n,)
    best = np.sort(wrong).cumsum() / np.arange(1, n + 1)  # were all errors the least sure
    places = np.unique(np.ceil(np.linspace(1, n, min(n, STEPS))).astype(int))
    return {
        "aurc": float(risk.mean()),
        "least_aurc": float(best.mean()),
        "curve": [{"answered": float(k / n), "risk": float(risk[k - 1])} for k in places],
    }


def _risks(
    task: Task[Any, Any], answers: Sequence[Answer], choices: Choices | None, form: str
) -> list[dict[str, Any]]:
    assert choices is not None  # only kinds that choose promise risks
    wrong = choices.chosen != choices.truth
    found = []
    for risk in RISKS:
        try:
            hedged = task.hedged(answers, {"risk": risk}, form)
        except UserError:  # said of coverage already
            return []
        given = np.array([not a.promise.abstains for a in hedged if a.promise])
        measured = float(wrong[given].mean()) if given.any() else None
        found.append({"promised": risk, "answered": float(given.mean()), "risk": measured})
    return found


def _known(task: Task[Any, Any], knowing: Sequence[bool]) -> dict[str, Any] | None:
    if not knowing:
        return None
    record = task.calibration["known"]
    return {
        "score": record["score"],
        "threshold": record["threshold"],
        "kept": record["kept"],
        "share": float(np.mean(knowing)),
    }


def _cells(
    task: Task[Any, Any], judged: Sequence[Judged], choices: Choices | None, kept: Kept | None
) -> list[dict[str, Any]]:
    """The same of each language and domain that has rows enough, where there are several."""
    if not any(isinstance(tag, Column) for tag in task.options.tags.values()):
        return []
    answered = [one for one in judged if one.answers]
    cells = [cell_of(one.row, task.options.tags)[:2] for one in answered for _ in one.answers]
    answers = [answer for one in answered for answer in one.answers]
    found = []
    for cell in sorted(set(cells), key=in_order):
        own = np.array([one == cell for one in cells])
        if own.sum() < FEWEST:
            continue
        record: dict[str, Any] = {"language": cell[0], "domain": cell[1], "rows": int(own.sum())}
        if choices is not None:
            p, truth = choices.probabilities[own], choices.truth[own]
            record |= {
                "accuracy": float((choices.chosen[own] == truth).mean()),
                "ece": expected_calibration_error(p, truth),
                "ece_by_chance": expected_by_chance(p)[1],
            }
        if kept is not None:
            record |= {
                "promised": kept[0],
                "kept": float(kept[1][own].mean()),
                "size": float(kept[2][own].mean()),
            }
        knowing = [a.known.known for a, here in zip(answers, own, strict=True) if here and a.known]
        if knowing:
            record["known"] = float(np.mean(knowing))
        found.append(record)
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """What is worth a warning, in a line each."""
    said = []
    for one in found["coverage"]:
        what = "intervals" if one["single"] is None else "sets"
        if one["kept"] < one["promised"] - 0.02:
            said.append(
                f"{one['promised']:g} of the {what} were to hold the truth and {one['kept']:.3f} "
                "do: these rows are not like the validation rows"
            )
    if found["known"] and found["known"]["share"] < found["known"]["kept"] - 0.1:
        said.append(
            f"only {found['known']['share']:.0%} of the rows are like those learnt, where "
            f"{found['known']['kept']:.0%} of the validation rows are"
        )
    return said
