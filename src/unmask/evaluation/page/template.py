"""What all pages share: the style, the script, the frame, and how a template is filled."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from unmask.evaluation.page.charts import score_bar, spread
from unmask.evaluation.page.words import ENGLISH


def fill(template: str, *folders: str, **values: Any) -> str:
    """A page; all that is put into it is escaped.

    Templates are looked for in the packages `folders`, then here. The `page.css` of each adds to
    the style.

    Should anything slip through all the same: by the page's policy its own script runs and no
    other, and nothing is loaded.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    jinja = Environment(
        loader=FunctionLoader(lambda name: _first(name, (*folders, __package__))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(two="{:.2f}".format, three="{:.3f}".format, four="{:.4f}".format, cut=_cut)
    script = _text("page.js")
    return jinja.get_template(template).render(
        t=ENGLISH,
        style="\n".join(_text("page.css", one) for one in (__package__, *folders)),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        spread=spread,
        bar=score_bar,
        **values,
    )


def _first(name: str, folders: tuple[str, ...]) -> str | None:
    """The text of a file in the first of these packages that has it."""
    return next((_text(name, one) for one in folders if (files(one) / name).is_file()), None)


def _text(name: str, folder: str = __package__) -> str:
    return (files(folder) / name).read_text(encoding="utf-8")


def _cut(text: str, longest: int) -> str:
    """The beginning of a long text, and how much is not shown."""
    if len(text) <= longest:
        return text
    return text[:longest] + ENGLISH["longer"].format(more=len(text) - longest)
