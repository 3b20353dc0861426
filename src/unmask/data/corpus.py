"""Reading a built corpus: token ids in files that are mapped, as rows in random access.

The folder is data and no more. `corpus.json` is its manifest: the version of the layout, the
tokenizer's fingerprint, and the shards with size and sha256 of every file. A shard is three NumPy
arrays that any reader of `.npy` opens:

NAME.ids.npy     (tokens,) uint16 or uint32: the documents' token ids, one behind another
NAME.ends.npy    (documents,) uint64: where each of them ends
NAME.words.npy   (tokens / 8,) uint8: a bit a token, the first one lowest: does a word begin here?
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from unmask.data.rows import Rows, check_column
from unmask.errors import UserError
from unmask.files import read_json, sha256
from unmask.recipe import Source
from unmask.tokens import Tokens, fingerprint

MANIFEST = "corpus.json"
TOKENIZER = "tokenizer.json"
LAYOUT = 1
ARRAYS = ("ids", "ends", "words")
COLUMNS = ("text", "language", "domain")
SPLITS = ("train", "valid")


def is_corpus(path: str | list[str]) -> bool:
    """Whether a source's path is the folder of a built corpus."""
    return isinstance(path, str) and (Path(path).expanduser() / MANIFEST).is_file()


@dataclass(frozen=True)
class Shard:
    """A shard as the manifest has it."""

    folder: Path
    name: str
    documents: int
    language: str | None
    domain: str | None
    files: dict[str, dict[str, Any]]

    def file(self, array: str) -> Path:
        """Where one of its arrays is."""
        return self.folder / f"{self.name}.{array}.npy"

    def check_size(self) -> None:
        """Refuse a file that is not there or not as long as it was."""
        for array in ARRAYS:
            path, known = self.file(array), self.files[array]["bytes"]
            size = path.stat().st_size if path.is_file() else None
            if size != known:
                said = "is missing" if size is None else f"has {size} bytes, where {known} are due"
                raise UserError(f"{path} {said}: {_MEND}")

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Its arrays, mapped; their content is checked when they are first asked for."""
        for array in ARRAYS:
            path = self.file(array)
            if not path.is_file() or sha256(path) != self.files[array]["sha256"]:
                raise UserError(f"{path} is not the file that was built: {_MEND}")
        ids, ends, words = (
            np.load(self.file(array), mmap_mode="r", allow_pickle=False) for array in ARRAYS
        )
        return ids, ends, words

    def tokens(self, i: int, tokenizer: str) -> Tokens:
        """The document at place `i`."""
        ids, ends, words = self.arrays
        start, end = int(ends[i - 1]) if i else 0, int(ends[i])
        first = start // 8
        bits = np.unpackbits(words[first : -(-end // 8)], bitorder="little")
        own = bits[start - 8 * first : end - 8 * first].astype(bool)
        return Tokens(np.array(ids[start:end]), own, tokenizer)


_MEND = "restore the file, or build the corpus anew"


class CorpusRows(Rows):
    """The documents of one split of a corpus: a row is `text` (as `Tokens`), language and domain.

    Nothing is read but the manifest until a row is asked for.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        group: str | None = None,
        ids: np.ndarray | range | None = None,
    ) -> None:
        """`group` narrows it to one language and domain, `ids` to some of its places."""
        folder = Path(folder)
        self.folder, self.split, self.group = folder, split, group
        self.origin = str(folder)
        manifest = read_json(folder / MANIFEST)
        try:
            if manifest["layout"] != LAYOUT:
                raise UserError(
                    f"{folder} has layout {manifest['layout']!r}, and this version reads "
                    f"{LAYOUT}: build it anew"
                )
            groups = manifest["groups"]
            if group is not None and group not in groups:
                raise UserError(f"{folder} has no part {group!r}; it has {', '.join(groups)}")
            self._shards = [
                Shard(
                    folder,
                    shard["name"],
                    shard["documents"],
                    groups[shard["group"]]["language"],
                    groups[shard["group"]]["domain"],
                    shard["files"],
                )
                for shard in manifest["shards"]
                if shard["split"] == split and group in (None, shard["group"])
            ]
            for shard in self._shards:
                shard.check_size()
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"{folder / MANIFEST} is not the file that was built: {_MEND}"
            ) from None
        self.tokenizer_file = folder / TOKENIZER
        if not self.tokenizer_file.is_file():
            raise UserError(f"{self.tokenizer_file} is missing: {_MEND}")
        self._manifest = manifest
        self._starts = np.cumsum([0, *(shard.documents for shard in self._shards)])
        self.ids = range(int(self._starts[-1])) if ids is None else ids
        if not len(self.ids):
            raise UserError(f"{folder} holds no documents in its part {group or split!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return CorpusRows, (self.folder, self.split, self.group, self.ids)

    @cached_property
    def tokenizer(self) -> str:
        """The fingerprint of the corpus's tokenizer."""
        if sha256(self.tokenizer_file) != self._manifest["tokenizer"]["sha256"]:
            raise UserError(f"{self.tokenizer_file} is not the file that was built: {_MEND}")
        return fingerprint(Tokenizer.from_file(str(self.tokenizer_file)))

    @property
    def column_names(self) -> list[str]:
        """text, language and domain."""
        return list(COLUMNS)

    def pick(self, which: np.ndarray) -> CorpusRows:
        """The rows at these places, or where this mask holds."""
        return self._of(np.asarray(self.ids)[which])

    def _of(self, ids: np.ndarray | range) -> CorpusRows:
        rows = copy(self)  # the shards, and what is known of them, are shared
        rows.ids = ids
        return rows

    def content(self) -> Iterator[str]:
        """What these rows are made of: the hash of every file behind them."""
        for shard in self._shards:
            yield from (shard.files[array]["sha256"] for array in ARRAYS)

    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return self._of(self.ids[i])
        return dict(zip(COLUMNS, self._cells(i, list(COLUMNS)), strict=True))

    def _cells(self, i: int, columns: list[str]) -> list[Any]:
        place = int(self.ids[i])
        s = int(self._starts.searchsorted(place, side="right")) - 1
        shard = self._shards[s]
        cells: dict[str, Any] = {"language": shard.language, "domain": shard.domain}
        if "text" in columns:
            cells["text"] = shard.tokens(place - int(self._starts[s]), self.tokenizer)
        return [cells[name] for name in columns]


def read_corpus(source: Source) -> CorpusRows:
    """The rows of a source that is a corpus: `split` is train or valid, `name` a part of it."""
    assert isinstance(source.path, str)
    if source.field:
        raise UserError(f"{source.path} is a corpus: it takes no `field`; leave it out")
    split = source.split or "train"
    if split not in SPLITS:
        raise UserError(f"{source.path} has no split {split!r}; it has {' and '.join(SPLITS)}")
    rows = CorpusRows(Path(source.path).expanduser(), split, source.name)
    if source.columns:
        check_column(next(iter(source.columns)), rows.column_names, rows.origin)
        raise UserError(f"{source.path}: a corpus has its columns by name; leave `columns` out")
    return rows[: source.limit]
