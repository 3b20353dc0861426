"""Formulas of the pages: TeX between dollars becomes MathML while the site is built."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\\w$])\$(?=[^\s$])([^$\n]*?[^\s$\\])\$(?![\w$])"
BLOCK = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.DOTALL)


def mathml(tex: str, display: str) -> str:
    """`tex` as a MathML element; ValueError where it holds what the converter does not know."""
    made = convert(tex, display=display)
    if unknown := re.search(r"<mi>(\\[^<]*|&)</mi>", made):
        raise ValueError(f"formula {tex!r}: {unknown.group(1)} is not known to latex2mathml")
    return made


class _Inline(InlineProcessor):
    """`$…$` in a line; before emphasis, which would see the underscores."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # type: ignore[override]  # noqa: N802
        return self.md.htmlStash.store(mathml(m.group(1), "inline")), m.start(0), m.end(0)


class _Block(BlockProcessor):
    """A block between two lines `$$`."""

    def test(self, parent: ElementTree.Element, block: str) -> bool:
        return bool(BLOCK.match(block.strip()))

    def run(self, parent: ElementTree.Element, blocks: list[str]) -> None:
        tex = BLOCK.match(blocks.pop(0).strip())
        assert tex
        # What is wider than a phone is scrolled, also by those who have only a keyboard.
        place = ElementTree.SubElement(parent, "div", {"class": "formula", "tabindex": "0"})
        place.text = self.parser.md.htmlStash.store(mathml(tex.group(1), "block"))


class Formulas(Extension):
    """Both kinds."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.inlinePatterns.register(_Inline(INLINE, md), "formula", 185)  # code is 190, escapes 180
        md.parser.blockprocessors.register(_Block(md.parser), "formula", 75)


def makeExtension(**options: Any) -> Formulas:  # noqa: N802
    """What Python-Markdown looks for."""
    return Formulas(**options)
