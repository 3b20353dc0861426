"""Learning a vocabulary with `tokenizers`: the same texts always give the same one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers, trainers

from unmask import progress
from unmask.errors import UserError
from unmask.inputs.vocabulary.kinds import SPECIAL, byte_level, metaspace, wordpiece
from unmask.recipe import NewTokenizer

log = logging.getLogger("unmask")

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())  # how 256 bytes are written
_DIGITS = 6  # of a log-probability; behind them stands the order in which it was summed
_RUN = 10_000  # characters without white space; the library's time grows with their square
_STEP = 1e-4  # between the scores that the library gives to characters it would have dropped

Texts = Callable[[], Iterable[str]]


def learn(texts: Texts, options: NewTokenizer) -> Tokenizer:
    """A vocabulary of `vocab_size` pieces, special tokens among them.

    It is smaller where the texts hold less, and larger where they hold more single characters, of
    which none is left out; both are said. `texts` may be called twice. A UserError where there is
    nothing to learn from, or something that is no text.
    """
    read = _checked(texts)
    tokenizer = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}[options.kind](
        read, options
    )
    size = tokenizer.get_vocab_size()
    if size < options.vocab_size:
        log.warning(
            "the texts hold fewer pieces than vocab_size %d asks for%s: the vocabulary has %d",
            options.vocab_size,
            "" if options.kind == "unigram" else f" (that occur {options.min_frequency} times)",
            size,
        )
    elif size > options.vocab_size:
        log.warning(
            "the texts hold so many different characters, each a piece of its own, that the "
            "vocabulary has %d pieces, more than vocab_size %d",
            size,
            options.vocab_size,
        )
    return tokenizer


def _checked(texts: Texts) -> Texts:
    """The texts, made sure to be some."""

    def read() -> Iterator[str]:
        some = False
        for text in texts():
            if "\0" in text:
                raise UserError(
                    f"a text holds NUL characters ({text[:40]!r}), as binary files do; "
                    "leave that file out"
                )
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"a text holds characters that are not Unicode ({text[:40]!a}); mend its "
                    "encoding"
                ) from None
            some = some or bool(text.strip())
            if any(len(run) > _RUN for run in text.split()):
                text = re.sub(rf"\S{{{_RUN}}}(?=\S)", r"\g<0> ", text)
            yield text
        if not some:
            raise UserError("the training texts hold no words to learn a vocabulary from")

    return read


# The library's own bars would end in empty lines on standard output.
def _train(tokenizer: Tokenizer, texts: Texts, trainer: Any) -> Tokenizer:
    with progress.bar("learning a vocabulary", None, "texts") as advance:

        def read() -> Iterator[str]:
            for text in texts():
                yield text
                advance(1)

        tokenizer.train_from_iterator(read(), trainer)
    return tokenizer


def _wordpiece(texts: Texts, options: NewTokenizer) -> Tokenizer:
    """In two passes: the library numbers single characters in an order of chance.

    That order then breaks ties; so the characters are found first, and numbered here.
    """

    def pass_over(known: list[str], size: int) -> dict[str, int]:
        tokenizer = wordpiece({token: i for i, token in enumerate(SPECIAL)}, options.folds)
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=options.min_frequency,
            special_tokens=known,
            show_progress=False,
        )
        return _train(tokenizer, texts, trainer).get_vocab(with_added_tokens=False)

    alphabet = sorted(set(pass_over([], 0)))
    if not alphabet:
        raise UserError("the training texts hold no words to learn a vocabulary from")
    return wordpiece(pass_over([*SPECIAL, *alphabet], options.vocab_size), options.folds)


def _bpe(texts: Texts, options: NewTokenizer) -> Tokenizer:
    least = len(SPECIAL) + len(_BYTES)
    if options.vocab_size < least:
        raise UserError(
            f"vocab_size {options.vocab_size}: bpe begins with the 256 bytes and "
            f"{len(SPECIAL)} special tokens; ask for at least {least}"
        )
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=_BYTES,
        show_progress=False,
    )
    start = {token: i for i, token in enumerate(SPECIAL)}
    model = json.loads(_train(byte_level(start, [], options.folds), texts, trainer).to_str())
    merges = [(left, right) for left, right in model["model"]["merges"]]
    return byte_level(model["model"]["vocab"], merges, options.folds)


def _unigram(texts: Texts, options: NewTokenizer) -> Tokenizer:
    """As the library learns it, less what chance had a part in (see `_settled`)."""

    def pass_over(size: int) -> list[tuple[str, float]]:
        trainer = trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            unk_token="[UNK]",
            show_progress=False,
        )
        start = metaspace([(token, 0.0) for token in SPECIAL], options.folds)
        model = json.loads(_train(start, texts, trainer).to_str())
        return [(piece, score) for piece, score in model["model"]["vocab"] if piece not in SPECIAL]

    try:
        pieces = pass_over(options.vocab_size)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception
        if "all chars" not in str(error):
            raise
        pieces = pass_over(len(SPECIAL) + _characters(texts, options))
    if not pieces:
        raise UserError("the training texts hold no words to learn a vocabulary from")
    return metaspace([*((token, 0.0) for token in SPECIAL), *_settled(pieces)], options.folds)


def _settled(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The pieces by their log-probability, and among equals by the alphabet.

    The library sums in an order of chance, and so do the last digits differ: they are rounded off.
    Characters that the model would have dropped it brings back at the lowest score, at that and a
    step, at that and two steps, and so on, in an order of chance: here all have the lowest.
    """
    score = {piece: round(value, _DIGITS) for piece, value in pieces}
    lowest = min(score.values())
    steps: dict[int, list[str]] = {}
    for piece, value in score.items():
        step = round((value - lowest) / _STEP)
        if len(piece) == 1 and abs(value - lowest - step * _STEP) < 2 * 10**-_DIGITS:
            steps.setdefault(step, []).append(piece)
    for step in range(len(steps)):
        if step not in steps:
            break
        score |= dict.fromkeys(steps[step], lowest)
    return sorted(score.items(), key=lambda item: (-item[1], item[0]))


def _characters(texts: Texts, options: NewTokenizer) -> int:
    """How many different characters the pieces must be made of, the mark of a word among them."""
    normaliser = metaspace([(token, 0.0) for token in SPECIAL], options.folds).normalizer
    found = {"▁"}
    for text in texts():
        found.update("".join(normaliser.normalize_str(text).split()))
    return len(found)
