"""Texts of the same label, to be drawn from."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np


class Fellows:
    """The different texts of each label, found once."""

    def __init__(self, labelled: Iterable[tuple[str, str]]) -> None:
        """Of pairs of a label and a text."""
        found: dict[str, set[str]] = {}
        for label, text in labelled:
            found.setdefault(label, set()).add(text)
        self._texts = {label: sorted(texts) for label, texts in found.items()}

    def draw(self, text: str, label: str, rng: np.random.Generator) -> str:
        """Another text of the label, any with the same chance; the text itself if it is alone."""
        texts = self._texts.get(label, [])
        place = bisect_left(texts, text)
        known = place < len(texts) and texts[place] == text
        if len(texts) == known:
            return text
        drawn = int(rng.integers(len(texts) - known))
        return texts[drawn + (known and drawn >= place)]
