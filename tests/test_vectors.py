"""Word vectors from files, and as the first token vectors of a new encoder."""

from __future__ import annotations

import gzip
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unmask
from unmask import recipe as recipes
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.token_vectors import token_vectors
from unmask.inputs.vectors import WordVector, read_vectors
from unmask.inputs.vocabulary import learn
from unmask.inputs.word_vectors import learn_vectors
from unmask.recipe import NewTokenizer
from unmask.tasks import OPTIONS
from unmask.training.prepare import prepare
from unmask.training.vectors import fit

Words = dict[str, list[float]]


def glove(words: Words) -> bytes:
    return "".join(f"{w} {' '.join(map(repr, v))}\n" for w, v in words.items()).encode()


def text(words: Words) -> bytes:
    return f"{len(words)} {len(next(iter(words.values())))}\n".encode() + glove(words)


def binary(words: Words, end: bytes = b"\n") -> bytes:
    header = f"{len(words)} {len(next(iter(words.values())))}\n".encode()
    rows = (w.encode() + b" " + struct.pack(f"<{len(v)}f", *v) + end for w, v in words.items())
    return header + b"".join(rows)


FORMATS = {"g.txt": glove, "w.vec": text, "w.bin": binary, "w.txt.gz": text, "w.bin.gz": binary}

letters = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6, width=32)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(2, 4).flatmap(
        lambda d: st.dictionaries(letters, st.lists(numbers, min_size=d, max_size=d), min_size=1)
    )
)
def test_what_is_written_is_read(tmp_path: Path, words: Words) -> None:
    for name, write in FORMATS.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(write(words)) if name.endswith("gz") else write(words))
        found = list(read_vectors(path))
        assert [one.word for one in found] == list(words)
        assert [one.weight for one in found] == [1 / n for n in range(1, len(words) + 1)]
        expected = np.array(list(words.values()), np.float32)
        np.testing.assert_array_equal(np.stack([one.vector for one in found]), expected)


