"""Which process computes what: an update's examples dealt out, in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.batch import Example
from unmask.training.processes import Processes
from unmask.training.stream import Chunk


@dataclass(frozen=True)
class Microbatch:
    """Examples of one task to go through the model at once.

    All processes have the same number of each task, since their steps wait for one another. One
    that has too few examples computes a stand-in that is not `counted`.
    """

    task: str
    examples: list[Example]
    counted: bool = True


def share_out(chunks: Sequence[Chunk], at_once: int, processes: Processes) -> list[Microbatch]:
    """This process's part of an update, in microbatches of about `at_once` tokens at most."""
    found = []
    for chunk in chunks:
        hands = deal(chunk.examples, processes.size)
        pieces = [cut(hand, at_once) for hand in hands]
        mine = pieces[processes.rank]
        found += [Microbatch(chunk.task, piece) for piece in mine]
        missing = max(map(len, pieces)) - len(mine)
        found += [Microbatch(chunk.task, chunk.examples[:1], counted=False)] * missing
    return found


def deal(examples: Sequence[Example], hands: int) -> list[list[Example]]:
    """The examples in so many hands of about as many tokens each, the longest dealt first."""
    totals = [0] * hands
    chosen: list[list[int]] = [[] for _ in range(hands)]
    for i in sorted(range(len(examples)), key=lambda i: -examples[i].length):
        hand = totals.index(min(totals))
        totals[hand] += examples[i].length
        chosen[hand].append(i)
    return [[examples[i] for i in sorted(hand)] for hand in chosen]


def cut(examples: Sequence[Example], at_once: int) -> list[list[Example]]:
    """The examples in their order, in pieces of at most about `at_once` tokens."""
    pieces: list[list[Example]] = []
    tokens = at_once
    for example in examples:
        if tokens + example.length > at_once:
            pieces.append([])
            tokens = 0
        pieces[-1].append(example)
        tokens += example.length
    return pieces
