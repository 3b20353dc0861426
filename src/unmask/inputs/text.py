"""Text in: token ids, and offsets back to the characters, through the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from unmask.batch import Segment, Sequence
from unmask.errors import UserError

_SPECIAL = {  # BERT's name and RoBERTa's for the tokens with a part to play
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "begin": ("[CLS]", "<s>"),
    "end": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


@dataclass(frozen=True)
class Encoded:
    """A text, or a pair, as the model sees it."""

    ids: np.ndarray  # (n,) int64
    kinds: np.ndarray  # (n,) int64: BERT's token types
    offsets: np.ndarray  # (n, 2) int64: the characters each token came from; (0, 0) if special
    special: np.ndarray  # (n,) bool: tokens that stand for no text
    words: np.ndarray  # (n,) int64: number of the word each token belongs to; -1 if special
    tokens: list[str]
    dropped: int  # tokens that truncation cut

    def sequence(self) -> Sequence:
        """These tokens as a sequence for the encoder."""
        return Sequence((Segment(self.ids, self.kinds),), dropped=self.dropped)


class TextInput:
    """A tokenizer and the longest sequence it may make, in tokens, special ones included.

    Truncation and padding baked into a tokenizer file are switched off: cutting happens here,
    and every cut is counted in the result. One encoder's tokenizer never pads.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int = 512) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def read(cls, path: Path, max_length: int = 512) -> TextInput:
        """Open a `tokenizer.json`."""
        try:
            return cls(Tokenizer.from_file(str(path)), max_length)
        except Exception as error:  # the library raises bare Exception for a broken file
            raise UserError(
                f"{path} is not a tokenizer that this version reads ({error}); fetch it again"
            ) from None

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        path.write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def special_id(self, role: str) -> int | None:
        """The id of the pad, unknown, begin, end or mask token; None if there is none."""
        for name in _SPECIAL[role]:
            found = self.tokenizer.token_to_id(name)
            if found is not None:
                return int(found)
        return None

    @cached_property
    def mask_id(self) -> int:
        """The id that hides a token; a UserError where the vocabulary has none."""
        found = self.special_id("mask")
        if found is None:
            raise UserError("this tokenizer has no [MASK] token: masked-language tasks need one")
        return found

    @property
    def mask_token(self) -> str:
        """How the mask is written in a text."""
        return str(self.tokenizer.id_to_token(self.mask_id))

    @cached_property
    def special_ids(self) -> np.ndarray:
        """The ids of all special tokens, sorted."""
        added = self.tokenizer.get_added_tokens_decoder()
        return np.array(sorted(i for i, token in added.items() if token.special), dtype=np.int64)

    def encode(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoded:
        """Tokens of a text or of a pair; the longer text of a pair is cut first."""
        limit = min(max_length or self.max_length, self.max_length)
        encoding = self.tokenizer.encode(text, pair)
        if len(encoding) <= limit:
            return _encoded(encoding, 0)
        first = self.tokenizer.encode(text, add_special_tokens=False)
        second = None if pair is None else self.tokenizer.encode(pair, add_special_tokens=False)
        room = limit - self.tokenizer.num_special_tokens_to_add(pair is not None)
        if room < 1:
            raise UserError(f"max_length {limit} leaves no room for text; set it higher")
        keep = room
        if second is not None:
            keep = max(room - len(second), room - room // 2)
            second.truncate(max(room - min(keep, len(first)), 0))
        first.truncate(keep)
        cut = self.tokenizer.post_process(first, second, add_special_tokens=True)
        return _encoded(cut, len(encoding) - len(cut))

    def windows(self, text: str, max_length: int | None = None) -> Iterator[Encoded]:
        """A long text as consecutive windows, none overlapping, no token lost."""
        limit = min(max_length or self.max_length, self.max_length)
        room = limit - self.tokenizer.num_special_tokens_to_add(False)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if len(encoding) > room:
            encoding.truncate(room)
        for part in (encoding, *encoding.overflowing):
            yield _encoded(self.tokenizer.post_process(part, None, add_special_tokens=True), 0)

    def decode(self, ids: list[int]) -> str:
        """The text of some ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def _encoded(encoding: Encoding, dropped: int) -> Encoded:
    return Encoded(
        ids=np.array(encoding.ids, dtype=np.int64),
        kinds=np.array(encoding.type_ids, dtype=np.int64),
        offsets=np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        special=np.array(encoding.special_tokens_mask, dtype=bool),
        words=np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int64),
        tokens=encoding.tokens,
        dropped=dropped,
    )
