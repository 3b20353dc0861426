"""Learning a vocabulary: deterministic, complete, and BERT's own way with Chinese."""

from __future__ import annotations

import random
import string

import pytest

from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, learn
from unmask.recipe import NewTokenizer


def test_the_same_texts_give_the_same_vocabulary() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7))) for _ in range(300)]
    texts = [" ".join(rng.choices(words, k=8)) for _ in range(200)]
    options = NewTokenizer(vocab_size=400)
    first, second = (learn(lambda: texts, options).to_str() for _ in range(2))
    assert first == second


def test_no_character_of_the_texts_is_unknown() -> None:
    texts = ["我是程序员，你好！", "The running runners ran.", "Über naïve façades"] * 2
    text = TextInput(learn(lambda: texts, NewTokenizer(vocab_size=200)))
    unknown = text.special_id("unknown")
    assert text.vocab_size <= 200
    assert [text.tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    for one in texts:
        assert unknown not in text.encode(one).ids
    assert text.encode("我是程序员").tokens == ["[CLS]", "我", "是", "程", "序", "员", "[SEP]"]
    cased = TextInput(learn(lambda: texts, NewTokenizer(vocab_size=200, lowercase=False)))
    assert cased.decode(cased.encode(texts[1]).ids.tolist()) == "The running runners ran."


def test_texts_without_words() -> None:
    with pytest.raises(UserError, match="hold no words"):
        learn(lambda: ["  ", ""], NewTokenizer())
