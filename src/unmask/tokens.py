"""A text that is tokenised already, as a built corpus holds it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Tokens:
    """The tokens of a whole text, special ones left out, and where its words begin."""

    ids: np.ndarray  # (n,) unsigned
    starts: np.ndarray  # (n,) bool: the first token of a word, as the tokenizer has words
    tokenizer: str  # the fingerprint of the tokenizer that made them

    def __repr__(self) -> str:
        """Short, for messages that quote a row."""
        return f"a document of {len(self.ids)} tokens"


def fingerprint(tokenizer: Tokenizer) -> str:
    """A name for what a tokenizer does to texts: its sha256, truncation and padding left out."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
