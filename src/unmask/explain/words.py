"""Explanations in words and colours, for the terminal and for pages alike."""

from __future__ import annotations

from itertools import groupby

from unmask.explain.result import Attribution, Explanation

STEPS = 7  # colours to either side of none
NAMES = {
    "integrated_gradients": "Integrated gradients",
    "gradient_input": "Gradient × input",
    "occlusion": "Occlusion",
    "shapley": "Shapley values",
    "rollout": "Attention rollout",
}
Word = tuple[str, str, str, float]  # the gap before it, itself, its colour, its score


def coloured(explanation: Explanation, method: Attribution) -> list[list[Word]]:
    """The words of each side in reading order; a colour is h0 … h6 for, n0 … n6 against, or none.

    The strongest score has the strongest colour.
    """
    parts, scores = explanation.parts, method.scores
    strongest = max((abs(score) for score in scores), default=0.0) or 1.0
    order = sorted(range(len(parts)), key=lambda i: (parts[i].side, parts[i].tokens[0]))
    sides = []
    for _, numbers in groupby(order, key=lambda i: parts[i].side):
        words: list[Word] = []
        end: int | None = None
        for i in numbers:
            part = parts[i]
            joined = part.start is not None and end is not None and part.start <= end
            gap = "" if not words or joined else " "
            step = min(int(abs(scores[i]) / strongest * (STEPS + 1)), STEPS) - 1
            colour = "" if step < 0 else f"{'h' if scores[i] > 0 else 'n'}{step}"
            words.append((gap, part.text, colour, scores[i]))
            end = part.end
        sides.append(words)
    return sides
