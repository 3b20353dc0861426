"""What a text is written from, and in which pieces it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unmask.batch import Segment, Sequence
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded
from unmask.inputs.text import TextInput


@dataclass(frozen=True)
class Prompt:
    """What stands before the text to write: the source, and the text's own beginning."""

    ids: np.ndarray  # (n,) int64: what is seen both ways
    kinds: np.ndarray  # (n,) int64: its token types
    begun: np.ndarray  # (m,) int64: the first pieces of the text, which are given
    room: int  # most pieces that the text can have, with those
    dropped: int = 0  # tokens of the source or of the beginning that were cut
    empty: bool = False  # there is a source column, and nothing in it
    unknown: tuple[str, ...] = ()  # the source's words that the vocabulary lacks, in order
    origin: Encoded | None = None  # the source as it was tokenised

    @property
    def open(self) -> bool:
        """Whether there is anything to write."""
        return not self.empty and len(self.begun) < self.room

    @property
    def prefix(self) -> int:
        """How many positions are seen both ways."""
        return len(self.ids)

    def sequence(self, written: np.ndarray, kind: int, causal: bool = True) -> Sequence:
        """The prompt's source with these pieces (m,) of the text behind it."""
        source = Segment(self.ids, self.kinds, origin=self.origin)
        parts = (source, Segment(written, kind))
        return Sequence(parts, self.prefix, self.dropped, causal)


@dataclass(frozen=True)
class Pieces:
    """A vocabulary as one that writes sees it."""

    text: TextInput

    @cached_property
    def begin(self) -> int:
        """The id that every sequence begins with."""
        return self._role("begin")

    @cached_property
    def end(self) -> int:
        """The id that ends a text."""
        return self._role("end")

    @cached_property
    def unknown(self) -> int | None:
        """The id of what the vocabulary lacks; None where it lacks nothing."""
        return self.text.special_id("unknown")

    @cached_property
    def kind(self) -> int:
        """The token type of a text that is written: that of the second text of a pair."""
        return int(self.text.encode("a", "a").kinds[-1])

    @cached_property
    def special(self) -> tuple[int, ...]:
        """The ids that are never written, but for the end and what is unknown."""
        added = self.text.tokenizer.get_added_tokens_decoder()
        found = {i for i, token in added.items() if token.special}
        for role in ("pad", "begin", "mask"):
            if (known := self.text.special_id(role)) is not None:
                found.add(known)
        return tuple(sorted(found - {self.end, self.unknown}))

    @cached_property
    def digits(self) -> np.ndarray:
        """The ids of pieces with a digit in them: (n,).

        Byte-level vocabularies write some bytes as ², ³ and ¹, which are digits and no decimals.
        """
        vocabulary = self.text.tokenizer.get_vocab(with_added_tokens=False)
        return np.array(sorted(i for p, i in vocabulary.items() if any(map(str.isdecimal, p))), int)

    def of(self, text: str) -> np.ndarray:
        """A text's own ids (n,), without special ones; none of an empty text."""
        if not text:
            return np.zeros(0, dtype=np.int64)
        return self.own(self.text.whole(text))

    def own(self, encoded: Encoded) -> np.ndarray:
        """What of an encoded text may be written, (n,): a "[SEP]" that somebody typed may not."""
        ids = encoded.ids[~encoded.special]
        return ids[~np.isin(ids, [*self.special, self.end])]

    def strange(self, prompt: Prompt) -> int:
        """How many pieces of a prompt the vocabulary lacks."""
        ids = np.append(prompt.ids, prompt.begun)
        return int((ids == self.unknown).sum()) if self.unknown is not None else 0

    def spell(self, ids: list[int], unknown: tuple[str, ...] = ()) -> str:
        """The text of some ids; each unknown one becomes the next of these words, or nothing."""
        if self.unknown is None or self.unknown not in ids:
            return self.text.decode(ids)
        words = list(unknown)
        mark = str(self.text.tokenizer.id_to_token(self.unknown))
        first, *rest = self.text.tokenizer.decode(ids, skip_special_tokens=False).split(mark)
        found = first
        for part in rest:
            word = words.pop(0) if words else ""
            found = found + word if word else found.rstrip(" ")
            found += part if found or word else part.lstrip(" ")
        return str(found)

    def lacking(self, encoded: Encoded, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The words of encoded texts that the vocabulary lacks."""
        if self.unknown is None:
            return ()
        places = np.flatnonzero((encoded.ids == self.unknown) & ~encoded.special)
        spans = zip(encoded.sides[places], encoded.offsets[places], strict=True)
        return tuple(texts[side][begin:end] for side, (begin, end) in spans)

    def _role(self, role: str) -> int:
        found = self.text.special_id(role)
        if found is None:
            raise UserError(
                "this tokenizer has no tokens for the beginning and the end of a text, such as "
                "[CLS] and [SEP]: a task of kind `generate` needs them"
            )
        return found
