"""A new vocabulary on an old model: what agrees is copied, what is alike is mixed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

import unmask
from unmask import bundle
from unmask.encoder import DetectHead, Encoder, MaskedHead
from unmask.errors import UserError
from unmask.inputs.forms import Form, forms
from unmask.inputs.text import TextInput
from unmask.inputs.vectors import WordVector
from unmask.inputs.vocabulary import SPECIAL, learn, wordpiece
from unmask.inputs.vocabulary.kinds import byte_level, metaspace
from unmask.model import Model
from unmask.recipe import NewTokenizer
from unmask.saving import save_as
from unmask.tasks import KINDS, OPTIONS
from unmask.training.new_vocabulary import agreed, with_vocabulary

TEXTS = ["the film was good", "the cat runs", "the dog sleeps", "was it bad, dull or great"] * 5


def no_words() -> Iterator[WordVector]:
    raise AssertionError("all tokens agree: no vectors are needed")


def nothing() -> Iterator[WordVector]:
    return iter(())


def said(**vectors: tuple[float, ...]) -> Callable[[], Iterator[WordVector]]:
    return lambda: (WordVector(w, np.array(v, np.float32), 1.0) for w, v in vectors.items())


@pytest.fixture
def old(text: TextInput, make_encoder: Callable[..., Encoder]) -> Model:
    """A model with a masked-language head, a detector and a classifier, all weights random."""
    encoder = make_encoder("classic")
    tasks = {}
    for kind, facts in (("mlm", {}), ("detect", {"generator": 0.5}), ("classify", LABELS)):
        tasks[kind] = KINDS[kind](kind, OPTIONS[kind](), text, facts)
    heads = {name: task.build(encoder) for name, task in tasks.items()}
    for head in heads.values():
        for p in head.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return Model(encoder, text, tasks, heads)


LABELS = {"labels": ["a", "b"]}


def pieces(*words: str) -> dict[str, int]:
    return {word: i for i, word in enumerate([*SPECIAL, *words])}


def test_the_same_vocabulary_changes_nothing(old: Model, text: TextInput) -> None:
    new = with_vocabulary(old, text.tokenizer, no_words, 0)
    after = new.state_dict()
    for name, tensor in old.state_dict().items():
        rows = text.vocab_size if tensor.shape[:1] == (64,) else None  # of a table or its biases
        torch.testing.assert_close(after[name][:rows], tensor[:rows], msg=name)
    torch.testing.assert_close(new.hidden("the film"), old.hidden("the film"))


def test_tokens_in_another_order_say_the_same(old: Model, text: TextInput) -> None:
    """The masked-language head follows: the same guesses under other numbers."""
    turned = [*SPECIAL, *reversed([t for t in text.tokenizer.get_vocab() if t not in SPECIAL])]
    tokenizer = wordpiece({t: i for i, t in enumerate(turned)}, lowercase=True)
    new = with_vocabulary(old, tokenizer, no_words, 0)
    torch.testing.assert_close(new.hidden("the cats ran"), old.hidden("the cats ran"))
    for task in ("classify", "detect"):
        before, after = (m.predict(task, "the film was good")[0] for m in (old, new))
        assert before.short == after.short
    with torch.no_grad():
        before, after = (m.head("mlm")(m.hidden("the [MASK]")) for m in (old, new))
    order = [text.tokenizer.token_to_id(token) for token in turned]
    torch.testing.assert_close(after[:, : len(order)], before[:, order])


def test_what_tokens_say(text: TextInput) -> None:
    bytes_ = TextInput(byte_level(pieces("Ġfilm", "film", "s", "Ġ", "æ", "Ġæ", ","), [], False))
    space = TextInput(metaspace([(t, 0.0) for t in pieces("▁film", "film", "▁", ",", "▁,")], False))
    assert forms(bytes_) == {
        5: Form(True, b"film"),
        6: Form(False, b"film"),
        7: Form(False, b"s"),
        8: Form(True, b""),
        9: Form(False, b"\xe6"),  # a part of a character
        10: Form(True, b"\xe6"),
        11: Form(False, b","),
    }
    assert [*forms(space).values()] == [
        Form(True, b"film"),
        Form(False, b"film"),
        Form(True, b""),
        Form(False, b","),
        Form(True, b","),
    ]
    number = text.tokenizer.token_to_id
    found = forms(text)
    assert found[number("film")] == Form(True, b"film")
    assert found[number("##s")] == Form(False, b"s")
    roles = {i: i for i in range(5)}
    assert agreed(text, bytes_) == roles | {5: number("film"), 7: number("##s")}
    assert agreed(text, space) == roles | {5: number("film")}
    assert agreed(bytes_, space) == roles | {5: 5, 6: 6, 7: 8, 8: 11, 9: 11}


def test_capitals_and_signs_agree_as_the_old_vocabulary_reads_them() -> None:
    old = TextInput(wordpiece(pieces("film", ",", "我", "##我", "resume"), lowercase=True))
    new = TextInput(metaspace([(t, 0) for t in pieces("▁Film", ",", "我", "▁résumé", "x")], False))
    found = {new.tokenizer.id_to_token(a): old.tokenizer.id_to_token(b)
             for a, b in agreed(old, new).items() if a > 4}  # fmt: skip
    assert found == {"▁Film": "film", ",": ",", "我": "##我", "▁résumé": "resume"}


def test_what_is_alike_is_mixed_and_the_rest_drawn(
    old: Model, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = wordpiece(pieces("film", "movie", "puppy", "我", "filmed"), lowercase=True)
    vectors = said(
        film=(1, 0, 0), dog=(0, 1, 0), cat=(0, 0.9, 0.1), movie=(1, 0, 0.01), puppy=(0, 2, 0.1)
    )
    with caplog.at_level(logging.INFO, "unmask"):
        new = with_vocabulary(old, tokenizer, vectors, 0)
    assert "10 tokens: the vectors of 6 are copied, of 3 combined" in caplog.text
    assert "of 1 drawn at random" in caplog.text
    table = new.encoder.embeddings.token.weight.detach()
    theirs = old.encoder.embeddings.token.weight.detach()
    number = old.text.tokenizer.token_to_id
    torch.testing.assert_close(table[5], theirs[number("film")])
    torch.testing.assert_close(table[6], theirs[number("film")], atol=1e-3, rtol=0)
    torch.testing.assert_close(table[9], (theirs[number("film")] + theirs[number("##ed")]) / 2)
    shares = np.exp(
        np.array([cosine((0, 2, 0.1), v) for v in ((0, 1, 0), (0, 0.9, 0.1), (1, 0, 0))]) / 0.1
    )
    shares /= shares.sum()
    expected = sum(
        float(share) * theirs[number(word)]
        for share, word in zip(shares, ("dog", "cat", "film"), strict=True)
    )
    torch.testing.assert_close(table[7], expected)
    head, before = new.head("mlm"), old.head("mlm")
    assert isinstance(head, MaskedHead)
    assert isinstance(before, MaskedHead)
    torch.testing.assert_close(head.bias[5], before.bias[number("film")])
    torch.testing.assert_close(head.bias[7], sum(
        float(share) * before.bias[number(word)]
        for share, word in zip(shares, ("dog", "cat", "film"), strict=True)
    ))  # fmt: skip
    detect, then = new.head("detect"), old.head("detect")
    assert isinstance(detect, DetectHead)
    assert isinstance(then, DetectHead)
    torch.testing.assert_close(detect.guess.bias[5], then.guess.bias[number("film")])
    again = with_vocabulary(old, tokenizer, vectors, 0).encoder.embeddings.token.weight
    assert torch.equal(again, table)
    other = with_vocabulary(old, tokenizer, vectors, 1).encoder.embeddings.token.weight
    assert not torch.equal(other[8], table[8])
    assert torch.equal(other[[*range(8), 9]], table[[*range(8), 9]])


def cosine(x: tuple[float, ...], y: tuple[float, ...]) -> float:
    a, b = np.array(x), np.array(y)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_without_any_vectors_the_rest_is_drawn(old: Model) -> None:
    new = with_vocabulary(old, wordpiece(pieces("我"), lowercase=True), nothing, 0)
    assert torch.isfinite(new.encoder.embeddings.token.weight).all()
    theirs = old.encoder.embeddings.token.weight
    torch.testing.assert_close(new.encoder.embeddings.token.weight[:5], theirs[:5])


@pytest.mark.parametrize("pad", [0, 1, 4])
def test_an_encoder_that_counts_positions_from_its_padding(
    pad: int, text: TextInput, make_encoder: Callable[..., Encoder], tmp_path: Path
) -> None:
    """RoBERTa: one token type, and positions behind the padding token's number."""
    encoder = make_encoder("classic", position_offset=3, num_segments=1)
    task = KINDS["mlm"]("mlm", OPTIONS["mlm"](), text)
    old = Model(encoder, text, {"mlm": task}, {"mlm": task.build(encoder)})
    order = [t for t in text.tokenizer.get_vocab() if t != "[PAD]"]
    order.insert(pad, "[PAD]")
    tokenizer = wordpiece({t: i for i, t in enumerate(order)}, lowercase=True)
    new = with_vocabulary(old, tokenizer, no_words, 0)
    torch.testing.assert_close(new.hidden("the cats ran"), old.hidden("the cats ran"))
    assert not new.tokenize("the cat", "the dog").kinds.any()
    save_as(new, tmp_path / "hf", "huggingface")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "hf")("the cats", "ran", return_tensors="pt")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "hf").eval()
    assert theirs.config.model_type == "roberta"
    with torch.no_grad():
        ours = new.head("mlm")(new.hidden("the cats", "ran"))
        torch.testing.assert_close(ours, theirs(**tokens).logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_in_a_recipe(
    kind: str, tiny_recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_recipe["encoder"]["tokenizer"]["min_frequency"] = 15
    first = unmask.train(tiny_recipe, tmp_path / "first")
    tiny_recipe["encoder"] = {
        "from": str(first.bundle),
        "tokenizer": {"kind": kind, "vocab_size": 300, "min_frequency": 1},
        "adapters": {"a": {"rank": 2}},
    }
    with caplog.at_level(logging.INFO, "unmask"):
        second = unmask.train(tiny_recipe, tmp_path / "second", ["train.steps=2"])
    assert "vectors of" in caplog.text
    assert "goes on from the head 'words'" in caplog.text
    model = bundle.load(second.bundle)
    assert model.text.tokenizer.to_str() == second.model.text.tokenizer.to_str()
    assert model.text.vocab_size != first.model.text.vocab_size
    assert model.text.max_length == first.model.text.max_length
    assert model.fill("the film was [MASK]").guesses
    tiny_recipe["encoder"] = {"from": str(second.bundle), "tokenizer": str(first.bundle)}
    third = unmask.train(tiny_recipe, tmp_path / "third", ["train.steps=1"])
    assert third.model.tokenize("the film").tokens == first.model.tokenize("the film").tokens


def test_mixing_beats_chance(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """A word that the old vocabulary lacks gets the vector of one that stands in its places."""
    nouns = ["film", "movie", "soup", "stew"]
    rows = [
        f"the {noun} was {word}"
        for noun, words in zip(nouns, [("long", "loud")] * 2 + [("salty", "hot")] * 2, strict=True)
        for word in words
    ] * 10
    tokenizer = learn(lambda: rows, NewTokenizer(vocab_size=200))
    lacking = [t for t in tokenizer.get_vocab() if not t.startswith(("movi", "stew"))]
    (tmp_path / "old").mkdir()
    TextInput(wordpiece({t: i for i, t in enumerate(lacking)}, lowercase=True)).save(
        tmp_path / "old" / "tokenizer.json"
    )
    data = tmp_path / "rows.txt"
    data.write_text("\n".join(rows), encoding="utf-8")
    tasks = {"words": {"kind": "mlm", "train": str(data), "valid": None}}
    train = {"steps": 1, "batch_tokens": 100}
    start = {"shape": "tiny", "tokenizer": str(tmp_path / "old")}
    first = unmask.train({"encoder": start, "tasks": tasks, "train": train}, tmp_path / "a")
    new = {"from": str(first.bundle), "tokenizer": {"vocab_size": 200}}
    train["learning_rate"] = 1e-9
    second = unmask.train({"encoder": new, "tasks": tasks, "train": train}, tmp_path / "b")
    table = second.model.encoder.embeddings.token.weight.detach()
    number = second.model.text.tokenizer.token_to_id
    alike = torch.nn.functional.cosine_similarity
    vector = {noun: table[number(noun)] for noun in nouns}
    assert (
        alike(vector["movie"], vector["film"], 0) > alike(vector["movie"], vector["soup"], 0) + 0.2
    )
    assert alike(vector["stew"], vector["soup"], 0) > alike(vector["stew"], vector["film"], 0) + 0.2


@pytest.mark.parametrize(
    ("encoder", "train", "told"),
    [
        (
            {"from": "a", "vectors": "v.txt"},
            {},
            "`vectors` beside `from` are for a new",
        ),
        ({"from": "a", "tokenizer": {}}, {"frozen": True}, "encoder.tokenizer.*it is frozen"),
        ({"from": "a", "tokenizer": {"kind": "x"}}, {}, "'wordpiece', 'bpe' or 'unigram'"),
        ({"from": "a", "tokenizer": {"temprature": 2}}, {}, "did you mean `temperature`"),
    ],
)
def test_mistakes_in_recipes(
    encoder: dict[str, Any], train: dict[str, Any], told: str, tiny_recipe: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=told):
        unmask.train({**tiny_recipe, "encoder": encoder, "train": train})
