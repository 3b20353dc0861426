"""The scores as one HTML page: no network, nothing to install, made to be looked at and sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unmask.evaluation.cube import table
from unmask.evaluation.page.charts import heat_map, reliability_diagram, risk_curve
from unmask.evaluation.page.template import fill
from unmask.evaluation.page.words import CELLS, ENGLISH, METRICS, UNBOUNDED
from unmask.evaluation.scores import TAGS, in_order

__all__ = ["render"]

STEPS = 7  # colours of a heat map, as many as the style has
NARROWEST = 0.1  # scores that are nearer to one another than this do not get all colours
_Records = Sequence[Mapping[str, Any]]


def render(
    found: Mapping[str, Any],
    template: str = "page.html",
    folders: Sequence[str] = (),
    **more: Any,
) -> str:
    """The result of `evaluate` as HTML; all that comes from rows, labels and names is escaped.

    A template of one of the packages `folders` may go on from `page.html`, with `more` values.
    """
    groups = _groups(found["scores"])
    cubes = [_heat(cube) for cube in found["cube"]]
    shown = {(task["task"], task["split"]): task for task in found["tasks"]}
    return fill(
        template,
        *folders,
        found=found,
        metrics=METRICS,
        unbounded=UNBOUNDED,
        interval=ENGLISH["sd" if len(found["bundles"]) > 1 else "interval"],
        steps=STEPS,
        cubes=[cube for cube in cubes if len(cube["cells"]) > 1],
        every=_together(cubes) if len(cubes) > 1 else None,
        heat=heat_map,
        reliability=reliability_diagram,
        curve=risk_curve,
        of_cells=CELLS,
        group=_group,
        tables=[(*place, whole) for place, (whole, _) in groups.items()],
        heads=_headlines(groups, shown),
        tagged=_tagged(groups, shown),
        calibrated=[(c, _ece(found["scores"], c)) for c in found["calibration"]],
        listed=_listed(found),
        tasks=_distinct(item["task"] for item in found["worst"]),
        truths=_choosable(found),
        tag_names=[tag for tag in TAGS if any(item.get(tag) for item in found["worst"])],
        **more,
    )


_Groups = dict[tuple[str, str], tuple[list[Any], list[Any]]]


def _groups(scores: _Records) -> _Groups:
    """By task and split: the scores of all rows, and those of the rows of one tag's value.

    The scores of all rows come first, so their tags are those that every row has.
    """
    found: _Groups = {}
    for score in scores:
        whole, parts = found.setdefault((score["task"], score["split"]), ([], []))
        (parts if whole and _tags(score) != _tags(whole[0]) else whole).append(score)
    return found


def _tags(score: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(score[tag] for tag in TAGS)


def _group(score: Mapping[str, Any], whole: Mapping[str, Any] | None) -> str:
    """What the rows of a score have in common, and those of `whole` have not."""
    known = _tags(whole) if whole else (None, None, "text")
    tags = zip(_tags(score), known, strict=True)
    return " · ".join(str(own) for own, other in tags if own is not None and own != other)


def _headlines(groups: _Groups, shown: Mapping[tuple[str, str], Any]) -> list[Any]:
    """The one figure of each task that says most, of the split that it is looked at by."""
    return [
        score
        for place, task in shown.items()
        for score in groups[place][0]
        if score["metric"] == task["headline"] and score["value"] is not None
    ]


def _tagged(groups: _Groups, shown: Mapping[tuple[str, str], Any]) -> list[Any]:
    """The headline scores of all rows and of each group, of tasks that have groups."""
    found = []
    for place, task in shown.items():
        whole, parts = groups[place]
        if parts:
            own = [s for s in (*whole, *parts) if s["metric"] == task["headline"]]
            found.append((*place, task["headline"], own))
    return found


def _heat(cube: Mapping[str, Any]) -> dict[str, Any]:
    """A cube as a table of coloured cells, and what its legend needs."""
    values = [cell["value"] for cell in cube["cells"] if cell["value"] is not None]
    high = max(values, default=1.0)
    low = min([*values, high - NARROWEST])

    def coloured(cell: Mapping[str, Any]) -> dict[str, Any]:
        if cell["value"] is None:
            return {**cell, "colour": "absent"}
        if len(cube["cells"]) == 1:  # there is nothing to compare it with
            return {**cell, "colour": "alone"}
        step = min(int((cell["value"] - low) / (high - low) * STEPS), STEPS - 1)
        return {**cell, "colour": f"h{step}"}

    cells = [coloured(cell) for cell in cube["cells"]]
    columns, rows = table({**cube, "cells": cells}, ENGLISH["untagged"], ENGLISH["every"])
    return {
        **cube,
        "cells": cells,
        "columns": columns,
        "rows": rows,
        "low": low,
        "high": high,
        "holes": any(cell is None for _, cells in rows for cell in cells),
        "marked": any(cell["zero_shot"] for cell in cube["cells"]),
        "unknown": any(cell["zero_shot"] is None for cell in cube["cells"]),
    }


def _together(cubes: _Records) -> dict[str, Any]:
    """The cells of all tasks as one table: a line for each task, domain and modality."""
    every = [cell for cube in cubes for cell in cube["cells"]]
    languages = sorted({cell["language"] for cell in every}, key=lambda x: in_order([x]))
    lines: list[tuple[Any, list[Any]]] = []
    for cube in cubes:
        lines_of: dict[tuple[Any, Any], dict[Any, Any]] = {}
        for cell in cube["cells"]:
            lines_of.setdefault((cell["domain"], cell["modality"]), {})[cell["language"]] = cell
        for place in sorted(lines_of, key=in_order):
            own = lines_of[place]
            name = {"task": cube["task"], "metric": cube["metric"], "of": _of(*place)}
            lines.append((name, [own.get(language) for language in languages]))
    return {
        "languages": [name if name is not None else ENGLISH["no_language"] for name in languages],
        "lines": lines,
        "measured": sum(cell["value"] is not None for cell in every),
        "absent": len(lines) * len(languages) - len(every),
        "marked": any(cell["zero_shot"] for cell in every),
    }


def _of(domain: str | None, modality: str | None) -> str:
    """What a line of the whole cube is of; that it is text goes without saying."""
    return " · ".join(part for part in (domain, modality) if part and part != "text")


def _ece(scores: _Records, of: Mapping[str, Any]) -> float:
    """The calibration error of all rows of a task's split, of the first bundle."""
    key = (of["task"], of["split"], "ece")
    score = next(s for s in scores if (s["task"], s["split"], s["metric"]) == key)
    return score["values"][0] if "values" in score else score["value"]


def _listed(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many of each task's answers are in the list of errors."""
    names = [item["task"] for item in found["worst"]]
    return [{**task, "listed": names.count(task["task"])} for task in found["tasks"]]


def _choosable(found: Mapping[str, Any]) -> list[str]:
    """The true labels that the errors can be filtered by, of tasks that choose a label."""
    choosing = {c["task"] for c in found["confusion"]}
    return sorted({item["truth"] for item in found["worst"] if item["task"] in choosing})


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
