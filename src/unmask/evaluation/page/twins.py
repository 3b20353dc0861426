"""Twins as one HTML page, in the style of the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.evaluation.page.template import fill


def render(found: Mapping[str, Any]) -> str:
    """The result of `unmask twins` as HTML."""
    return fill("twins.html", found=found)
