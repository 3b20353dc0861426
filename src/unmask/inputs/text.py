"""Text in: token ids, and offsets back to the characters, through the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from unmask.batch import Segment
from unmask.errors import UserError
from unmask.inputs.encoded import Encoded, Known
from unmask.inputs.modalities import Modality
from unmask.inputs.pieces import pieces
from unmask.tokens import Tokens, fingerprint

_SPECIAL = {  # BERT's name and RoBERTa's for the tokens with a part to play
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "begin": ("[CLS]", "<s>"),
    "end": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


class TextInput:
    """A tokenizer and the longest sequence it may make, in tokens, special ones included.

    Truncation and padding baked into a tokenizer file are switched off: cutting happens here,
    and every cut is counted in the result. One encoder's tokenizer never pads.

    `beside` holds what else the encoder reads: how its pictures and recordings become segments.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int = 512) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._latest: tuple[tuple[str, str | None, int], Encoded] | None = None
        self.beside: dict[str, Modality] = {}
        self.files = True  # whether a cell may name a file of this machine
        self._latest_beside: dict[str, tuple[Any, tuple[Segment, int]]] = {}
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def read(cls, path: Path, max_length: int = 512) -> TextInput:
        """Open a `tokenizer.json`."""
        try:
            return cls(Tokenizer.from_file(str(path)), max_length)
        except Exception as error:  # the library raises bare Exception for a broken file
            raise UserError(
                f"{path} is not a tokenizer that this version reads ({error}); fetch it again"
            ) from None

    def save(self, path: Path) -> None:
        """Write a `tokenizer.json`."""
        path.write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def special_id(self, role: str) -> int | None:
        """The id of the pad, unknown, begin, end or mask token; None if there is none."""
        for name in _SPECIAL[role]:
            found = self.tokenizer.token_to_id(name)
            if found is not None:
                return int(found)
        return None

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids that stand for no text of their own."""
        added = self.tokenizer.get_added_tokens_decoder()
        roles = {i for role in _SPECIAL if (i := self.special_id(role)) is not None}
        return frozenset(roles | {i for i, token in added.items() if token.special})

    @cached_property
    def mask_id(self) -> int:
        """The id that hides a token; a UserError where the vocabulary has none."""
        found = self.special_id("mask")
        if found is None:
            raise UserError("this tokenizer has no [MASK] token: masked-language tasks need one")
        return found

    @property
    def mask_token(self) -> str:
        """How the mask is written in a text."""
        return str(self.tokenizer.id_to_token(self.mask_id))

    def encode(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoded:
        """Tokens of a text or of a pair; the longer text of a pair is cut first.

        The latest is kept: the tasks that are asked of a text ask for its tokens one after the
        other. Nobody changes its arrays.
        """
        limit = min(max_length or self.max_length, self.max_length)
        asked, latest = (text, pair, limit), self._latest
        if latest is None or latest[0] != asked:
            self._latest = latest = asked, self._encode(text, pair, limit)
        return latest[1]

    def _encode(self, text: str, pair: str | None, limit: int) -> Encoded:
        text, beyond = self._beginning(text, limit)
        if pair is not None:
            pair, more = self._beginning(pair, limit)
            beyond += more
        whole = Encoded.of(self._encoding(text, pair), beyond)
        _refuse_nothing(whole, text)
        if len(whole.ids) <= limit:
            return whole
        sides = [np.flatnonzero(whole.sides == side) for side in (0, 1)]
        room = limit - int((whole.sides < 0).sum())
        if room < 1:
            raise UserError(f"max_length {limit} leaves no room for text; set it higher")
        first, second = (len(side) for side in sides)
        kept = min(first, max(room - second, room - room // 2))
        cut = (sides[0][kept:], sides[1][room - kept :])
        return whole.without(np.concatenate(cut))

    def refuse_files(self) -> None:
        """From now on no cell may name a file of this machine, whichever model reads by this."""
        self.files = False
        for reader in self.beside.values():
            reader.files = False

    def segment(
        self, modality: str, cell: Any, rng: np.random.Generator | None
    ) -> tuple[Segment, int]:
        """What becomes of a picture or a recording, and how many of its positions were cut.

        As of a text the latest is kept: it is decoded once for all tasks that are asked of it. Not
        so of a path, behind which there may be another picture the next time.
        """
        reader = self.beside[modality]
        fixed = isinstance(cell, bytes) or (isinstance(cell, str) and not reader.files)
        if rng is not None or not fixed:
            return reader.segment(cell, rng)
        latest = self._latest_beside.get(modality)
        if latest is None or latest[0] is not cell:
            self._latest_beside[modality] = latest = cell, reader.segment(cell, None)
        return latest[1]

    @cached_property
    def begin(self) -> Segment:
        """The token that a sequence begins with which has no text."""
        found = self.special_id("begin")
        if found is None:
            raise UserError("this tokenizer has no [CLS]: what has no text would begin with none")
        return Segment(np.array([found], dtype=np.int64))

    def windows(
        self,
        text: str,
        max_length: int | None = None,
        before: str | None = None,
        overlap: int = 0,
    ) -> Iterator[Encoded]:
        """A long text as consecutive windows, no token lost; `before` is a pair's first text.

        Neighbours share `overlap` tokens of the text, or half a window where that is less.
        `before` stands in each window, cut to half the room where it is longer: the first window
        counts what was dropped. A very long text is read piece by piece as the windows are asked
        for.
        """
        limit = min(max_length or self.max_length, self.max_length)
        beyond, side = 0, 0
        if before is not None:
            (before, beyond), side = self._beginning(before, limit), 1
        rest: Encoded | None = None  # the last window so far: the next piece may go on in it
        for start, end in pieces(text):
            piece = self._piece(before, text[start:end], start, limit)
            if rest is None:
                whole = replace(piece, dropped=piece.dropped + beyond)
            else:
                whole = rest.joined(replace(piece, dropped=0), side)
            rest = None
            for window in _cut(whole, limit, side, overlap):
                if rest is not None:
                    yield rest
                rest = window
        assert rest is not None  # every text has a piece, and every piece a window
        _refuse_nothing(rest, text)
        yield rest

    def windows_of(self, tokens: Tokens, max_length: int | None = None) -> Iterator[Encoded]:
        """What `windows` gives for the text of these tokens, but for its offsets: they are 0."""
        self.refuse_strangers(tokens)
        begin, end = self._frame
        limit = min(max_length or self.max_length, self.max_length)
        room = limit - len(begin.ids) - len(end.ids)
        if room < 1:
            raise UserError("max_length leaves no room for text; set it higher")
        words = np.cumsum(tokens.starts) - 1
        for start in range(0, max(len(tokens.ids), 1), room):
            ids = tokens.ids[start : start + room].astype(np.int64)
            n = len(ids)
            origins = Known(
                np.zeros((len(begin.ids) + n + len(end.ids), 2), dtype=np.int64),
                np.concatenate((begin.sides, np.zeros(n, dtype=np.int64), end.sides)),
                np.concatenate((begin.words, words[start : start + room], end.words)),
                [*begin.tokens, *(self._names[i] for i in ids.tolist()), *end.tokens],
            )
            yield Encoded(
                np.concatenate((begin.ids, ids, end.ids)),
                np.concatenate((begin.kinds, np.zeros(n, dtype=np.int64), end.kinds)),
                origins,
            )

    def refuse_strangers(self, tokens: Tokens) -> None:
        """Refuse tokens of another tokenizer: to this encoder their numbers say something else."""
        if tokens.tokenizer != self.fingerprint:
            raise UserError(
                "the corpus was built with another tokenizer than this encoder's: build it with "
                "`tokenizer:` naming the encoder's bundle, or give a new encoder the corpus's "
                "tokenizer.json"
            )

    @cached_property
    def fingerprint(self) -> str:
        """What tells this tokenizer from others."""
        return fingerprint(self.tokenizer)

    @cached_property
    def _names(self) -> list[str]:
        return [self.tokenizer.id_to_token(i) or "" for i in range(self.vocab_size)]

    @cached_property
    def _frame(self) -> tuple[Encoded, Encoded]:
        """The special tokens before and behind a text."""
        whole = Encoded.of(self._encoding("a"))
        inside = np.flatnonzero(whole.sides == 0)
        if not len(inside):
            raise UserError("this tokenizer makes no token of the letter a: it reads no corpus")
        begin, end = np.arange(inside[0]), np.arange(inside[-1] + 1, len(whole.ids))
        return whole.pick(begin, 0), whole.pick(end, 0)

    def _piece(self, before: str | None, text: str, start: int, limit: int) -> Encoded:
        """A piece of a text that begins at `start`, behind as much of `before` as has room."""
        if before is None:
            return Encoded.of(self._encoding(text), start=start)
        whole = Encoded.of(self._encoding(before, text), start=start, side=1)
        room = limit - int(whole.special.sum())
        return whole.without(np.flatnonzero(whole.sides == 0)[max(room // 2, 0) :])

    def whole(self, text: str) -> Encoded:
        """All tokens of a text, however many: no sequence for the encoder, but to pick from."""
        result: Encoded | None = None
        for start, end in pieces(text):
            piece = Encoded.of(self._encoding(text[start:end]), start=start)
            result = piece if result is None else result.joined(piece)
        assert result is not None  # every text has a piece
        _refuse_nothing(result, text)
        return result

    def count(self, text: str) -> int:
        """How many tokens a text has, without special ones."""
        return sum(
            len(self._encoding(text[start:end], special=False)) for start, end in pieces(text)
        )

    def _beginning(self, text: str, limit: int) -> tuple[str, int]:
        """As much of a very long text as makes `limit` tokens, and how many tokens the rest has."""
        if next(pieces(text)) == (0, len(text)):
            return text, 0
        kept = count = beyond = 0
        for start, end in pieces(text):
            found = len(self._encoding(text[start:end], special=False))
            if count < limit:
                kept, count = end, count + found
            else:
                beyond += found
        return text[:kept], beyond

    def _encoding(self, text: str, pair: str | None = None, special: bool = True) -> Encoding:
        try:
            return self.tokenizer.encode(text, pair, add_special_tokens=special)
        except TypeError:  # what the library says of lone surrogates
            raise UserError(
                f"a text holds characters that are not Unicode ({text[:40]!a}); mend its encoding"
            ) from None

    def decode(self, ids: list[int]) -> str:
        """The text of some ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def _cut(whole: Encoded, limit: int, side: int = 0, overlap: int = 0) -> Iterator[Encoded]:
    """Windows of at most `limit` tokens onto the text of this side, all else in each of them."""
    inside = np.flatnonzero(whole.sides == side)
    room = limit - (len(whole.ids) - len(inside))
    if room < 1:
        raise UserError("max_length leaves no room for text; set it higher")
    if len(inside) <= room:
        yield whole
        return
    begin, end = np.arange(inside[0]), np.arange(inside[-1] + 1, len(whole.ids))
    step = room - min(overlap, room // 2)
    last = len(inside) - room  # the window that begins here, or next behind it, is the last
    for start in range(0, last + step, step):
        part = np.concatenate((begin, inside[start : start + room], end))
        yield whole.pick(part, dropped=0 if start else whole.dropped)


def _refuse_nothing(whole: Encoded, text: str) -> None:
    if not len(whole.ids):
        raise UserError(
            f"the text {text[:40]!r} has no tokens, and this tokenizer adds none of its own; "
            "drop the row"
        )
