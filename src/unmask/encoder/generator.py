"""ELECTRA's head: a small generator, and the detector of what it replaced."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.config import EncoderConfig
from unmask.encoder.embeddings import BorrowedEmbeddings
from unmask.encoder.encoder import Encoder, Hidden
from unmask.encoder.heads import HeadConfig, LabelHead, MaskedHead


class DetectHead(nn.Module):
    """A generator that fills hidden tokens, and a logit for each token: was it replaced?

    ELECTRA (Clark et al., arXiv:2003.10555). The generator is a narrow encoder of as many layers,
    on the embeddings of the encoder that it serves; its output matrix is their token table. Only
    training and scoring run it.
    """

    def __init__(self, encoder: Encoder, share: float) -> None:
        super().__init__()
        narrow = narrower(encoder.config, share)
        self.generator = Encoder(narrow, BorrowedEmbeddings(encoder.embeddings, narrow.hidden_size))
        self.guess = MaskedHead(narrow, encoder.embeddings.token)
        detector = HeadConfig(pooling="none", activation=encoder.config.activation, dropout=0.0)
        self.detect = LabelHead(encoder.config, detector, 1)

    def generate(self, batch: Batch) -> Tensor:
        """The generator's logits at the wanted positions, (N, V)."""
        hidden: Hidden = self.generator(batch, narrow=True)
        return self.guess(hidden.wanted)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """The encoder's hidden states (N, D) to logits of having been replaced, (N,)."""
        return self.detect(x, batch.wanted_owner, batch.sequences).squeeze(-1)


def narrower(config: EncoderConfig, share: float) -> EncoderConfig:
    """The same encoder with a share of its heads, at least one, and so of its width."""
    heads = max(1, round(share * config.num_heads))
    width = config.head_width * heads
    inner = max(1, config.intermediate_size * heads // config.num_heads)
    changes = {"num_heads": heads, "hidden_size": width, "intermediate_size": inner}
    return config.model_copy(update=changes)


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """A token (N,) from each row of logits (N, V), by uniform numbers (N,) from [0, 1).

    By the inverse of the cumulative distribution, so that a row's sample depends on its own number
    and on nothing else.
    """
    total = logits.float().softmax(-1).cumsum(-1)  # (N, V)
    found = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)
    return found.squeeze(-1).clamp(max=logits.shape[-1] - 1)
