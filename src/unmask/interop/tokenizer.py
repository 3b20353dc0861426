"""A checkpoint's tokenizer: read from `tokenizer.json` or `vocab.txt`, and written as both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tokenizers import Tokenizer, models, normalizers

from unmask.encoder import EncoderConfig
from unmask.errors import UserError
from unmask.files import write_json
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.interop import google
from unmask.interop.folder import Folder

_SETTINGS = "tokenizer_config.json"
_ROLES = {  # our name of a special token's part -> theirs
    "pad": "pad_token",
    "unknown": "unk_token",
    "begin": "cls_token",
    "end": "sep_token",
    "mask": "mask_token",
}
# These classes let the settings overrule the normaliser in tokenizer.json, so we do too.
_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_NORMALISER = {  # the settings' names -> the normaliser's
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class _Settings(BaseModel):
    """What of tokenizer_config.json matters here."""

    tokenizer_class: str | None = None
    model_max_length: float | None = None
    model_input_names: list[str] = ["token_type_ids"]
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True


def read_text(folder: Folder, config: EncoderConfig, max_length: int | None) -> TextInput:
    """The folder's tokenizer, checked against the encoder's shape."""
    with folder.explain(_SETTINGS):
        settings = _Settings.model_validate(folder.json(_SETTINGS))
    longest = max_length or settings.model_max_length or config.max_positions
    length = int(min(longest, config.max_positions))
    if folder.has("tokenizer.json"):
        text = TextInput.read(folder.file("tokenizer.json"), length)
        _overrule(text.tokenizer, settings)
    elif folder.has("vocab.txt"):
        text = TextInput(_word_pieces(folder, settings), length)
    elif config.image is not None:  # of pictures alone: all it needs is [CLS]
        text = TextInput(wordpiece({name: i for i, name in enumerate(SPECIAL)}, True), length)
    else:
        raise UserError(
            f"{folder.path} has neither tokenizer.json nor vocab.txt; make it: in transformers, "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    if text.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer in {folder.path} has ids up to {text.vocab_size - 1} and vocab_size in "
            f"config.json is {config.vocab_size}: it belongs to another model"
        )
    kinds = config.num_segments if "token_type_ids" in settings.model_input_names else 1
    if config.num_segments and max(text.tokenizer.encode("a", "b").type_ids, default=0) >= kinds:
        raise UserError(
            f"the tokenizer in {folder.path} gives the second text of a pair token type 1, and the "
            f"model is fed only {kinds}: set it to 0 in the post_processor of tokenizer.json"
        )
    return text


def write_text_input(text: TextInput, config: EncoderConfig, path: Path) -> None:
    """Write `tokenizer.json`, its settings, and `vocab.txt` where it is made of word pieces."""
    text.save(path / "tokenizer.json")
    inputs = ["input_ids", "attention_mask"]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # which takes tokenizer.json as it is
        "model_max_length": text.max_length,
        "model_input_names": [*inputs, "token_type_ids"] if config.num_segments > 1 else inputs,
        "clean_up_tokenization_spaces": False,
    }
    for role, name in _ROLES.items():
        number = text.special_id(role)
        if number is not None:
            settings[name] = text.tokenizer.id_to_token(number)
    if isinstance(text.tokenizer.model, models.WordPiece):
        text.tokenizer.model.save(str(path))
        normalizer = text.tokenizer.normalizer
        if isinstance(normalizer, normalizers.BertNormalizer):
            settings |= {theirs: getattr(normalizer, ours) for theirs, ours in _NORMALISER.items()}
    write_json(path / _SETTINGS, settings)


def _overrule(tokenizer: Tokenizer, settings: _Settings) -> None:
    name = settings.tokenizer_class or _BERT_CLASSES[0]
    normalizer = tokenizer.normalizer
    if name.removesuffix("Fast") in _BERT_CLASSES and isinstance(
        normalizer, normalizers.BertNormalizer
    ):
        for theirs, ours in _NORMALISER.items():
            if theirs in settings.model_fields_set:
                setattr(normalizer, ours, getattr(settings, theirs))
        tokenizer.normalizer = normalizer


def _word_pieces(folder: Folder, settings: _Settings) -> Tokenizer:
    """BERT's tokenizer from its list of word pieces, one a line."""
    path = folder.file("vocab.txt")
    try:
        with path.open(encoding="utf-8") as lines:
            vocab = {line.rstrip("\n"): number for number, line in enumerate(lines)}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from None
    needed = ("[UNK]", "[CLS]", "[SEP]")
    if any(token not in vocab for token in needed):
        raise UserError(f"{path} lacks one of {needed}: it is not a list of BERT's word pieces")
    lowercase = settings.do_lower_case
    if google.is_google(folder) and "do_lower_case" not in settings.model_fields_set:
        lowercase = google.lower_case(folder, vocab)
    return wordpiece(
        vocab,
        lowercase=lowercase,
        strip_accents=settings.strip_accents,
        chinese_characters=settings.tokenize_chinese_chars,
    )
