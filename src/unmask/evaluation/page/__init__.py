"""The scores as one HTML page: no network, nothing to install, made to be looked at and sent."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from unmask.evaluation.page.charts import heat_map, interval_bar, reliability_diagram
from unmask.evaluation.page.words import ENGLISH, METRICS, UNBOUNDED

__all__ = ["render"]

_TAGS = ("language", "domain", "modality")
_Records = Sequence[Mapping[str, Any]]


def render(found: Mapping[str, Any]) -> str:
    """The result of `evaluate` as HTML; all that comes from rows, labels and names is escaped.

    Should anything slip through all the same: by the page's policy its own script runs and no
    other, and nothing is loaded.
    """
    from jinja2 import Environment, StrictUndefined

    folder = files(__package__)
    page, style, script = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    jinja = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.filters.update(four="{:.4f}".format, three="{:.3f}".format, cut=_cut)
    groups = _groups(found["scores"])
    shown = {(task["task"], task["split"]): task for task in found["tasks"]}
    return jinja.from_string(page).render(
        found=found,
        t=ENGLISH,
        metrics=METRICS,
        unbounded=UNBOUNDED,
        style=style,
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        bar=interval_bar,
        heat=heat_map,
        reliability=reliability_diagram,
        group=_group,
        tables=[(*place, whole) for place, (whole, _) in groups.items()],
        heads=_headlines(groups, shown),
        tagged=_tagged(groups, shown),
        calibrated=[(c, _ece(found["scores"], c)) for c in found["calibration"]],
        listed=_listed(found),
        tasks=_distinct(item["task"] for item in found["worst"]),
        truths=_choosable(found),
        tag_names=[tag for tag in _TAGS if any(item.get(tag) for item in found["worst"])],
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
    return tuple(score[tag] for tag in _TAGS)


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


def _ece(scores: _Records, of: Mapping[str, Any]) -> float:
    """The calibration error of all rows of a task's split."""
    key = (of["task"], of["split"], "ece")
    return next(s["value"] for s in scores if (s["task"], s["split"], s["metric"]) == key)


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


def _cut(text: str, longest: int) -> str:
    """The beginning of a long text, and how much is not shown."""
    if len(text) <= longest:
        return text
    return text[:longest] + ENGLISH["longer"].format(more=len(text) - longest)
