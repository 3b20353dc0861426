"""The kinds of vocabulary: what a tokenizer of each does before and after its model.

All have the same special tokens with the same numbers, and put them around texts alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(
    vocabulary: dict[str, int],
    lowercase: bool,
    strip_accents: bool | None = None,
    chinese_characters: bool = True,
) -> Tokenizer:
    """BERT's tokenizer around a vocabulary with at least [UNK], [CLS] and [SEP].

    WordPiece (Schuster & Nakajima, 2012): the longest piece first. Accents go with capitals unless
    `strip_accents` says otherwise; each Chinese character is a word of its own unless
    `chinese_characters` is False.
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
    tokenizer.post_processor = _around(vocabulary)
    return tokenizer


def byte_level(
    vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], lowercase: bool
) -> Tokenizer:
    """RoBERTa's and ModernBERT's way: pieces of bytes, so that nothing is ever unknown.

    BPE (Sennrich et al., arXiv:1508.07909) over the bytes of UTF-8 (Radford et al., 2019). A piece
    holds the space before it. So does [MASK], as in those two.
    """
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges), unk_token="[UNK]"))
    tokenizer.normalizer = _normaliser([normalizers.NFC()], lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_special())
    # Offsets without the space: a token then lies where its word does.
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), _around(vocabulary)]
    )
    return tokenizer


def metaspace(pieces: Sequence[tuple[str, float]], lowercase: bool) -> Tokenizer:
    """XLM-R's way: the likeliest pieces of each word, whose first one begins with `▁`.

    The unigram model of Kudo (arXiv:1804.10959). `pieces` have log-probabilities, those of
    `SPECIAL` first.
    """
    tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=SPECIAL.index("[UNK]")))
    tokenizer.normalizer = _normaliser([normalizers.Nmt(), normalizers.NFKC()], lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(_special())
    tokenizer.post_processor = _around({token: i for i, token in enumerate(SPECIAL)})
    return tokenizer


def _normaliser(first: list[normalizers.Normalizer], lowercase: bool) -> normalizers.Normalizer:
    return normalizers.Sequence(first + [normalizers.Lowercase()] * lowercase)


def _special() -> list[AddedToken]:
    """The special tokens; [MASK] takes the space before it with it, as a piece would."""
    return [AddedToken(token, lstrip=token == "[MASK]", special=True) for token in SPECIAL]


def _around(vocabulary: Mapping[str, int]) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
