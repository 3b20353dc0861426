"""What a corpus holds and what was dropped, by language and domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from unmask.corpus.normalise import REASONS
from unmask.corpus.work import Work, splits
from unmask.files import read_json


@dataclass
class Counts:
    """Sums over documents; `lengths[i]` of them have 2 ** i tokens or more, and less than double.

    `words` are the tokenizer's, punctuation too.
    """

    documents: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0
    characters: int = 0
    bytes: int = 0
    longest: int = 0  # tokens
    lengths: list[int] = field(default_factory=list)

    def add(
        self,
        texts: list[str],
        ids: np.ndarray,
        starts: np.ndarray,
        lengths: np.ndarray,
        unknown: int | None,
    ) -> None:
        """Count documents: their tokens in a row (N,), where words begin (N,), and tokens (n,)."""
        self._sum(
            Counts(
                documents=len(texts),
                words=int(starts.sum()),
                tokens=len(ids),
                unknown=0 if unknown is None else int((ids == unknown).sum()),
                characters=sum(map(len, texts)),
                bytes=sum(len(text.encode()) for text in texts),
                longest=int(lengths.max(initial=0)),
                lengths=np.bincount((np.frexp(lengths)[1] - 1).clip(0)).tolist(),
            )
        )

    def _sum(self, other: Counts) -> None:
        for name in ("documents", "words", "tokens", "unknown", "characters", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest = max(self.longest, other.longest)
        more = len(other.lengths) - len(self.lengths)
        self.lengths += [0] * more
        for i, count in enumerate(other.lengths):
            self.lengths[i] += count

    def record(self) -> dict[str, Any]:
        """The sums as plain data."""
        return asdict(self)

    @classmethod
    def total(cls, records: Iterable[Mapping[str, Any]]) -> Counts:
        """The sum of some records."""
        result = cls()
        for record in records:
            result._sum(cls(**{**record, "lengths": list(record["lengths"])}))
        return result


def statistics(work: Work, shards: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of a corpus as plain data, from what each stage counted."""
    names = splits(work.recipe)
    groups: dict[str, Any] = {
        name: {**tags, "read": 0, "removed": 0, "dropped": Counter()}
        for name, tags in work.groups.items()
    }
    for unit in range(len(work.plan["units"])):
        for name, own in read_json(work.read(unit))["groups"].items():
            groups[name]["read"] += own["read"]
            groups[name]["removed"] += own["removed"]
            groups[name]["dropped"].update(own["dropped"])
    for shard in shards:
        for name, lost in shard["dropped"].items():
            groups[name]["dropped"].update(lost)
    counted = [one for shard in shards for one in shard["shards"]]
    for name, group in groups.items():
        group["dropped"] = {r: n for r in REASONS if (n := group["dropped"][r])}
        for split in names:
            group[split] = Counts.total(
                one["counts"]
                for one in counted
                if (one["shard"]["group"], one["shard"]["split"]) == (name, split)
            ).record()
    return {"total": _total(groups.values(), names), "groups": groups}


def _total(groups: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    groups = list(groups)
    dropped = sum((Counter(group["dropped"]) for group in groups), Counter[str]())
    return {
        "read": sum(group["read"] for group in groups),
        "removed": sum(group["removed"] for group in groups),
        "dropped": {reason: dropped[reason] for reason in REASONS if dropped[reason]},
        **{split: Counts.total(group[split] for group in groups).record() for split in names},
    }
