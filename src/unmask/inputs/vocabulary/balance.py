"""Texts of many languages, so that the large ones do not take the whole vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from unmask.errors import UserError

Spoken = tuple[str | None, str]  # a text behind its language; None where nobody said which


def balanced(
    texts: Callable[[], Iterable[Spoken]], temperature: float
) -> Callable[[], Iterator[str]]:
    """The texts, n of a language as often as n ** (1 / temperature) among all of them.

    Temperature sampling, as for multilingual BERT and XLM-R (arXiv:1911.02116), without chance in
    the totals: there are as many texts as before, each of a language equally often or once more,
    and which come once more follows from their order alone. At 1 all come once.

    `texts` is called anew for each pass over them.
    """
    if temperature == 1:
        return lambda: (text for _, text in texts())
    sizes = Counter(language for language, _ in texts())
    if set(sizes) <= {None}:
        raise UserError(
            f"a temperature of {temperature} balances languages, and no text says which its is: "
            "give them a column `language`, or {language} in their path"
        )
    power = {language: size ** (1 / temperature) for language, size in sizes.items()}
    scale = sum(sizes.values()) / sum(power.values())
    times: dict[str | None, np.ndarray] = {}
    for language, size in sizes.items():
        whole, rest = divmod(max(1, round(power[language] * scale)), size)
        times[language] = np.full(size, whole)
        times[language][np.random.default_rng(0).permutation(size)[:rest]] += 1

    def again() -> Iterator[str]:
        seen: Counter[str | None] = Counter()
        for language, text in texts():
            yield from [text] * int(times[language][seen[language]])
            seen[language] += 1

    return again
