"""What texts of a language are changed with: data files of our own, one a language."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import Field

from unmask.errors import UserError
from unmask.recipe.strict import Strict


class Sentiment(Strict):
    """Templates whose sentiment is beyond doubt; {thing}, {word}, {name} … are filled in."""

    things: list[str]
    positive: list[str]
    negative: list[str]
    plain: list[str]
    names: list[str]
    negated: list[str] = Field(description="negative, though they hold a {positive} word")
    changed: list[str] = Field(description="as the {word} says, and not as the {other}")
    praise: list[str]
    blame: list[str]


class Language(Strict):
    """The material of one language."""

    code: str
    keyboard: list[str] = Field(default_factory=list, description="rows of neighbouring keys")
    confused: list[str] = Field(default_factory=list, description="characters taken for another")
    ends: list[str] = Field(description="marks at the end of a sentence; the first is a full stop")
    names: list[str]
    paraphrases: list[list[str]] = Field(description="phrases that mean the same")
    added: list[str] = Field(description="sentences that have nothing to do with anything")
    shortcuts: list[str] = Field(description="marks without meaning")
    negations: list[list[str]]
    sentiment: Sentiment

    @property
    def spaced(self) -> bool:
        """Whether words stand apart."""
        return bool(self.keyboard)


def languages() -> list[str]:
    """The codes of those there are."""
    folder = files("unmask.trust") / "languages"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir())


@cache
def language(code: str) -> Language:
    """One language's material; a UserError lists those there are."""
    if code not in languages():
        raise UserError(
            f"there are no behaviour tests in language {code!r}; there are in "
            f"{', '.join(languages())}"
        )
    text = (files("unmask.trust") / "languages" / f"{code}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return Language.model_validate({"code": code, **content})


def guess(text: str) -> str:
    """The language of a text that is not tagged: Chinese by its characters, or else English."""
    wide = sum("一" <= c <= "鿿" for c in text)
    return "zh" if wide * 3 >= len(text.replace(" ", "")) > 0 else "en"
