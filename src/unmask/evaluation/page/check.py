"""The result of `unmask check` as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.evaluation.page.template import fill
from unmask.evaluation.page.words import CHECK


def render(found: Mapping[str, Any]) -> str:
    """The behaviour tests; all that comes from rows, labels and names is escaped."""
    return fill("check.html", found=found, c=CHECK)
