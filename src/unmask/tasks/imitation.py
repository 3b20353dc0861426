"""How far outputs are from a teacher's: what is learnt in distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# What logits are divided by on both sides, so that more than the likeliest label counts (Hinton et
# al., arXiv:1503.02531). The square, as there, gives the gradient the size that it has at 1.
SOFTNESS = 2.0


def towards(logits: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergences of softmaxes (…, C) from the teacher's, summed: ()."""
    p, q = (teacher / SOFTNESS).log_softmax(-1), (logits / SOFTNESS).log_softmax(-1)
    return F.kl_div(q, p, reduction="sum", log_target=True) * SOFTNESS**2


def towards_each(logits: Tensor, teacher: Tensor) -> Tensor:
    """The same for logits of which each is a choice of two by itself: (…) -> ()."""
    return towards(*(torch.stack((torch.zeros_like(x), x), -1) for x in (logits, teacher)))


def towards_likeness(vectors: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How differently two sets of vectors, (S, D) and (S, E), say what is like what: ().

    For each of S texts the divergence of the softmax over its cosines to the others, summed. What
    is compared is relations, so that the widths may differ (Park et al., arXiv:1904.05068).
    """
    if len(vectors) < 2:
        return vectors.sum() * 0
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    ours, theirs = (
        (x @ x.T / temperature).masked_fill(itself, -1e9)
        for x in (F.normalize(vectors, dim=-1), F.normalize(teacher, dim=-1))
    )
    return F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="sum", log_target=True)
