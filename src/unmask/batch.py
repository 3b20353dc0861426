"""Sequences, and the packed grid that every task, language and modality shares.

A *sequence* is a list of segments. Whole sequences are packed side by side into the rows of one
grid of shape (B, T). `owner`, `position` and `limit` say who may look at whom, so a packed sequence
gives exactly what it would give alone. Inference with sorted lengths is the same thing with few
sequences a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as List
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FULL = 0.95  # of a grid's positions hold a token: no other width is looked for
_GAIN = 0.97  # of the cost so far, above which another width is not worth having
_AS_DEAR = 1024  # columns at which attention costs about as much as all else, learning on a CPU


@dataclass(frozen=True)
class Segment:
    """A stretch of one modality: `values` has one entry a position.

    A token id of a text, the values of a picture's patch, or those of some frames of a recording.
    `kind` is BERT's token type: 0 for a first text, 1 for the second of a pair. `place` is where in
    the picture a patch is.
    """

    values: np.ndarray  # (n,) token ids, (n, P) patches or (n, F) frames
    kind: int | np.ndarray = 0  # one number, or one a position (n,)
    modality: str = "text"
    place: np.ndarray | None = None  # (n, 2) row and column
    origin: Any = None  # what the values came from, such as the `Encoded` of a text; for people


@dataclass(frozen=True)
class Sequence:
    """Segments that attend to each other.

    With `prefix` set, the first `prefix` positions see one another both ways and each later
    position sees the prefix and its own past: one encoder then reads and writes (UniLM,
    arXiv:1905.03197). Where it is not `causal`, each later position sees everything, and only the
    prefix is kept from seeing what comes behind it. Without a prefix, everything sees everything,
    as in BERT.

    `dropped` counts the tokens that truncation cut from this sequence: never silent.
    """

    segments: tuple[Segment, ...]
    prefix: int | None = None
    dropped: int = 0
    causal: bool = True  # behind a prefix

    @cached_property
    def length(self) -> int:
        """Number of positions."""
        return sum(len(segment.values) for segment in self.segments)

    @cached_property
    def content(self) -> tuple[Any, ...]:
        """All that the encoder sees of it: equal for sequences that are the same to it."""
        kinds = (np.broadcast_to(part.kind, len(part.values)) for part in self.segments)
        return (
            self.prefix,
            self.causal,
            *(
                (
                    part.modality,
                    part.values.shape,
                    part.values.tobytes(),
                    kind.astype(int).tobytes(),
                    None if part.place is None else part.place.tobytes(),
                )
                for part, kind in zip(self.segments, kinds, strict=True)
            ),
        )


@dataclass(frozen=True)
class Example:
    """What a task makes of a row: its sequences, the positions it wants, and the truth.

    `wanted[i]` holds the positions of `sequences[i]` whose hidden states the head will see.
    Each array in `truth` is concatenated over the batch along its first dimension.
    The sequences of one example are a *group*: they stay in one microbatch.
    `notes` is what the task needs to put its answer into words, such as the text itself; no model
    sees it.
    """

    sequences: tuple[Sequence, ...]
    wanted: tuple[np.ndarray, ...]
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Any = None

    @cached_property
    def length(self) -> int:
        """Number of positions of all its sequences."""
        return sum(sequence.length for sequence in self.sequences)


@dataclass(frozen=True)
class Batch:
    """One packed grid of B rows and T columns, holding S sequences of E examples.

    A position q sees a position k iff `owner[q] == owner[k]` and `position[k] <= limit[q]`.
    """

    owner: Tensor  # (B, T) int: 1 + the number of the sequence; 0 is padding
    position: Tensor  # (B, T) int: restarts with each sequence
    segment: Tensor  # (B, T) int: BERT's token types
    limit: Tensor  # (B, T) int: the last position that this one sees
    features: Mapping[str, tuple[Tensor, Tensor]]  # modality: values (n, ...), flat index (n,)
    wanted: Tensor  # (N,) int: flat index of the positions that a head will see
    wanted_owner: Tensor  # (N,) int: the sequence (0 … S-1) each of them belongs to
    group: Tensor  # (S,) int: the example each sequence belongs to
    places: Mapping[str, Tensor] = field(default_factory=dict)  # modality: row and column (n, 2)
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    plain: bool = False  # one bidirectional sequence a row and no padding: no mask needed

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return self.owner.shape[0], self.owner.shape[1]

    @property
    def sequences(self) -> int:
        """S, the number of sequences in the grid."""
        return self.group.shape[0]  # `len` would fix the number in a graph that is traced

    @cached_property
    def tokens(self) -> int:
        """Positions that are not padding."""
        return int((self.owner > 0).sum())

    @cached_property
    def seen(self) -> Tensor:
        """Who sees whom, as a boolean mask (B, T, T)."""
        same = self.owner[:, :, None] == self.owner[:, None, :]
        return same & (self.position[:, None, :] <= self.limit[:, :, None])

    def visible(self, window: int | None = None) -> Tensor | None:
        """The same as a mask (B, 1, T, T) for all heads; None where everyone sees everyone.

        `window` keeps only keys at most that many positions away (sliding-window attention,
        Longformer, arXiv:2004.05150).
        """
        if self.plain and (window is None or self.shape[1] <= window + 1):
            return None
        mask = self.seen
        if window is not None:
            near = (self.position[:, None, :] - self.position[:, :, None]).abs() <= window
            mask = mask & near
        return mask[:, None]

    def gather(self, hidden: Tensor) -> Tensor:
        """The hidden states (B, T, D) at the wanted positions: (N, D)."""
        return hidden.flatten(0, 1).index_select(0, self.wanted)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        if self.owner.device == torch.device(device):
            return self

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple):
                return tuple(move(item) for item in value)
            if isinstance(value, Mapping):
                return {name: move(item) for name, item in value.items()}
            return value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})


def pack_rows(lengths: List[int], width: int) -> list[list[int]]:
    """Lay items of these lengths into rows of at most `width`, first fit decreasing.

    Returns, for each row, the items in it. An item longer than `width` gets a row of its own.
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if not width:
        return [[item] for item in longest_first]
    rows: list[list[int]] = []
    space: list[int] = []
    for item in longest_first:
        for row, free in enumerate(space):
            if lengths[item] <= free:
                rows[row].append(item)
                space[row] -= lengths[item]
                break
        else:
            rows.append([item])
            space.append(width - lengths[item])
    return rows


