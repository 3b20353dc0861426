"""A new WordPiece vocabulary (Schuster & Nakajima, 2012), learnt with `tokenizers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from unmask.errors import UserError
from unmask.recipe import NewTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(
    vocabulary: dict[str, int],
    lowercase: bool,
    strip_accents: bool | None = None,
    chinese_characters: bool = True,
) -> Tokenizer:
    """BERT's tokenizer around a vocabulary with at least [UNK], [CLS] and [SEP].

    Accents go with capitals unless `strip_accents` says otherwise; each Chinese character is a
    word of its own unless `chinese_characters` is False.
    """
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase,
        strip_accents=strip_accents,
        handle_chinese_chars=chinese_characters,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL if token in vocabulary])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def learn(texts: Callable[[], Iterable[str]], options: NewTokenizer) -> Tokenizer:
    """A vocabulary of `vocab_size` pieces; the same texts always give the same one.

    It is smaller where the texts hold less, and larger where they hold more single characters:
    none of those is left out.

    `texts` is called twice: the library numbers the single characters in an order of chance, which
    then breaks ties, so they are found first and numbered here. Chinese, Japanese and Korean
    characters are pieces of their own, as in BERT.
    """
    alphabet = sorted(set(_train(texts(), [], 0, options)))
    if not alphabet:
        raise UserError("the training texts hold no words to learn a vocabulary from")
    vocabulary = _train(texts(), [*SPECIAL, *alphabet], options.vocab_size, options)
    return wordpiece(vocabulary, options.lowercase)


def _train(
    texts: Iterable[str], known: list[str], size: int, options: NewTokenizer
) -> dict[str, int]:
    tokenizer = wordpiece({token: i for i, token in enumerate(SPECIAL)}, options.lowercase)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=options.min_frequency,
        special_tokens=known,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab(with_added_tokens=False)
