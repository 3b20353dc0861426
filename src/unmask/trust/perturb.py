"""Small changes of a text that should not change its meaning, or should in a known direction.

Each function takes a text, the language's material and randomness, and gives the changed text, or
None where there is nothing in it to change.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from unmask.trust.language import Language

Change = Callable[[str, Language, random.Random], str | None]


def typo(text: str, of: Language, rng: random.Random) -> str | None:
    """One slip: a key beside, two letters swapped, one left out or twice; for Chinese, characters
    that are taken for one another.
    """
    places = [i for i, c in enumerate(text) if c.isalpha()]
    if of.confused:
        groups = {c: group for group in of.confused for c in group}
        known = [i for i in places if text[i] in groups]
        if known:
            i = rng.choice(known)
            other = rng.choice([c for c in groups[text[i]] if c != text[i]])
            return text[:i] + other + text[i + 1 :]
    if len(places) < 4:
        return None
    i = rng.choice(places[:-1])
    c = text[i]
    near = _neighbours(c, of)
    how = rng.choice(["swap", "drop", "double", *(["near"] if near else [])])
    if how == "near":
        return text[:i] + rng.choice(near) + text[i + 1 :]
    if how == "swap" and text[i + 1].isalpha() and text[i + 1] != c:
        return text[:i] + text[i + 1] + c + text[i + 2 :]
    if how == "drop":
        return text[:i] + text[i + 1 :]
    return text[:i] + c + text[i:]


def typos(count: int) -> Change:
    """So many slips."""

    def change(text: str, of: Language, rng: random.Random) -> str | None:
        found: str | None = text
        for _ in range(count):
            found = typo(found, of, rng) if found is not None else None
        return found

    return change


def lower(text: str, of: Language, rng: random.Random) -> str | None:
    """All in small letters."""
    return text.lower()


def upper(text: str, of: Language, rng: random.Random) -> str | None:
    """All in capitals."""
    return text.upper()


def punctuation(text: str, of: Language, rng: random.Random) -> str | None:
    """Another mark at the end, or none."""
    bare = text.rstrip(" .!?。！？…")
    return bare + rng.choice([mark for mark in of.ends if bare + mark != text]) if bare else None


def spaces(text: str, of: Language, rng: random.Random) -> str | None:
    """Twice the white space, and some around."""
    return f" {text.replace(' ', '  ')} "


def names(text: str, of: Language, rng: random.Random) -> str | None:
    """Other first names in place of those there are."""
    edge = r"\b" if of.spaced else ""
    pattern = re.compile(f"{edge}({'|'.join(map(re.escape, of.names))}){edge}")
    swap = {name: rng.choice([n for n in of.names if n != name]) for name in of.names}
    return pattern.sub(lambda found: swap[found[0]], text)


def paraphrase(text: str, of: Language, rng: random.Random) -> str | None:
    """A phrase in other words that mean the same, in either direction."""
    edge = r"\b" if of.spaced else ""
    pairs = [pair for a, b in of.paraphrases for pair in ((a, b), (b, a))]
    rng.shuffle(pairs)
    for old, new in pairs:
        found = re.sub(f"{edge}{re.escape(old)}{edge}", new, text, count=1, flags=re.IGNORECASE)
        if found != text:
            return found
    return None


def added(text: str, of: Language, rng: random.Random) -> str | None:
    """A sentence behind it that has nothing to do with it."""
    return _with_end(text, of) + rng.choice(of.added)


def shortcut(text: str, of: Language, rng: random.Random) -> str | None:
    """A mark without meaning before it or behind it, which a model may have learnt to lean on."""
    mark = rng.choice(of.shortcuts)
    return f"{mark} {text}" if rng.random() < 0.5 else f"{text} {mark}"


def negation(text: str, of: Language, rng: random.Random) -> str | None:
    """What it says, denied; nothing where it denies something already."""
    for old, new in of.negations:
        if old in text and new not in text:
            return text.replace(old, new, 1)
    return None


def praise(text: str, of: Language, rng: random.Random) -> str | None:
    """A sentence of praise behind it."""
    return _with_end(text, of) + rng.choice(of.sentiment.praise)


def blame(text: str, of: Language, rng: random.Random) -> str | None:
    """A sentence of blame behind it."""
    return _with_end(text, of) + rng.choice(of.sentiment.blame)


INVARIANT: dict[str, Change] = {
    "one typo": typos(1),
    "two typos": typos(2),
    "small letters": lower,
    "capitals": upper,
    "punctuation": punctuation,
    "white space": spaces,
    "names swapped": names,
    "other words": paraphrase,
    "a sentence added": added,
    "a mark added": shortcut,
}


def _with_end(text: str, of: Language) -> str:
    """The text as a sentence, ready for another behind it."""
    text = text.rstrip()
    end = "" if text[-1:] in ".!?。！？…" else of.ends[0]
    return text + end + (" " if of.spaced else "")


def _neighbours(c: str, of: Language) -> list[str]:
    """The keys left and right of a letter's, in its case."""
    for row in of.keyboard:
        i = row.find(c.lower())
        if i >= 0:
            found = [row[j] for j in (i - 1, i + 1) if 0 <= j < len(row)]
            return [key.upper() for key in found] if c.isupper() else found
    return []
