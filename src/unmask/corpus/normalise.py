"""One form for every text: Unicode NFC, one kind of line ending, no control characters."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import Literal, NamedTuple

Reason = Literal["missing", "empty", "binary", "short", "long", "exact", "near"]
REASONS: dict[Reason, str] = {
    "missing": "the row has no text",
    "empty": "nothing is left but white space",
    "binary": "over a tenth of its characters are control or replacement characters",
    "short": "shorter than `shortest`",
    "long": "longer than `longest`",
    "exact": "the same as an earlier document",
    "near": "nearly the same as an earlier document",
}
_BROKEN = 0.1  # share of characters from which on it is no text

# Windows' and old Macs' line ends, form feeds, and Unicode's own separators of lines.
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Control characters, the byte order mark, and code points that are no characters.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]")


class Normal(NamedTuple):
    """A text in its normal form, how many characters that cost, and why it is dropped if it is."""

    text: str
    removed: int
    reason: Reason | None


def normalise(text: str | None, shortest: int = 1, longest: int = 1 << 22) -> Normal:
    """The normal form of a text; normalising that again changes nothing."""
    if text is None:
        return Normal("", 0, "missing")
    clean, removed = _CONTROL.subn("", _LINE_ENDS.sub("\n", text))
    broken = removed + clean.count("\ufffd")
    if broken > _BROKEN * len(text):
        return Normal("", 0, "binary")
    clean = unicodedata.normalize("NFC", clean).strip()
    if not clean:
        return Normal("", 0, "empty")
    if len(clean) < shortest:
        return Normal("", 0, "short")
    if len(clean.encode()) > longest:
        return Normal("", 0, "long")
    return Normal(clean, removed, None)


class Digest(NamedTuple):
    """What a text is told from others by, and by what it is held out: 64-bit numbers."""

    high: int
    low: int
    lot: int

    @classmethod
    def of(cls, text: str, seed: int) -> Digest:
        """It depends on the text and the seed, and on nothing else in the corpus."""
        salt = seed.to_bytes(8, "little")
        found = blake2b(text.encode(), digest_size=24, salt=salt).digest()
        return cls(*(int.from_bytes(found[i : i + 8], "little") for i in (0, 8, 16)))

    def held(self, share: float) -> bool:
        """Whether the text falls into a held-out part of this share."""
        return self.lot < int(share * 2**64)
