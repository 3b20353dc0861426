"""How much of a gold answer a given one has: exact match and F1, as SQuAD scores them.

For Chinese, Japanese and Korean characters a unit is a character, elsewhere a word (the mixed
segmentation of CMRC 2018, arXiv:1810.07366).
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

# Han (with its extensions), kana and Hangul.
_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_UNIT = re.compile(f"[{_CJK}]|[^{_CJK}\\s]+")
_ANY_CJK = re.compile(f"[{_CJK}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII = dict.fromkeys(map(ord, string.punctuation))


def units(text: str) -> list[str]:
    """What of a text counts: lower-case, without punctuation and English articles.

    A text with Chinese, Japanese or Korean characters loses all of Unicode's punctuation, another
    only ASCII's, as in SQuAD's own evaluation (arXiv:1606.05250).
    """
    gone = _punctuation() if _ANY_CJK.search(text) else _ASCII
    return _UNIT.findall(_ARTICLES.sub(" ", text.lower().translate(gone)))


def exact(answer: str, gold: Sequence[str]) -> float:
    """1.0 where the answer is one of the gold texts. No gold text: where it is empty."""
    given = units(answer)
    return float(any(given == units(text) for text in gold or ("",)))


def f1(answer: str, gold: Sequence[str]) -> float:
    """The best F1 of the answer's units against one of the gold texts."""
    return max(_f1(units(answer), units(text)) for text in gold or ("",))


def _f1(given: list[str], gold: list[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    shared = (Counter(given) & Counter(gold)).total()
    return 2 * shared / (len(given) + len(gold))


@cache
def _punctuation() -> dict[int, None]:
    every = (i for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i))[0] == "P")
    return {**_ASCII, **dict.fromkeys(every)}
