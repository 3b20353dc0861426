"""Words of any language, where nothing but the script tells."""

from __future__ import annotations

import re

# Scripts that put no space between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Chinese.
_JOINED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ONE = re.compile(f"[{_JOINED}]")
_WORD = re.compile(rf"[{_JOINED}]|(?:(?![{_JOINED}])\w)+|[^\w\s]")


def words(text: str) -> list[str]:
    """Runs of letters and digits; signs, and letters of scripts without spaces, one by one."""
    return _WORD.findall(text)


def spaceless(text: str) -> int:
    """How many characters of a text are of scripts without spaces between words."""
    return len(_ONE.findall(text))
