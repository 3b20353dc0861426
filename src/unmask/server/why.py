"""What an explanation may cost: how much of a text is explained, and by how many passes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.batch import Example
from unmask.explain.explain import MOST_ATTENTION
from unmask.explain.faithful import CHANCE, CURVE, SHARES
from unmask.explain.hiding import EXACT, MOST
from unmask.server.errors import Refusal
from unmask.tasks import Generate, Task

MOST_TOKENS = 512  # of a row that is explained
MOST_READ = 1 << 19  # tokens that all passes of one explanation may read together
_POINTS = 25  # of integrated gradients: as many as are needed for most texts
_GRADIENT = 2  # a pass with its gradient takes as long as so many without


def cost(task: Task[Any, Any], example: Example, why: Mapping[str, Any]) -> int:
    """Tokens that the passes of an explanation read, about; a Refusal where that is too much."""
    tokens = example.length
    longest = max(sequence.length for sequence in example.sequences)
    if "layer" in why and longest > MOST_ATTENTION:
        raise _too_long("attention is shown", longest, MOST_ATTENTION)
    if tokens > MOST_TOKENS:  # of all its sequences together
        raise _too_long("a row is explained", tokens, MOST_TOKENS)
    if "layer" in why:
        return 2 * tokens
    if isinstance(task, Generate):  # what it writes is read too
        tokens += task.options.target_length
    passes = 2 + _passes(why["method"], tokens)
    if why["check"]:
        beside = ("gradient_input", "occlusion", "rollout", why["method"])
        hidden = (CHANCE + 1) * (2 * len(SHARES) + CURVE + 1)
        passes += hidden + sum(_passes(name, tokens) for name in beside)
    if passes * tokens > MOST_READ:
        message = (
            f"{why['method']} would read this text of {tokens} tokens about {passes} times, and "
            f"{MOST_READ // tokens} times are the most: explain less, or by another method"
        )
        raise Refusal(413, "too_much", message)
    return passes * tokens


def _passes(method: str, parts: int) -> int:
    """How often a method reads a row of so many parts, about."""
    if method == "integrated_gradients":
        return _GRADIENT * _POINTS
    if method == "occlusion":
        return parts + 1
    if method == "shapley":
        orders = max(min(16, MOST // parts), 2)
        return 2**EXACT if parts <= EXACT else orders * (parts + 1)
    return _GRADIENT + 1


def _too_long(what: str, tokens: int, most: int) -> Refusal:
    message = f"{what} of up to {most} tokens, and this one has {tokens}: send a shorter one"
    return Refusal(413, "too_long", message)
