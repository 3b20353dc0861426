"""The statistics of a corpus as one HTML page, in the style of the page of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from unmask.corpus.normalise import REASONS
from unmask.evaluation.page.charts import tag

__all__ = ["render"]

_WORDS = {
    "documents": "documents",
    "words": "words, as the tokenizer tells them apart, punctuation too",
    "tokens": "tokens",
    "unknown": "tokens that the vocabulary lacks",
    "characters": "characters",
    "bytes": "bytes of UTF-8",
    "longest": "tokens of the longest document",
}


def render(found: Mapping[str, Any]) -> str:
    """The statistics that `build` gives as HTML; all names are escaped, nothing is loaded."""
    from jinja2 import Environment, StrictUndefined

    page = (files(__package__) / "page.html").read_text(encoding="utf-8")
    style = (files("unmask.evaluation.page") / "page.css").read_text(encoding="utf-8")
    jinja = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.filters.update(number="{:,}".format)
    splits = [split for split in ("train", "valid") if split in found["total"]]
    return jinja.from_string(page).render(
        found=found,
        splits=splits,
        reasons=REASONS,
        words=_WORDS,
        style=style,
        histogram=histogram,
    )


def histogram(counts: Sequence[int]) -> Markup:
    """Documents by their number of tokens, each bar twice as long as the one before it."""
    if not counts:
        return Markup()
    width, height, base = 34, 120, 140
    most = max(counts)
    bars = []
    for i, count in enumerate(counts):
        tall = height * count / most
        x = 8 + i * width
        said = f"{2**i:,}–{2 ** (i + 1) - 1:,}: {count:,}"
        bar = tag("rect", class_="mass", x=x, y=base - tall, width=width - 4, height=tall)
        bars.append(tag("g", tag("title", said), bar))
        label = f"{2**i}" if i < 10 else f"{2 ** (i - 10)}k"
        bars.append(tag("text", label, x=x + width / 2, y=base + 16, text_anchor="middle"))
    whole = 16 + len(counts) * width
    return tag(
        "svg",
        *bars,
        viewBox=f"0 0 {whole} {base + 24}",
        width=whole,
        height=base + 24,
        role="img",
        aria_label="documents by number of tokens",
    )