def fitting_rows(lengths: List[int], width: int) -> list[list[int]]:
    """`pack_rows` with rows of `width`, or of a width that costs the encoder less.

    Sequences of much the same length leave the rest of each row empty: 64 positions hold one of 33,
    and 66 hold two. So where a row of `width`, or of the longest sequence, is not full, one to four
    times the longest are tried too.
    """
    if not width or not lengths:
        return pack_rows(lengths, 0)
    total, longest = sum(lengths), max(lengths)
    first = max(width, longest)
    best: list[list[int]] = []
    least = math.inf
    for most in (first, *(longest * k for k in (1, 2, 3, 4) if longest * k != first)):
        rows = pack_rows(lengths, most)
        T = max(sum(lengths[i] for i in row) for row in rows)
        cost = len(rows) * T * (_AS_DEAR + T)
        if cost < _GAIN * least:
            best, least = rows, cost
        if total > _FULL * len(rows) * T:
            break
    return best


def collate(examples: Iterable[Example], width: int = 0) -> Batch:
    """Pack examples into a grid with rows of about `width` positions (`fitting_rows`).

    With `width` 0 each sequence has a row of its own. The grid is as wide as its fullest row.
    """
    (batch,) = collate_alike([list(examples)], width)
    return batch


def collate_alike(parts: List[List[Example]], width: int = 0) -> list[Batch]:
    """The same for several lists of examples, of the very same sequences: on one grid.

    Each batch has what its own examples want, and their truth.
    """
    grid, start = _grid([s for example in parts[0] for s in example.sequences], width)
    return [Batch(**grid, **_wants(examples, start)) for examples in parts]


