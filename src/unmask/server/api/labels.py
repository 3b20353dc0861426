"""The labels of an answer, as several interfaces give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.server.asks import Answered
from unmask.server.errors import bad_input
from unmask.tasks import Task

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


def check_function(task: Task[Any, Any], parameters: Mapping[str, Any]) -> None:
    """Refuse a `function_to_apply` that is not the task's own."""
    own = "sigmoid" if getattr(task.options, "multi_label", False) else "softmax"
    own = {"rerank": "sigmoid", "regress": "none"}.get(task.kind, own)
    asked = parameters.get("function_to_apply")
    if asked not in (None, own):
        raise bad_input(f"function_to_apply: {own} alone, as task {task.name} gives its scores")
