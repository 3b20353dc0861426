"""Fewer tokens: kept texts are read alike and give the same numbers; the others are still read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from unmask.encoder import Encoder, MaskedHead
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import learn
from unmask.model import Model
from unmask.recipe import NewTokenizer
from unmask.shrink.tokenizer import trimmed
from unmask.shrink.vocabulary import trim
from unmask.tasks.classify import Classify, ClassifyOptions
from unmask.tasks.mlm import Mlm, MlmOptions

KINDS = ("wordpiece", "bpe", "unigram")
_LETTERS = "abcdefghé日本語 mnop.,"


def _texts(seed: int, count: int = 300) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(1, 6))) for _ in range(80)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(count)]


TOKENIZERS = {
    kind: learn(
        lambda: _texts(0),
        NewTokenizer(kind=kind, vocab_size=400, min_frequency=1),
    )
    for kind in KINDS
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(_LETTERS + "xyz☃", min_size=1), min_size=1, max_size=5))
def test_any_texts_are_read_as_before(kind: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    used = {i for text in texts for i in tokenizer.encode(text).ids}
    small, old = trimmed(tokenizer, used)
    assert old == sorted(old)
    for text in texts:
        before, after = tokenizer.encode(text, text), small.encode(text, text)
        assert before.tokens == after.tokens
        assert before.ids == [old[i] for i in after.ids]
        assert before.type_ids == after.type_ids
        assert before.offsets == after.offsets


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_kept_texts_are_the_same_bit_for_bit(
    kind: str, make_encoder: Callable[..., Encoder]
) -> None:
    text = TextInput(Tokenizer.from_str(TOKENIZERS[kind].to_str()), 64)
    encoder = make_encoder(vocab_size=text.vocab_size + 5)
    mood = Classify("mood", ClassifyOptions(), text, {"labels": ["a", "b", "c"]})
    words = Mlm("words", MlmOptions(), text)
    tasks: dict[str, Any] = {"mood": mood, "words": words}
    model = Model(encoder, text, tasks, {name: task.build(encoder) for name, task in tasks.items()})
    torch.nn.init.normal_(model.head("words").bias)
    kept = _texts(0)[:4]
    small = trim(model, lambda: kept)
    assert small.text.vocab_size == small.encoder.config.vocab_size < 0.75 * text.vocab_size
    with torch.inference_mode():
        for one in kept:
            assert torch.equal(model.hidden(one), small.hidden(one))
            ours, theirs = (m.predict("mood", one)[0].probabilities for m in (small, model))
            assert ours == theirs
    head, whole = small.head("words"), model.head("words")
    assert isinstance(head, MaskedHead)
    names = [small.text.tokenizer.id_to_token(i) for i in range(small.text.vocab_size)]
    old = [text.tokenizer.token_to_id(name) for name in names]
    assert torch.equal(head.bias, whole.bias[old])
    assert "[MASK]" in names or "<mask>" in names
    with torch.inference_mode():
        assert small.hidden("zzz unseen 語語 words").isfinite().all()
    assert model.encoder.config.vocab_size == text.vocab_size + 5  # the original stands


def test_spelling_stays_possible_with_the_letters_that_are_left() -> None:
    whole = TOKENIZERS["wordpiece"]
    small, _ = trimmed(whole, whole.encode("abc").ids)
    assert "[UNK]" not in small.encode("cba bca").tokens


def test_positions_follow_the_padding_token(make_encoder: Callable[..., Encoder]) -> None:
    """As in RoBERTa, where [PAD]'s number decides at which row of the table positions begin."""
    raw = json.loads(TOKENIZERS["bpe"].to_str())
    text = TextInput(Tokenizer.from_str(json.dumps(raw)), 32)
    pad = text.special_id("pad")
    assert pad is not None
    model = Model(make_encoder(vocab_size=text.vocab_size, position_offset=pad + 3), text)
    small = trim(model, lambda: ["abc"])
    assert small.encoder.config.position_offset == pad + 1
    assert torch.equal(small.hidden("abc"), model.hidden("abc"))


def test_what_cannot_be_trimmed_is_said(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = Model(make_encoder(), text)
    with pytest.raises(UserError, match="no texts to trim"):
        trim(model, lambda: [])
    raw = json.loads(TOKENIZERS["bpe"].to_str())
    raw["model"]["end_of_word_suffix"] = "</w>"
    with pytest.raises(UserError, match="end_of_word_suffix"):
        trimmed(Tokenizer.from_str(json.dumps(raw)), {1})


def test_unigram_keeps_what_an_unknown_character_costs() -> None:
    """The lowest score stays, so no way through a text becomes better than it was."""
    whole = TOKENIZERS["unigram"]
    small, old = trimmed(whole, whole.encode("abc").ids)
    scores = [dict(json.loads(t.to_str())["model"]["vocab"]) for t in (whole, small)]
    assert min(scores[0].values()) == min(scores[1].values())
    assert np.all(np.diff(old) > 0)