def test_binary_rows_need_no_line_break_and_words_may_hold_spaces(tmp_path: Path) -> None:
    words = {"film": [1.0, 2.0], "cat": [3.0, 4.0]}
    (tmp_path / "a.bin").write_bytes(binary(words, b""))
    assert [one.word for one in read_vectors(tmp_path / "a.bin")] == ["film", "cat"]
    (tmp_path / "a.txt").write_bytes(b"film 1 2\n. . . 3 4\n")
    assert [one.word for one in read_vectors(tmp_path / "a.txt")] == ["film", ". . ."]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"film 1 2\ncat 1 2 3\n", "line 2: 3 numbers, where the lines before have 2"),
        ("a.txt", b"film 1 2\ncat 1\n", "line 2: 1 numbers"),
        ("a.txt", b"2 2\nfilm 1 2\ncat 1\n", "line 3: 1 numbers"),
        ("a.txt", b"film 1 2\ncat 1 x\n", "line 2: what stands behind 'cat' is not 2 numbers"),
        ("a.txt", b"film 1 2\ncat nan 2\n", "line 2: its vector holds numbers that are not finite"),
        ("a.txt", b"film 1 2\ncat 1 inf\n", "line 2: .*not finite"),
        ("a.txt", b"film 1 2\ncat 1 1e99\n", "line 2: .*not finite"),
        ("a.txt", b"film 1 2\ncat 1 -3e38\n", "line 2: .*or too large"),
        ("a.txt", b"film 1 2\n\xff\xfe 1 2\n", "line 2 is not UTF-8"),
        ("a.txt", b"film 1 2\n\ncat 1 2\n", "line 2 is empty"),
        ("a.txt", b"film 1 2\n 1 2\n", "line 2: a vector without a word"),
        ("a.txt", b"3 2\nfilm 1 2\ncat 1 2\n", "promises 3 words, and there are 2"),
        ("a.txt", b"1 2\nfilm 1 2\ncat 1 2\n", "promises 1 words, and there are 2"),
        ("a.txt", b"", "line 1: no word with a vector"),
        ("a.txt", b"film\n", "line 1: no word with a vector"),
        ("a.txt", b"5 999999999\n", "line 1: .*cannot be"),
        ("a.bin", b"5 999999999\n", "line 1: .*cannot be"),
        ("a.bin", b"film 1 2\n", "begins with the number of its words"),
        ("a.bin", binary({"film": [1, 2], "cat": [1, 2]})[:-4], "word 2 of 2: the file ends here"),
        ("a.bin", b"2 2\nfilm " + bytes(8), "word 2: no word ends here"),
        ("a.bin", b"1 2\nfilm " + bytes(8) + b"cat " + bytes(8), "promises 1 words, and.*more"),
        ("a.bin", b"1 2\n\xff\xfe " + bytes(8), "word 1 is not UTF-8"),
        ("a.bin", binary({"film": [1, float("nan")]}), "word 1: .*not finite"),
        ("a.txt.gz", b"film 1 2\n", "could not be read"),
    ],
)
def test_broken_files(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        list(read_vectors(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", [b"", b"1 2\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_word(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + header + b"film 1 2\n")
    assert [one.word for one in read_vectors(tmp_path / "a.txt")] == ["film"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        list(read_vectors(tmp_path / "none.txt"))


def test_a_file_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"film 1 2\ncat 3 4\nbroken\n")
    words = read_vectors(tmp_path / "a.txt")
    assert next(words).word == "film"
    assert next(words).word == "cat"
    with pytest.raises(UserError, match="line 3"):
        next(words)


def said(word: str, *vector: float, weight: float = 1.0) -> WordVector:
    return WordVector(word, np.array(vector, np.float32), weight)


def test_tokens_are_words_or_means_of_words(text: TextInput) -> None:
    words = [
        said("film", 1, 0),
        said("Film", 0, 1, weight=3),  # the same token, in a vocabulary without capitals
        said("runs", 5, 5),
        said("films", 2, 2),  # film ##s: `film` is a word of its own, ##s is not
        said("cats", 4, 4, weight=3),
        said("xyz", 9, 9),  # unknown
    ]
    (found,) = token_vectors(words, text)
    number = text.tokenizer.token_to_id
    np.testing.assert_allclose(found.vectors[number("film")], [0.25, 0.75])
    np.testing.assert_allclose(found.vectors[number("##s")], [3.5, 3.5])
    np.testing.assert_allclose(found.vectors[number("cat")], [4, 4])
    assert found.whole[number("film")]
    assert not found.whole[number("##s")]
    assert found.known.sum() == 4
    assert not found.known[list(text.special_ids)].any()
    (nothing,) = token_vectors([], text)
    assert not nothing.known.any()


def test_a_word_is_a_token_with_and_without_the_space_before_it() -> None:
    own = TextInput(learn(lambda: ["film the film"] * 9, NewTokenizer(kind="bpe", vocab_size=300)))
    (found,) = token_vectors([said("film", 1, 2)], own)
    for token in ("film", "Ġfilm"):
        np.testing.assert_allclose(found.vectors[own.tokenizer.token_to_id(token)], [1, 2])


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(1, 12), st.integers(1, 24), st.integers(0, 9))
def test_fitting_keeps_angles(n: int, d: int, width: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32) + 3
    y = fit(x, width, 0.02, seed)
    assert y.shape == (n, width)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-6)
    assert y.std() == pytest.approx(0.02, rel=1e-3)
    centred = (x - x.mean(0)).astype(np.float64)
    if width < d:  # the best that so few dimensions can do
        u, s, v = np.linalg.svd(centred, full_matrices=False)
        centred = (u[:, :width] * s[:width]) @ v[:width]
    products, theirs = y.astype(np.float64) @ y.T, centred @ centred.T
    scale = np.trace(products) / np.trace(theirs)
    np.testing.assert_allclose(products, scale * theirs, atol=2e-4 * np.abs(products).max())


def test_own_vectors_put_words_of_the_same_neighbours_together() -> None:
    texts = ["the film was good", "the movie was good", "a cat sleeps here", "a dog sleeps here"]
    texts = [t for t in texts for _ in range(9)] + ["rare"]
    vectors = {one.word: one.vector for one in learn_vectors(lambda: texts, 4)}
    again = {one.word: one.vector for one in learn_vectors(lambda: texts, 4)}
    assert all((vectors[word] == again[word]).all() for word in vectors)
    assert "rare" not in vectors

    def alike(a: str, b: str) -> float:
        x, y = vectors[a], vectors[b]
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert alike("film", "movie") > 0.99
    assert alike("cat", "dog") > 0.99
    assert alike("film", "cat") < 0.5
    assert not list(learn_vectors(lambda: ["", "once"]))


@pytest.mark.parametrize("width", [3, 200])
def test_a_new_encoder_begins_at_them(
    width: int, tiny_recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    words = {w: rng.standard_normal(width) for w in ("film", "cat", "dog", "world", "good", "bad")}
    words["good"] = words["film"] + 0.01
    path = tmp_path / "vectors.txt"
    path.write_bytes(glove({w: v.tolist() for w, v in words.items()}))
    tiny_recipe["encoder"]["vectors"] = str(path)
    (run,) = recipes.parse(tiny_recipe, OPTIONS).values()
    with caplog.at_level(logging.INFO, "unmask"):
        model = prepare(run, torch.device("cpu")).model
    assert "6 begin at the vector of a word" in caplog.text
    table = model.encoder.embeddings.token.weight.detach()
    ids = {w: model.text.tokenizer.token_to_id(w) for w in words}
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(table[ids["film"]], table[ids["good"]], dim=0) > 0.99
    assert cosine(table[ids["film"]], table[ids["cat"]], dim=0) < 0.9
    own = table[[*ids.values()]]
    assert own.std() == pytest.approx(model.encoder.config.initializer_range, rel=0.1)
    again = prepare(run, torch.device("cpu")).model
    torch.testing.assert_close(
        again.encoder.embeddings.token.weight.detach(), table, rtol=0, atol=0
    )
    unmask.train(tiny_recipe, tmp_path / "run", ["train.steps=2"])


def test_vectors_of_other_words_are_refused(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_bytes("猫 1 2\n".encode())
    tiny_recipe["encoder"]["vectors"] = str(tmp_path / "vectors.txt")
    with pytest.raises(UserError, match="no token of the vocabulary"):
        unmask.train(tiny_recipe, tmp_path / "run")
