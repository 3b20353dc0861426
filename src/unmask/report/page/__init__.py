"""The report as one HTML page: the page of scores, and before and behind it all else of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.evaluation.page import render as render_scores
from unmask.explain.page import FOLDER as EXPLAIN
from unmask.explain.page import tools
from unmask.explain.result import Explanation


def render(facts: Mapping[str, Any]) -> str:
    """The facts of a run as HTML; all that comes from rows, labels and names is escaped."""
    explained = [
        {**one, "explanation": Explanation.model_validate(one["explanation"])}
        for one in facts["explained"]
    ]
    return render_scores(
        facts["found"],
        "report.html",
        (__package__, EXPLAIN),
        facts=facts,
        explained=explained,
        **tools(),
    )
