"""Writing a whole text at once, in rounds: mask-predict (arXiv:1904.09324).

All places begin as [MASK]. Each round fills every mask, then hides the least certain places again,
fewer each time. It is how masked diffusion writes as well (LLaDA, arXiv:2502.09992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.batch import Batch, Segment
from unmask.batch import Sequence as Sources
from unmask.encoder import Cache
from unmask.tasks.generation.constraints import Constraints
from unmask.tasks.generation.options import DecodeOptions
from unmask.tasks.generation.prompt import Pieces, Prompt
from unmask.tasks.generation.rows import Draft, Pen, best_of


@dataclass(frozen=True)
class Canvas:
    """Texts of known lengths, a row each; behind each its end, and padding behind that."""

    which: Tensor  # (R,) the prompt of each
    length: Tensor  # (R,) pieces
    prefix: Tensor  # (R,) positions of its source
    ids: Tensor  # (R, T)
    given: Tensor  # (R, T) bool: pieces that are not to be chosen, the end among them

    def grid(self, wanted: Tensor, kind: int) -> Batch:
        """The grid of these texts behind their sources, with these places wanted, (R, T) bool."""
        R, T = self.ids.shape
        column = torch.arange(T, device=self.ids.device).expand(R, T)
        held = column <= self.length[:, None]
        last = (self.prefix + self.length)[:, None].expand(R, T)  # the position of the end
        index = held.flatten().nonzero()[:, 0]
        flat = wanted.flatten().nonzero()[:, 0]
        return Batch(
            owner=held.long(),
            position=torch.minimum(self.prefix[:, None] + column, last),
            segment=torch.full_like(self.ids, kind),
            limit=last,
            features={"text": (self.ids.flatten()[index], index)},
            wanted=flat,
            wanted_owner=flat // T,
            group=torch.arange(R, device=self.ids.device),
        )


def write(
    pen: Pen, pieces: Pieces, prompts: Sequence[Prompt], options: DecodeOptions
) -> list[list[Draft]]:
    """The texts for each prompt, best first: of several lengths, the likeliest.

    A text's log-probability is that of its length and of its pieces when they were chosen.
    """
    constraints = Constraints(pieces, options, prompts, pen.vocabulary)
    # The sources are read once; only the texts are computed in each round.
    sources = [Sources((Segment(p.ids, p.kinds),)) for p in prompts]
    hidden, cache = pen.read(sources, 0)
    found = _lengths(pen, hidden, prompts, options.lengths)
    lengths = [(i, length) for i, length, _, _ in found]
    canvas = _empty(pieces, prompts, lengths, pen.device)
    cache.select(canvas.which)
    chances = in_rounds(pen, pieces, canvas, cache, constraints, options)  # (R, T)
    drafts: list[list[Draft]] = [[] for _ in prompts]
    rows = zip(*(x.tolist() for x in (canvas.which, canvas.length, canvas.ids)), strict=True)
    scores = chances.sum(1).tolist()
    for (i, length, ids), (_, _, likely, ends), log_p in zip(rows, found, scores, strict=True):
        drafts[i].append(Draft(ids[:length], len(prompts[i].begun), likely + log_p, ends))
    rank = options.length_penalty
    return [sorted(own, key=lambda d: -d.rank(rank))[: options.top] for own in drafts]


def in_rounds(
    pen: Pen,
    pieces: Pieces,
    canvas: Canvas,
    cache: Cache,
    constraints: Constraints,
    options: DecodeOptions,
) -> Tensor:
    """Fill a canvas; the log-probability (R, T) of each piece when it was chosen, else 0."""
    columns, mask = cache.columns, pieces.text.mask_id
    chances = torch.zeros(canvas.ids.shape, device=pen.device)
    masked = ~canvas.given
    free = masked.sum(1)  # (R,)
    barred: dict[tuple[int, int], set[int]] = {}  # pieces that no longer may stand at a place

    def fill() -> None:
        """Choose all masked pieces at once."""
        canvas.ids[masked] = mask
        grid = canvas.grid(masked, pen.kind)
        hidden = pen.see(grid, cache)
        cache.rewind(columns)
        allowed = constraints.alone(pen.log_p(hidden), canvas.which[grid.wanted_owner])
        allowed[:, pieces.end] = -torch.inf  # the length is known
        for n, place in enumerate(masked.nonzero().tolist() if barred else ()):
            allowed[n, list(barred[place[0], place[1]])] = -torch.inf
        values, which = best_of(allowed, 1)
        canvas.ids[masked], chances[masked] = which[:, 0], values[:, 0]

    for number in range(1, options.rounds + 1):
        fill()
        again = (free * _share(number / options.rounds, options)).long()  # (R,)
        if not again.any():
            break
        doubt = chances.masked_fill(canvas.given, torch.inf)
        place = doubt.argsort(dim=1, stable=True).argsort(dim=1)  # 0 is the least certain
        masked = place < again[:, None]
    while wrong := _broken(canvas, constraints, chances):
        masked = torch.zeros_like(canvas.given)
        for r, t in wrong:
            barred.setdefault((r, t), set()).add(int(canvas.ids[r, t]))
            masked[r, t] = True
        fill()
    return chances


def _broken(canvas: Canvas, constraints: Constraints, chances: Tensor) -> list[tuple[int, int]]:
    """Of each row with a banned text, the least certain place in it that was chosen."""
    if not constraints.sequences:
        return []
    found: list[tuple[int, int]] = []
    rows = zip(
        *(x.tolist() for x in (canvas.ids, canvas.given, canvas.length, chances)), strict=True
    )
    for r, (ids, given, length, sure) in enumerate(rows):
        for start, end in constraints.broken(ids[:length]):
            # Where nothing else may stand either, nothing is left to choose.
            chosen = [t for t in range(start, end) if not given[t] and sure[t] > -math.inf]
            if chosen:
                found.append((r, min(chosen, key=sure.__getitem__)))
                break
    return found


def _share(over: float, options: DecodeOptions) -> float:
    """The share of places that are hidden again when so much of the rounds is over."""
    return 1 - over if options.schedule == "linear" else math.cos(math.pi / 2 * min(over, 1.0))


def _lengths(
    pen: Pen, hidden: Tensor, prompts: Sequence[Prompt], count: int
) -> list[tuple[int, int, float, bool]]:
    """The likeliest lengths of each prompt's text, by the head: prompt, length, log-probability.

    And whether the text ends: the likeliest length of all is not beyond its room.
    """
    logits = pen.head.guess_lengths(hidden).float()  # (S, lengths)
    number = torch.arange(logits.shape[-1], device=logits.device)
    least = torch.tensor([max(len(p.begun), 1) for p in prompts], device=logits.device)
    most = torch.tensor([p.room for p in prompts], device=logits.device)
    fits = (number >= least[:, None]) & (number <= most[:, None])
    log_p = logits.masked_fill(~fits, -torch.inf).log_softmax(-1)
    best = log_p.topk(min(count, log_p.shape[-1]), dim=-1)
    ends = (logits.argmax(-1) <= most).tolist()
    every = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        (i, length, value, ends[i])
        for i, own in enumerate(every)
        for length, value in zip(*own, strict=True)
        if value > -math.inf
    ]


def _empty(
    pieces: Pieces, prompts: Sequence[Prompt], rows: list[tuple[int, int]], device: torch.device
) -> Canvas:
    """Canvases of these prompts and lengths, with what is given in place."""
    length = torch.tensor([length for _, length in rows])
    T = int(length.max()) + 1
    ids = torch.full((len(rows), T), pieces.text.mask_id)
    given = torch.arange(T) >= length[:, None]
    ids[given] = pieces.end
    for r, (i, _) in enumerate(rows):
        begun = torch.from_numpy(prompts[i].begun)
        ids[r, : len(begun)] = begun
        given[r, : len(begun)] = True
    which = torch.tensor([i for i, _ in rows])
    prefix = torch.tensor([prompts[i].prefix for i, _ in rows])
    return Canvas(*(x.to(device) for x in (which, length, prefix, ids, given)))
