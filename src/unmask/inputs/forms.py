"""What a token of any vocabulary says, so that those of two can be compared."""

from __future__ import annotations

import json
from typing import NamedTuple

from tokenizers import models

from unmask.inputs.text import TextInput
from unmask.inputs.words import spaceless, words


class Form(NamedTuple):
    """A token's bytes, and whether a word begins with it."""

    begins: bool
    said: bytes

    @property
    def loose(self) -> Form:
        """The form with a sign, or a Chinese character, as the beginning of a word.

        It has its place in a sentence anyhow, and each kind of vocabulary marks it otherwise.
        """
        return self._replace(begins=self.begins or _stands_alone(self.said))


def forms(text: TextInput) -> dict[int, Form]:
    """The form of each token by its id, special ones left out.

    BERT marks what goes on in a word (`##ing`), RoBERTa's bytes (`Ġ`) and SentencePiece (`▁`) what
    begins one.
    """
    tokenizer = text.tokenizer
    rest = json.loads(tokenizer.to_str())
    around = json.dumps([rest[part] for part in ("normalizer", "pre_tokenizer", "decoder")])
    found = {}
    tokens = tokenizer.get_vocab(with_added_tokens=True)
    for token, i in sorted(tokens.items(), key=lambda item: item[1]):
        if i in text.special_ids:
            continue
        if isinstance(tokenizer.model, models.WordPiece):
            mark = tokenizer.model.continuing_subword_prefix
            found[i] = Form(not token.startswith(mark), token.removeprefix(mark).encode())
        elif "ByteLevel" in around:
            said = (
                bytes(_BYTES[c] for c in token) if set(token) <= _BYTES.keys() else token.encode()
            )
            found[i] = Form(said.startswith(b" "), said.removeprefix(b" "))
        elif "\\u2581" in around:
            found[i] = Form(token.startswith("▁"), token.removeprefix("▁").encode())
        else:
            found[i] = Form(True, token.encode())
    return found


def folded(form: Form, text: TextInput) -> Form:
    """A form as another vocabulary reads it: without capitals, say, where that has none."""
    normaliser = text.tokenizer.normalizer
    try:
        said = form.said.decode()
    except UnicodeDecodeError:  # a part of a character
        return form
    if normaliser is None:
        return form
    return form._replace(said=normaliser.normalize_str(said).strip(" ▁").encode())


def _stands_alone(said: bytes) -> bool:
    """Signs, and single characters of scripts without spaces."""
    try:
        shown = said.decode()
    except UnicodeDecodeError:
        return False
    return words(shown) == [shown] and (not shown.isalnum() or spaceless(shown) > 0)


def _byte_alphabet() -> dict[str, int]:
    """How GPT-2 writes bytes: printable ones as they are, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): byte for byte in printable}
    return shown | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