def _grid(sequences: List[Sequence], width: int) -> tuple[dict[str, Any], np.ndarray]:
    """A batch's fields that sequences alone decide, and the flat index where each begins (S,)."""
    rows = fitting_rows([s.length for s in sequences], width)
    T = max((sum(sequences[i].length for i in row) for row in rows), default=0)
    owner, position, segment, limit = np.zeros((4, len(rows), T), dtype=np.int64)
    features: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    places: dict[str, list[np.ndarray]] = {}
    start = np.zeros(len(sequences), dtype=np.int64)
    for b, row in enumerate(rows):
        t = 0
        for s in row:
            sequence, n = sequences[s], sequences[s].length
            start[s] = b * T + t
            owner[b, t : t + n] = s + 1
            position[b, t : t + n] = np.arange(n)
            limit[b, t : t + n] = n - 1
            if sequence.prefix is not None:
                past = np.arange(n) if sequence.causal else n - 1
                limit[b, t : t + n] = np.maximum(past, sequence.prefix - 1)
                limit[b, t : t + sequence.prefix] = sequence.prefix - 1
            for part in sequence.segments:
                m = len(part.values)
                segment[b, t : t + m] = part.kind
                values, index = features.setdefault(part.modality, ([], []))
                values.append(part.values)
                index.append(np.arange(b * T + t, b * T + t + m))
                if part.place is not None:
                    places.setdefault(part.modality, []).append(part.place)
                t += m
    grid = {
        "owner": torch.from_numpy(owner),
        "position": torch.from_numpy(position),
        "segment": torch.from_numpy(segment),
        "limit": torch.from_numpy(limit),
        "features": {
            name: (torch.from_numpy(np.concatenate(v)), torch.from_numpy(np.concatenate(i)))
            for name, (v, i) in features.items()
        },
        "places": {name: _whole(parts) for name, parts in places.items()},
        "plain": len(rows) == len(sequences)
        and all(s.length == T and s.prefix is None for s in sequences),
    }
    return grid, start


def _wants(examples: List[Example], start: np.ndarray) -> dict[str, Any]:
    """A batch's fields that say what its examples want of sequences that begin at `start`."""
    wanted = [positions for example in examples for positions in example.wanted]
    return {
        "wanted": _whole([start[s] + positions for s, positions in enumerate(wanted)]),
        "wanted_owner": _whole([np.full(len(p), s) for s, p in enumerate(wanted)]),
        "group": _whole([np.full(len(e.sequences), i) for i, e in enumerate(examples)]),
        "truth": {
            name: torch.from_numpy(np.concatenate([e.truth[name] for e in examples]))
            for name in (examples[0].truth if examples else ())
        },
    }


def together(batches: List[Batch]) -> Batch:
    """One batch of several on one grid, which wants what each of them does in turn.

    It holds no truth: that is each batch's own.
    """
    return replace(
        batches[0],
        wanted=torch.cat([batch.wanted for batch in batches]),
        wanted_owner=torch.cat([batch.wanted_owner for batch in batches]),
        truth={},
    )


def without(batch: Batch, gone: Tensor) -> tuple[Batch, Tensor]:
    """The grid packed anew without the sequences that are `gone`, (S,) bool; what stood where.

    The second is the flat index in the old grid of each new position, (B T,); of padding it is any.
    The batch holds no features and no truth: it is for hidden states on their way.
    """
    owner = batch.owner.flatten().cpu().numpy()
    lengths = np.bincount(owner, minlength=batch.sequences + 1)
    parts = np.split(np.argsort(owner, kind="stable"), lengths.cumsum())[1:]  # flat, by sequence
    stay = np.flatnonzero(~gone.cpu().numpy())
    rows = pack_rows([int(lengths[s + 1]) for s in stay], batch.shape[1])
    T = max((sum(len(parts[stay[i]]) for i in row) for row in rows), default=0)
    old = np.full((len(rows), T), -1)
    for b, row in enumerate(rows):
        own = np.concatenate([parts[stay[i]] for i in row])
        old[b, : len(own)] = own
    there = torch.from_numpy(old >= 0).to(batch.owner.device)
    index = torch.from_numpy(old.clip(0).ravel()).to(batch.owner.device)
    number = torch.zeros(batch.sequences + 1, dtype=torch.long, device=index.device)
    number[1:][~gone] = torch.arange(1, len(stay) + 1, device=index.device)

    def moved(grid: Tensor) -> Tensor:
        return grid.flatten()[index].view(there.shape) * there

    place = index.new_zeros(batch.owner.numel())  # where each position stands now
    place[index[there.flatten()]] = there.flatten().nonzero().squeeze(1)
    wanting = ~gone[batch.wanted_owner]
    found = replace(
        batch,
        owner=number[moved(batch.owner)],
        position=moved(batch.position),
        segment=moved(batch.segment),
        limit=moved(batch.limit),
        features={},
        places={},
        wanted=place[batch.wanted[wanting]],
        wanted_owner=number[batch.wanted_owner[wanting] + 1] - 1,
        group=batch.group[~gone],
        truth={},
        plain=bool(len(rows) == len(stay) and there.all() and (moved(batch.limit) == T - 1).all()),
    )
    return found, index


def _whole(parts: list[np.ndarray]) -> Tensor:
    found = np.concatenate(parts) if parts else np.zeros(0)
    return torch.from_numpy(found.astype(np.int64))
