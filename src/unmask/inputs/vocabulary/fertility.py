"""How well a vocabulary fits a language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary.balance import Spoken
from unmask.inputs.words import spaceless

_SAMPLE = 5000  # texts of a language; more would move no figure


@dataclass
class Fertility:
    """Sums over texts of one language.

    Fertility is the number of tokens to a word (Rust et al., arXiv:2012.15613). Where more than a
    quarter of the characters are of scripts without spaces, only tokens to a character tell.
    """

    texts: int = 0
    words: int = 0
    characters: int = 0  # without white space
    tokens: int = 0  # without special ones
    unknown: int = 0
    joined: int = field(default=0, repr=False)  # characters of scripts without spaces

    @property
    def per_word(self) -> float | None:
        """Tokens to a word; None where words are not spaced."""
        return None if 4 * self.joined > self.characters else self.tokens / max(self.words, 1)

    @property
    def per_character(self) -> float:
        """Tokens to a character."""
        return self.tokens / max(self.characters, 1)

    @property
    def unknown_rate(self) -> float:
        """The share of tokens that stand for something the vocabulary cannot say."""
        return self.unknown / max(self.tokens, 1)

    def record(self, language: str) -> dict[str, Any]:
        """As plain data."""
        sums = {name: value for name, value in asdict(self).items() if name != "joined"}
        return {
            "language": language,
            "tokens_per_word": self.per_word,
            "tokens_per_character": self.per_character,
            "unknown_rate": self.unknown_rate,
            **sums,
        }


def fertility(text: TextInput, texts: Iterable[Spoken]) -> dict[str, Fertility]:
    """By language, in order of their names; "" where nobody said which. Of the first 5,000 each."""
    found: dict[str, Fertility] = {}
    unknown = text.special_id("unknown")
    for language, one in texts:
        own = found.setdefault(language or "", Fertility())
        if own.texts == _SAMPLE:
            continue
        encoded = text.whole(one)
        ids = encoded.ids[~encoded.special]
        apart = one.split()
        own.texts += 1
        own.words += len(apart)
        own.characters += sum(map(len, apart))
        own.joined += spaceless(one)
        own.tokens += len(ids)
        own.unknown += int((ids == unknown).sum())
    return dict(sorted(found.items()))
