"""Explanations as one HTML page, in the style of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from unmask.evaluation.page.charts import tag
from unmask.evaluation.page.template import fill
from unmask.explain.result import Explanation
from unmask.explain.words import NAMES, coloured

FOLDER = __package__


def render(found: Sequence[Explanation]) -> str:
    """Explanations as HTML; all that comes from rows, labels and names is escaped."""
    return fill("explain.html", FOLDER, found=found, **tools())


def tools() -> dict[str, Any]:
    """What the template of one explanation needs, for pages that include it."""
    return {"coloured": coloured, "deletion_curve": deletion_curve, "method_names": NAMES}


def deletion_curve(points: Sequence[tuple[float, float]], measure: str) -> Markup:
    """The value as parts are hidden, the highest scores first."""
    left, top, width, height = 46, 10, 260, 120
    low = min(0.0, *(value for _, value in points))
    high = max(1.0 if measure == "probability" else low + 1e-9, *(value for _, value in points))
    places = [
        (left + width * share, top + height * (1 - (value - low) / (high - low)))
        for share, value in points
    ]
    lines = [
        tag("path", class_="track-line", d=f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}")
        for (a, b), (c, d) in pairwise(places)
    ]
    dots = [
        tag("g", tag("title", f"{share:.0%}: {value:.4f}"),
            tag("circle", class_="dot", cx=x, cy=y, r=3))
        for (share, value), (x, y) in zip(points, places, strict=True)
    ]  # fmt: skip
    bottom = top + height
    marks = [
        tag("path", class_="grid", d=f"M{left} {top}V{bottom}H{left + width}"),
        tag("text", f"{high:.2f}", x=left - 6, y=top + 4, text_anchor="end"),
        tag("text", f"{low:.2f}", x=left - 6, y=bottom + 4, text_anchor="end"),
        tag("text", "0 %", x=left, y=bottom + 16, text_anchor="middle"),
        tag("text", "100 % hidden", x=left + width, y=bottom + 16, text_anchor="end"),
    ]
    return tag(
        "svg",
        *marks,
        *lines,
        *dots,
        class_="deletion",
        viewBox=f"0 0 {left + width + 10} {bottom + 24}",
        role="img",
        aria_label=f"{measure} as words are hidden, the highest scores first",
    )
