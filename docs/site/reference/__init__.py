"""Pages made from the code: what they say is what the code says."""

from __future__ import annotations

from collections.abc import Callable

PAGES: dict[str, Callable[[], str]] = {}
