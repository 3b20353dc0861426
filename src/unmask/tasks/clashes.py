"""Labels that look like the same thing under other names in another language."""

from __future__ import annotations

from collections.abc import Mapping


def clashes(labels: Mapping[str, set[str]]) -> list[str]:
    """Of each language's labels: those that look as if others had them by other names, a line each.

    A language that lacks a label is nothing to mention, nor is one that has a label more. But where
    it has some that no other has, and lacks some that others have, they may be the same. The
    language's own name is none of these: there the label is the language.
    """
    said = []
    for language, own in sorted(labels.items()):
        others = set().union(*(found for name, found in labels.items() if name != language))
        alone, lacking = sorted(own - others - {language}), sorted(others - own)
        if alone and lacking:
            said.append(
                f"the rows in {language} alone have the label {alone[0]!r}, and none of them has "
                f"{lacking[0]!r}: if these mean the same, give them one name"
            )
    return said
