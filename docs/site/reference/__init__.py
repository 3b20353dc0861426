"""Pages made from the code: what they say is what the code says."""

from __future__ import annotations

from collections.abc import Callable

from reference import command, http, python, recipe

PAGES: dict[str, Callable[[], str]] = {
    "commands": command.make,
    "recipe": recipe.make,
    "python": python.make,
    "http": http.make,
}
