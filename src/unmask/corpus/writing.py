"""Last stage: the documents that are kept, as tokens in shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from unmask.corpus.arrays import ArrayFile, BitFile
from unmask.corpus.matching import fates
from unmask.corpus.normalise import Digest
from unmask.corpus.reading import read_block
from unmask.corpus.statistics import Counts
from unmask.corpus.work import Block, Work, opened, splits
from unmask.data.corpus import ARRAYS
from unmask.files import new_file, sha256, write_json
from unmask.inputs.pieces import pieces

_AT_ONCE = 1 << 17  # characters tokenised at once
_UNKNOWN = ("[UNK]", "<unk>")


def write_shard(folder: Path, number: int) -> None:
    """Write a shard's documents, those of each split and group apart, and count them."""
    work = opened(folder)
    if work.shard(number).exists():
        return
    blocks = work.shards[number]
    first, last = blocks[0].first, blocks[-1].first + blocks[-1].documents
    dropped = fates(work, first, last)
    names = list(work.groups)
    group, held = _laid_out(work, blocks, names)
    lost = {
        name: {
            reason: count
            for code, reason in ((1, "exact"), (2, "near"))
            if (count := int(((group == g) & (dropped == code)).sum()))
        }
        for g, name in enumerate(names)
    }
    shards = []
    for split in splits(work.recipe):
        wanted = (dropped == 0) & (held == (split == "valid"))
        for g in np.unique(group[wanted]).tolist():
            texts = _texts(work, blocks, wanted & (group == g))
            name = f"{split}-{names[g]}-{number:05d}"
            files, counts = _write(work, name, texts)
            shards.append(
                {
                    "shard": {
                        "name": name,
                        "split": split,
                        "group": names[g],
                        "documents": counts.documents,
                        "files": files,
                    },
                    "counts": counts.record(),
                }
            )
    write_json(work.shard(number), {"shards": shards, "dropped": lost})


def _laid_out(work: Work, blocks: list[Block], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of each document the number of its group, and whether it is held out."""
    groups, held = [], []
    place = {name: g for g, name in enumerate(names)}
    share, seed = work.recipe.held_out, work.recipe.seed
    for block in blocks:
        batch = read_block(work, block.name)
        groups += [place[name] for name in batch.column("group").to_pylist()]
        held += [
            share > 0 and Digest.of(text.as_py(), seed).held(share) for text in batch.column("text")
        ]
    return np.array(groups, dtype=np.int32), np.array(held, dtype=bool)


def _texts(work: Work, blocks: list[Block], wanted: np.ndarray) -> Iterator[list[str]]:
    """The wanted texts in their order, some at a time."""
    some: list[str] = []
    size = 0
    for block in blocks:
        start = block.first - blocks[0].first
        places = np.flatnonzero(wanted[start : start + block.documents])
        if not len(places):
            continue
        column = read_block(work, block.name).column("text")
        for i in places.tolist():
            text = column[i].as_py()
            some.append(text)
            size += len(text)
            if size >= _AT_ONCE:
                yield some
                some, size = [], 0
    if some:
        yield some


def _write(
    work: Work, name: str, texts: Iterator[list[str]]
) -> tuple[dict[str, dict[str, Any]], Counts]:
    """Tokenise texts into the files of one shard: what the manifest says of them, and counts."""
    tokenizer = work.opened_tokenizer
    small = tokenizer.get_vocab_size(with_added_tokens=True) <= 1 << 16
    unknown = next((i for u in _UNKNOWN if (i := tokenizer.token_to_id(u)) is not None), None)
    paths = {array: work.corpus / f"{name}.{array}.npy" for array in ARRAYS}
    counts = Counts()
    with ExitStack() as stack:
        partial = {array: stack.enter_context(new_file(path)) for array, path in paths.items()}
        opened = {array: stack.enter_context(path.open("wb")) for array, path in partial.items()}
        ids = ArrayFile(opened["ids"], np.dtype("<u2" if small else "<u4"))
        ends = ArrayFile(opened["ends"], np.dtype("<u8"))
        words = BitFile(opened["words"])
        end = 0
        for some in texts:
            own, starts, lengths = _tokenised(tokenizer, some)
            ids.write(own)
            words.write(starts)
            ends.write(end + lengths.cumsum())
            end += len(own)
            counts.add(some, own, starts, lengths, unknown)
        for file in (ids, ends, words):
            file.finish()
    files = {
        array: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for array, path in paths.items()
    }
    return files, counts


def _tokenised(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of some texts in a row (N,), where words begin (N,), and each text's tokens (n,).

    Very long texts go piece by piece.
    """
    ids: list[int] = []
    words: list[int | None] = []
    begins, lengths = [], []
    for text in texts:
        before = len(ids)
        for start, end in pieces(text):  # one by one: in a batch it would start threads of its own
            begins.append(len(ids))
            encoding = tokenizer.encode(text[start:end], add_special_tokens=False)
            ids += encoding.ids
            words += encoding.word_ids
        lengths.append(len(ids) - before)
    word = np.array([-1 if w is None else w for w in words], dtype=np.int64)
    starts = np.diff(word, prepend=-2) != 0
    starts[[i for i in begins if i < len(starts)]] = True
    return np.array(ids, dtype=np.int64), starts, np.array(lengths, dtype=np.int64)
