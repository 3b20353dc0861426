"""The head of a task that writes."""

from __future__ import annotations

from torch import Tensor, nn

from unmask.encoder import Encoder, MaskedHead
from unmask.encoder.bricks import initialise


class WritingHead(nn.Module):
    """The masked-language head, which both ways of writing share; beside it one for lengths.

    `lengths` guesses from the first position how many pieces the target has, for the parallel
    mode; the source does not see the target, so nothing gives it away.
    """

    def __init__(self, encoder: Encoder, lengths: int) -> None:
        super().__init__()
        self.words = MaskedHead(encoder.config, encoder.embeddings.token)
        self.lengths = nn.Linear(encoder.config.hidden_size, lengths) if lengths else None
        if self.lengths is not None:
            initialise(self.lengths, encoder.config.initializer_range)

    def guess_lengths(self, x: Tensor) -> Tensor:
        """Logits of how many pieces a target has, from first positions: (S, D) -> (S, lengths)."""
        assert self.lengths is not None  # only tasks that learn the parallel mode guess them
        return self.lengths(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, vocab_size)."""
        return self.words(x)
