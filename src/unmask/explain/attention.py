"""Where the encoder looks: attention by layer and head, and how it adds up over layers."""

from __future__ import annotations

import numpy as np
import torch

from unmask.batch import collate
from unmask.encoder import Hidden
from unmask.explain.game import Game
from unmask.explain.result import Found


def attention(game: Game) -> list[np.ndarray]:
    """The weights of each sequence of the example: (L, H, T, T), from query to key."""
    model, example = game.model, game.example
    game.pace.pause()
    with torch.inference_mode():
        batch = collate([example]).to(model.device)
        hidden = model.encoder.encode(
            model.encoder.embed(batch), batch, adapter=game.task.options.adapter, attention=True
        )
        table = torch.stack(hidden.attention).float().cpu().numpy()  # (L, B, H, T, T)
    rows = (batch.owner.amax(1) - 1).tolist()  # a sequence has a row of its own
    found = {s: table[:, b] for b, s in enumerate(rows)}
    sizes = [sequence.length for sequence in example.sequences]
    return [found[s][..., :n, :n] for s, n in enumerate(sizes)]


def rollout(game: Game) -> Found:
    """Attention followed through all layers to the positions that the answer rests on.

    Each layer's mean over heads, half of it staying where it is for the residual connection
    (Abnar & Zuidema, arXiv:2005.00928). It says where information could come from, not whether it
    speaks for the answer: no score is below 0, and none tells one answer from another read at the
    same positions.
    """
    rows = _rested_on(game)
    scores = []
    for table, used in zip(attention(game), rows, strict=True):
        T = table.shape[-1]
        flow = np.eye(T)
        for layer in table.mean(1).astype(np.float64):  # (T, T)
            flow = (layer / 2 + np.eye(T) / 2) @ flow
        scores.append(flow[used].mean(0) if len(used) else np.zeros(T))
    tokens = np.concatenate(scores)
    return Found(game.gather(tokens), tokens=tokens)


def _rested_on(game: Game) -> list[np.ndarray]:
    """The positions of each sequence whose hidden states move the target: its gradient tells."""
    model, example = game.model, game.example
    game.pace.pause()
    with torch.no_grad():
        batch = game.task.prepare(collate([example]).to(model.device), model.head(game.task.name))
        hidden = model.encoder(batch, narrow=True, adapter=game.task.options.adapter)
    wanted = hidden.wanted.detach().float().requires_grad_()
    outputs = game.task.outputs(model.head(game.task.name), Hidden(wanted, None), batch)
    (slope,) = torch.autograd.grad(game.task.explain_target(outputs, game.answer), wanted)
    moves = (slope.abs().sum(-1) > 0).cpu().numpy()  # (N,)
    sizes = np.cumsum([len(own) for own in example.wanted])[:-1]
    return [own[part] for own, part in zip(example.wanted, np.split(moves, sizes), strict=True)]
