"""Word vectors as the first token vectors of a new encoder."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch

from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.token_vectors import token_vectors
from unmask.inputs.vectors import WordVector

log = logging.getLogger("unmask")


def begin_at_vectors(
    encoder: Encoder, text: TextInput, words: Iterable[WordVector], seed: int
) -> None:
    """Give tokens that are words, or parts of words, what the word vectors say of them.

    The others keep the random vectors that they have.
    """
    (found,) = token_vectors(words, text)
    known = np.flatnonzero(found.known)
    if not len(known):
        raise UserError("encoder.vectors: no token of the vocabulary is in any of its words")
    table = encoder.embeddings.token.weight  # (V, E)
    fitted = fit(found.vectors[known], table.shape[1], encoder.config.initializer_range, seed)
    with torch.no_grad():
        table[torch.from_numpy(known)] = torch.from_numpy(fitted).to(table)
    log.info(
        "of %d tokens %d begin at the vector of a word, %d at the mean of words, %d at random",
        text.vocab_size,
        found.whole.sum(),
        len(known) - found.whole.sum(),
        text.vocab_size - len(known),
    )


def fit(vectors: np.ndarray, width: int, std: float, seed: int) -> np.ndarray:
    """Vectors (n, d) in another width, (n, width), with mean zero and this standard deviation.

    What all have in common tells nothing apart and goes (Mu & Viswanath, arXiv:1702.01417). Of
    wider vectors the principal components stay. A random orthogonal map then spreads them over all
    dimensions alike: it keeps angles and the proportion of lengths.
    """
    x = vectors.astype(np.float64)
    x -= x.mean(0)
    if x.shape[1] > width:
        _, axes = np.linalg.eigh(x.T @ x)  # by rising variance
        x = x @ axes[:, -width:]
    drawn = np.random.default_rng(seed).standard_normal((width, x.shape[1]))
    turned, _ = np.linalg.qr(drawn)  # (width, d), orthonormal columns
    x = x @ turned.T
    return (x * (std / max(x.std(), 1e-12))).astype(np.float32)
