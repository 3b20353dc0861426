"""Writing a text from left to right: the likeliest piece each time, drawn pieces, or beams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from unmask.encoder.generator import sample
from unmask.tasks.generation.constraints import Constraints
from unmask.tasks.generation.options import DecodeOptions
from unmask.tasks.generation.prompt import Pieces, Prompt
from unmask.tasks.generation.rows import Draft, Pen, Rows, best_of


def write(
    pen: Pen, pieces: Pieces, prompts: Sequence[Prompt], options: DecodeOptions
) -> list[list[Draft]]:
    """The texts for each prompt, best first."""
    if options.beams > 1:
        found = search(pen, pieces, prompts, options)
    else:
        each = options.top if options.temperature else 1
        drafts: list[Draft] = []
        for drafts in steps(pen, pieces, prompts, options, each):  # noqa: B007
            pass
        found = [drafts[i : i + each] for i in range(0, len(drafts), each)]
    rank = options.length_penalty
    return [sorted(own, key=lambda d: -d.rank(rank))[: options.top] for own in found]


def steps(
    pen: Pen, pieces: Pieces, prompts: Sequence[Prompt], options: DecodeOptions, each: int = 1
) -> Iterator[list[Draft]]:
    """The texts, so many for each prompt, as they stand after each piece.

    What is drawn depends on the seed, the prompt, and which of its texts it is; on nothing else.
    """
    constraints = Constraints(pieces, options, prompts, pen.vocabulary)
    which = [i for i in range(len(prompts)) for _ in range(each)]
    dice = [_dice(options.seed, prompts[i], n % each) for n, i in enumerate(which)]
    drafts = [Draft(prompts[i].begun.tolist(), len(prompts[i].begun)) for i in which]
    rows = Rows(pen, prompts)
    live = list(range(len(which)))
    if each > 1:
        rows.select(torch.tensor(which, device=pen.device))
    while live:
        owners = torch.tensor([which[n] for n in live], device=pen.device)
        allowed = constraints.behind(rows.log_p, owners, [drafts[n].ids for n in live])
        if options.temperature:
            uniform = torch.tensor([dice[n].random() for n in live], dtype=torch.float32)
            chosen = sample(likeliest(allowed, options), uniform.to(pen.device))
            chances = allowed.gather(1, chosen[:, None])[:, 0].tolist()
        else:
            values, first = best_of(allowed, 1)
            chosen, chances = first[:, 0], values[:, 0].tolist()
        left = []
        for k, (n, token) in enumerate(zip(live, chosen.tolist(), strict=True)):
            drafts[n].ended = token == pieces.end
            full = len(drafts[n].ids) == prompts[which[n]].room  # it may only end
            if full and not drafts[n].ended:
                continue
            drafts[n].log_p += chances[k]
            if not drafts[n].ended:
                drafts[n].ids.append(token)
                left.append(k)
        yield drafts
        if left:
            order = rows.keep(left)
            rows.feed(chosen[torch.tensor(order, device=pen.device)])
            live = [live[k] for k in order]
        else:
            live = []
    yield drafts


def search(
    pen: Pen, pieces: Pieces, prompts: Sequence[Prompt], options: DecodeOptions
) -> list[list[Draft]]:
    """Beam search: for each prompt the `beams` texts that ended first among the best.

    A text that is as long as it may be counts too, where fewer than `beams` have ended; it has
    ended where that is likeliest.
    """
    W, V = options.beams, pen.vocabulary
    constraints = Constraints(pieces, options, prompts, V)
    found: list[list[Draft]] = [[] for _ in prompts]
    rows = Rows(pen, prompts, W)
    live = list(range(len(prompts)))
    beams = {i: [prompts[i].begun.tolist()] * W for i in live}
    scores = torch.full((len(live), W), -torch.inf, device=pen.device)
    scores[:, 0] = 0  # the beams are one as yet
    while live:
        owners = torch.tensor(live, device=pen.device).repeat_interleave(W)
        allowed = constraints.behind(rows.log_p, owners, [ids for i in live for ids in beams[i]])
        each = min(2 * W, V)  # enough, for each beam may end
        values, which = best_of(allowed, each)  # (R * W, each)
        total = (scores.view(-1, 1) + values).view(len(live), -1)  # (R, W * each)
        best = total.topk(min(2 * W, W * each))
        tokens = which.view(len(live), -1).gather(1, best.indices)
        parts = (best.values, best.indices // each, tokens)  # (R, 2 * W)
        ranked = zip(*(part.tolist() for part in parts), strict=True)
        first = values[:, 0].view(-1, W).tolist(), which[:, 0].view(-1, W).tolist()
        going: dict[int, list[tuple[float, int, int]]] = {}  # by row
        for k, (i, row) in enumerate(zip(live, ranked, strict=True)):
            given = len(prompts[i].begun)
            if len(beams[i][0]) == prompts[i].room:  # they may only end
                texts = zip(beams[i], scores[k].tolist(), *(x[k] for x in first), strict=True)
                for ids, score, value, token in [t for t in texts if t[1] > -math.inf]:
                    ended = token == pieces.end
                    log_p = score + value if ended else score
                    found[i].append(Draft(ids, given, log_p, ended))
                found[i] = found[i][:W]
                continue
            grown: list[tuple[float, int, int]] = []  # log-probability, beam, piece
            for rank, (value, beam, token) in enumerate(zip(*row, strict=True)):
                if value == -torch.inf or len(grown) == W:
                    break
                if token != pieces.end:
                    grown.append((value, beam, token))
                elif rank < W:
                    found[i].append(Draft(beams[i][beam], given, value, ended=True))
            if grown and len(found[i]) < W:
                longer = [[*beams[i][beam], token] for _, beam, token in grown]
                spare = W - len(grown)  # beams that nothing can follow
                beams[i] = longer + [longer[0]] * spare
                going[k] = grown + [(-torch.inf, *grown[0][1:])] * spare
        if going:
            order = rows.keep(list(going))
            scores, origin, tokens = (
                torch.tensor([[beam[part] for beam in going[k]] for k in order], device=pen.device)
                for part in range(3)
            )  # (R, W) each
            rows.follow(origin)
            rows.feed(tokens.flatten())
            live = [live[k] for k in order]
        else:
            live = []
    return found


def likeliest(log_p: Tensor, options: DecodeOptions) -> Tensor:
    """Log-probabilities (R, V) at the temperature, cut to the `top_k` and to `top_p` of them.

    Nucleus sampling after Holtzman et al. (arXiv:1904.09751); the likeliest always stays.
    """
    found = log_p / options.temperature
    if options.top_k is not None and options.top_k < found.shape[-1]:
        least = found.topk(options.top_k, dim=-1).values[:, -1:]
        found = found.masked_fill(found < least, -torch.inf)
    if options.top_p is not None:
        values, order = found.softmax(-1).sort(dim=-1, descending=True, stable=True)
        beyond = values.cumsum(-1) - values >= options.top_p  # what comes before has enough
        found = found.masked_fill(beyond.scatter(1, order, beyond), -torch.inf)
    return found


def _dice(seed: int, prompt: Prompt, number: int) -> np.random.Generator:
    content = crc32(prompt.ids.tobytes() + b"|" + prompt.begun.tobytes())
    return np.random.default_rng((seed, content, number))
