"""The labels of an answer, as several interfaces give them."""

from __future__ import annotations

from typing import Any

from unmask.server.asks import Answered

LABELLED = ("classify", "order", "rerank", "regress")


def labels_of(answer: Answered) -> list[dict[str, Any]]:
    """Each label with its score, the likeliest first; a number is the score of `value`."""
    own = answer.record["answer"]
    if "probabilities" in own:
        pairs = list(own["probabilities"].items())
    elif "in_order" in own:
        pairs = [("in order", own["in_order"]), ("not in order", 1 - own["in_order"])]
    elif "relevance" in own:
        pairs = [("relevance", own["relevance"])]
    else:
        pairs = [("value", own["value"])]
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in ranked]
