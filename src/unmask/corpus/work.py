"""The folder a corpus is built in: its plan, its blocks, and what of it is done.

Every file in it is written whole or not at all, and is the same whoever writes it. So a file that
is there is done, and a build that was killed goes on by looking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from unmask.corpus.options import CorpusRecipe
from unmask.data.corpus import SPLITS, TOKENIZER
from unmask.errors import UserError
from unmask.files import locked, new_file, read_json

BLOCK_DOCUMENTS, BLOCK_BYTES = 1 << 16, 1 << 23  # a block ends at the first of them
_PARTS, _LONGEST = 64, 16  # shards there should be at least, for many processes; blocks a shard
MOST = 1 << 32  # documents that can be numbered

# All that stands in the folder beside the plan.
_OURS = (
    "lock",
    "corpus",
    "read",
    "blocks",
    "sketch",
    "parts.json",
    "dropped",
    "shards",
    "replaced",
)

EXACT = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u4")])
BAND = np.dtype([("key", "<u8"), ("document", "<u4")])


@dataclass(frozen=True)
class Block:
    """Some documents that follow one another, in a file; `first` is the number of the first one."""

    name: str
    first: int
    documents: int


@dataclass(frozen=True)
class Work:
    """A build under way; equal for equal folders, so that a process opens each once."""

    folder: Path

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is built: the recipe, the units of its sources, the tokenizer's hash."""
        plan: dict[str, Any] = read_json(self.folder / "plan.json")
        return plan

    @cached_property
    def recipe(self) -> CorpusRecipe:
        """The recipe."""
        return CorpusRecipe.model_validate(self.plan["recipe"])

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's copy in the corpus."""
        return self.corpus / TOKENIZER

    @cached_property
    def opened_tokenizer(self) -> Tokenizer:
        """The tokenizer, which cuts nothing."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @property
    def corpus(self) -> Path:
        """What will be the corpus."""
        return self.folder / "corpus"

    def read(self, unit: int) -> Path:
        """What the reading of a unit found."""
        return self.folder / "read" / f"{unit:05d}.json"

    def block(self, name: str) -> Path:
        """The documents of a block."""
        return self.folder / "blocks" / f"{name}.arrow"

    def sketch(self, name: str, array: str) -> Path:
        """What the documents of a block are told apart by: exact, bands or signatures."""
        return self.folder / "sketch" / f"{name}.{array}.npy"

    def dropped(self, part: int, parts: int, reason: str) -> Path:
        """The documents that one part of the comparing drops, in order."""
        return self.folder / "dropped" / f"{part:05d}-of-{parts:05d}.{reason}.npy"

    def shard(self, number: int) -> Path:
        """What the writing of a shard gave."""
        return self.folder / "shards" / f"{number:05d}.json"

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks in order, once everything is read."""
        found: list[Block] = []
        first = 0
        for unit in range(len(self.plan["units"])):
            for number, count in enumerate(read_json(self.read(unit))["blocks"]):
                found.append(Block(f"{unit:05d}-{number:06d}", first, count))
                first += count
        if first > MOST:
            raise UserError(f"{first:,} documents are more than one corpus can number: split it")
        return found

    @cached_property
    def groups(self) -> dict[str, dict[str, str | None]]:
        """The languages and domains of the documents that were read, by name."""
        found: dict[str, dict[str, str | None]] = {}
        for unit in range(len(self.plan["units"])):
            for name, group in read_json(self.read(unit))["groups"].items():
                tags = {tag: group[tag] for tag in ("language", "domain")}
                check_tags(name, found.setdefault(name, tags), tags)
        return dict(sorted(found.items()))

    @cached_property
    def shards(self) -> list[list[Block]]:
        """The blocks of each shard: it depends on the documents alone, not on who builds."""
        size = min(max(len(self.blocks) // _PARTS, 1), _LONGEST)
        return [self.blocks[i : i + size] for i in range(0, len(self.blocks), size)]

    @property
    def parts(self) -> int:
        """In how many parts documents are compared; chosen to fit memory, it changes no result.

        Read anew each time: a build that goes on may have another memory.
        """
        return int(read_json(self.folder / "parts.json"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse to work where another process is at work, or where something else stands."""
        begun = (self.folder / "plan.json").exists()
        names = () if begun or not self.folder.is_dir() else sorted(os.listdir(self.folder))
        if odd := [name for name in names if name not in _OURS and name[0] != "."]:
            raise UserError(
                f"{self.folder} is where work under way would stand, and it holds {odd[0]!r}: "
                "move that away, or choose another folder with --out"
            )
        with locked(self.folder):
            yield

    def sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for file in self.folder.rglob(".*"):
            if file.is_file():
                file.unlink(missing_ok=True)


def opened(folder: Path) -> Work:
    """The work in a folder, opened once a process, and anew where another has begun there."""
    plan = (folder / "plan.json").stat()
    return _opened(folder, plan.st_ino, plan.st_mtime_ns)


@lru_cache(maxsize=1)
def _opened(folder: Path, plan: int, written: int) -> Work:
    return Work(folder)


def check_tags(group: str, ours: dict[str, str | None], theirs: dict[str, str | None]) -> None:
    """Refuse documents whose tags differ, but not in the name of their part."""
    if ours != theirs:
        raise UserError(
            f"the tags {ours} and {theirs} both make the part {group!r}: rename one of them"
        )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name a file of the work that something has changed since it was written."""
    try:
        yield
    except (ValueError, EOFError, OSError) as error:  # Arrow's own are of the first
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{path} is not as the build wrote it ({reason}): remove {path.parents[1]}, and the "
            "same command begins anew"
        ) from None


def load_array(path: Path) -> np.ndarray:
    """An array that `save_array` wrote, mapped."""
    with explained(path):
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array whole or not at all, as `np.save` does.

    That one writes past Python, and does not say what the disk says where it is full.
    """
    array = np.ascontiguousarray(array)
    with new_file(path) as partial, partial.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def splits(recipe: CorpusRecipe) -> tuple[str, ...]:
    """The splits of a corpus: train, and valid if something is held out."""
    return SPLITS if recipe.held_out else SPLITS[:1]
