"""A task's rows: to learn from, to choose by, and to score."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from unmask.data.corpus import CorpusRows
from unmask.data.sources import Rows, chosen, hold_out, read, require
from unmask.errors import UserError
from unmask.recipe import Source, TaskOptions

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class Splits:
    """A task's rows; those to learn from may be absent where a bundle is only scored."""

    train: Rows | None
    valid: Rows | None
    test: Rows | None


def split_rows(name: str, options: TaskOptions, seed: int) -> Splits:
    """Read a task's sources; where a split is a share, hold out that share of `train`."""
    train = read_checked(name, options, options.train) if options.train else None
    parts: dict[str, Rows | None] = {}
    for split in ("test", "valid"):
        source = getattr(options, split)
        if isinstance(source, float):
            if train is None:
                continue
            if isinstance(train, CorpusRows):
                assert options.train is not None
                parts[split] = _held_by_corpus(name, train, options.train, split)
                continue
            train, held = hold_out(train, source, list(options.held_by), seed)
            log.info("task %s: %d of its rows are held out as %s", name, len(held), split)
            parts[split] = held
        else:
            parts[split] = None if source is None else read_checked(name, options, source)
    return Splits(train, parts.get("valid"), parts.get("test"))


def _held_by_corpus(name: str, train: CorpusRows, source: Source, split: str) -> Rows:
    """A corpus was split when it was built: what it held out is to choose by."""
    if split != "valid":
        raise UserError(
            f"task {name}: {train.origin} was split when it was built; in place of a share give "
            f"`{split}: {{path: {train.origin}, split: valid}}` and `valid: null`, or other rows"
        )
    try:
        held: Rows = CorpusRows(train.folder, "valid", train.group)
    except UserError:
        raise UserError(
            f"task {name}: {train.origin} was built without a held-out part; "
            "set `valid: null`, or build it with `held_out`"
        ) from None
    if source.only or source.without:
        held = chosen(held, source.model_copy(update={"limit": None}))
    log.info("task %s: %d documents that the corpus held out are its valid rows", name, len(held))
    return held


def read_checked(name: str, options: TaskOptions, source: Source) -> Rows:
    """The rows of a source, made sure to be there with the columns that the task names."""
    rows = read(source)
    require(rows, options.needed)
    if len(rows) == 0:
        raise UserError(f"task {name}: {rows.origin} holds no rows")
    return rows
