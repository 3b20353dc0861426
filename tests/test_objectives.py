"""Pretraining objectives: what is hidden, what is replaced, what is put out of order."""

from __future__ import annotations

import builtins
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unmask
from unmask import bundle, recipe
from unmask.batch import Example, collate
from unmask.encoder import DetectHead, Encoder, EncoderConfig
from unmask.encoder.generator import narrower, sample
from unmask.errors import UserError
from unmask.inputs.pieces import pieces
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.tasks import KINDS, OPTIONS, Draw, Task, masking, row_rng
from unmask.tasks.detect import Detect
from unmask.tasks.masking import MaskingOptions, choose, words
from unmask.tasks.mlm import MlmOptions

LATIN = ["cats", "dog", "runs", "running", "sleeps", "the", "filmed", "not", "."]
HAN = ["我是程序员", "今天下雨", "电影很好看", "自然语言处理", "。"]
shared = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
latin = st.lists(st.sampled_from(LATIN), min_size=1, max_size=40).map(" ".join)
han = st.lists(st.sampled_from(HAN), min_size=1, max_size=12).map("".join)
rates = st.floats(0.05, 0.8)


@pytest.fixture
def chinese() -> TextInput:
    """A tokenizer that knows every character of `HAN`, and a few pieces of words."""
    characters = sorted({c for word in HAN for c in word})
    pieces = ["cat", "dog", "run", "sleep", "the", "film", "not", "##s", "##ning", "##ed", "."]
    found = {word: i for i, word in enumerate([*SPECIAL, *characters, *pieces])}
    return TextInput(wordpiece(found, lowercase=True), 64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def make(kind: str, text: TextInput, **options: Any) -> Task:  # type: ignore[type-arg]
    chosen = KINDS[kind].Options(**options)
    return KINDS[kind]("it", chosen, text, KINDS[kind].study("it", chosen, []))


def with_model(task: Task, make_encoder: Callable[..., Encoder], style: str = "classic") -> Model:  # type: ignore[type-arg]
    encoder = make_encoder(style)
    torch.manual_seed(1)
    return Model(encoder, task.text, {"it": task}, {"it": task.build(encoder)})


# ---- what is hidden ----


@shared
@given(
    written=latin | han | st.tuples(han, latin, han).map(" ".join),
    pair=st.none() | latin | han,
    how=st.sampled_from(["token", "word", "span"]),
    rate=rates,
    seed=st.integers(0, 9),
)
def test_what_is_hidden(
    chinese: TextInput, written: str, pair: str | None, how: str, rate: float, seed: int
) -> None:
    encoded = chinese.encode(written, pair, 64)
    texts = (written,) if pair is None else (written, pair)
    options = MaskingOptions(kind="x", rate=rate, masking=how)  # type: ignore[arg-type]
    hidden = choose(encoded, texts, options, Draw(rng(seed)))
    np.testing.assert_array_equal(hidden, choose(encoded, texts, options, Draw(rng(seed))))
    assert len(hidden) == len(set(hidden.tolist())) > 0
    assert (np.diff(hidden) > 0).all()
    assert not encoded.special[hidden].any()
    budget = max(1, round(rate * int((~encoded.special).sum())))
    if how == "token":
        assert len(hidden) == budget
        return
    word = words(encoded, texts)
    assert set(np.flatnonzero(np.isin(word, word[hidden]))) == set(hidden)  # whole words
    sizes = np.bincount(word[word >= 0])
    left = np.setdiff1d(np.arange(len(sizes)), word[hidden])
    if len(hidden) > budget:  # only where no word fits
        assert sizes.min() > budget
        assert len(hidden) == sizes.min()
    else:  # as near as can be from below: nothing that is left would fit
        assert all(sizes[left] > budget - len(hidden))


def test_pieces_of_a_word_are_one_word_and_so_are_chinese_words(chinese: TextInput) -> None:
    encoded = chinese.encode("cats running我是程序员. dog", "程序员")
    word = words(encoded, ("cats running我是程序员. dog", "程序员"))
    groups: dict[int, list[str]] = {}
    for token, number in zip(encoded.tokens, word.tolist(), strict=True):
        groups.setdefault(number, []).append(token)
    assert groups.pop(-1) == ["[CLS]", "[SEP]", "[SEP]"]
    assert list(groups) == list(range(8))
    assert groups[0] == ["cat", "##s"]
    assert groups[1] == ["run", "##ning"]
    assert [groups[i] for i in (2, 3, 4)] == [["我"], ["是"], ["程", "序", "员"]]
    assert groups[7] == ["程", "序", "员"]  # the pair's own, though it is the same word


def test_a_window_far_into_a_text_has_the_words_of_its_place(chinese: TextInput) -> None:
    written = "我是程序员今天下雨" * 5
    for window in chinese.windows(written, 11):
        word = words(window, (written,))[1:-1]
        own = [(written[a:b], n) for (a, b), n in zip(window.offsets[1:-1], word, strict=True)]
        assert own[2:5] == [("程", 2), ("序", 2), ("员", 2)]


def test_chinese_words_need_the_extra(chinese: TextInput, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "rjieba":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    masking._segmenter.cache_clear()
    for how in ("word", "span"):
        task = make("mlm", chinese, masking=how)
        assert list(task.examples({"text": "cats running"}, Draw(rng())))
        with pytest.raises(UserError, match=r"pip install 'unmask\[zh\]'"):
            list(task.examples({"text": "cats 我是程序员"}, Draw(rng())))
    assert list(make("mlm", chinese).examples({"text": "我是程序员"}, Draw(rng())))


def test_spans_are_contiguous_and_as_long_as_the_paper_says(text: TextInput) -> None:
    """At a low rate each span stands alone: geometric lengths, cut at 10, 3.8 words on average."""
    sizes, side = np.ones(4000, dtype=int), np.zeros(4000, dtype=int)
    lengths: Counter[int] = Counter()
    for seed in range(40):
        hidden = masking._words_to_hide(sizes, side, 80, True, rng(seed))
        edges = np.flatnonzero(np.diff(np.concatenate(([0], hidden, [0])).astype(int)))
        lengths.update((edges[1::2] - edges[::2]).tolist())
    assert lengths[1] / lengths.total() == pytest.approx(0.2 / (1 - 0.8**10), abs=0.05)
    mean = sum(k * v for k, v in lengths.items()) / lengths.total()
    assert mean == pytest.approx(3.8, abs=0.25)
    assert sum(v for k, v in lengths.items() if k > 10) < 0.05 * lengths.total()  # two that touch


def test_a_span_does_not_go_over_into_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """With spans of ten words: one from the fifth word ends there, and the next goes on."""
    monkeypatch.setattr(masking, "_ODDS", np.eye(10)[9])
    side, seen = np.array([0] * 5 + [1] * 5), 0
    for seed in range(1000):
        if rng(seed).permutation(10)[:2].tolist() == [4, 0]:
            hidden = masking._words_to_hide(np.ones(10, dtype=int), side, 3, True, rng(seed))
            assert np.flatnonzero(hidden).tolist() == [0, 1, 4]
            seen += 1
    assert seen


def test_the_rate_moves_over_the_run(text: TextInput) -> None:
    task = make("mlm", text, rate=[0.5, 0.1])
    row = {"text": "one two three red green " * 4}
    for progress, hidden in ((0.0, 10), (0.5, 6), (0.75, 4), (1.0, 2)):
        (example,) = task.examples(row, Draw(rng(), progress=progress))
        assert len(example.wanted[0]) == hidden
    (example,) = task.examples(row, Draw(rng()))  # evaluation
    assert len(example.wanted[0]) == 2
    again = MlmOptions.model_validate(task.options.model_dump(mode="json"))
    assert again == task.options


@pytest.mark.parametrize("rate", [0, 1, 1.5, [0.3], [0.1, 2], "much", [0.1, 0.2, 0.3]])
def test_a_wrong_rate_is_one_line(rate: Any) -> None:
    data = {
        "encoder": {"shape": "tiny"},
        "tasks": {"w": {"kind": "mlm", "train": "x", "rate": rate}},
    }
    with pytest.raises(UserError, match=r"^recipe: `tasks.w.rate`: a share between 0 and 1, or"):
        recipe.parse(data, OPTIONS)


@pytest.mark.parametrize("kind", ["mlm", "detect", "order"])
def test_the_runs_own_limit_is_kept(text: TextInput, kind: str) -> None:
    row = {"text": "the cat sleeps. the dog runs. red green blue. one two three. " * 3}
    for longest, own in ((None, None), (14, None), (14, 20), (20, 14)):
        task = make(kind, text, max_length=own)
        found = list(task.examples(row, Draw(rng(), longest=longest)))
        limit = min(x for x in (longest, own, text.max_length) if x)
        assert max(example.length for example in found) <= limit
        assert max(example.length for example in found) > limit - 6
        if kind == "order":  # sentences longer than a sequence are cut, and that is said
            long = {"text": "one two three red green blue cat dog. " * 2}
            (example,) = task.examples(long, Draw(rng(), longest=12))
            assert (example.length, example.sequences[0].dropped) == (12, 9)
        else:
            total = text.count(row["text"])
            assert sum(example.length - 2 for example in found) == total


# ---- long documents ----


@shared
@given(
    parts=st.lists(st.sampled_from(["the", "cats", "running", "ÜBER", "我们", "?!"]), max_size=120),
    space=st.sampled_from([" ", "  ", "\n\n", "\t "]),
    limit=st.integers(3, 20),
    size=st.integers(24, 80),
)
def test_piece_by_piece_is_the_whole(
    text: TextInput, parts: list[str], space: str, limit: int, size: int
) -> None:
    written = space.join(parts)
    whole = list(text.windows(written, limit))
    encoded = text.encode(written, "the cat " * 40, limit + 3)
    counted = text.count(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmask.inputs.pieces.PIECE", size)
        found = list(pieces(written))
        assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
        assert found[-1][1] == len(written)
        assert all(b - a <= size for a, b in found)
        cut = list(text.windows(written, limit))
        again = text.encode(written, "the cat " * 40, limit + 3)
        assert text.count(written) == counted
    for a, b in [*zip(whole, cut, strict=True), (encoded, again)]:
        assert a.tokens == b.tokens
        assert a.dropped == b.dropped
        for name in ("ids", "kinds", "offsets", "sides", "words"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@shared
@given(written=st.text(alphabet="我是程序员a b", max_size=300), size=st.integers(5, 40))
def test_nothing_is_lost_where_there_is_no_white_space(
    chinese: TextInput, written: str, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmask.inputs.pieces.PIECE", size)
        windows = list(chinese.windows(written, 12))
    assert all(len(w.ids) == 12 for w in windows[:-1])
    characters = {
        i for w in windows for a, b in w.offsets[~w.special].tolist() for i in range(a, b)
    }
    assert characters == {i for i, c in enumerate(written) if c != " "}


def test_long_documents_are_read_as_they_are_needed(
    text: TextInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.inputs.pieces.PIECE", 100)
    asked = []
    real = TextInput._encoding

    def counting(self: TextInput, some: str, *rest: Any, **named: Any) -> Any:
        asked.append(len(some))
        return real(self, some, *rest, **named)

    monkeypatch.setattr(TextInput, "_encoding", counting)
    examples = iter(make("mlm", text).examples({"text": "the cat was good " * 500}, Draw(rng())))
    next(examples)
    assert len(asked) <= 2
    assert max(asked) <= 100
    encoded = text.encode("the cat was good " * 500, None, 16)
    assert max(asked) <= 100
    assert (len(encoded.ids), encoded.dropped) == (16, 2000 + 2 - 16)


def test_white_space_alone_and_in_between(text: TextInput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmask.inputs.pieces.PIECE", 50)
    (window,) = text.windows(" " * 500)
    assert window.tokens == ["[CLS]", "[SEP]"]
    (window,) = text.windows("the" + " " * 500 + "cat" + " " * 200)
    assert window.tokens == ["[CLS]", "the", "cat", "[SEP]"]
    assert window.offsets.tolist() == [[0, 0], [0, 3], [503, 506], [0, 0]]
    assert window.words.tolist() == [-1, 0, 1, -1]
    encoded = text.encode(" " * 300 + "the cat", None, 8)
    assert encoded.tokens == ["[CLS]", "the", "cat", "[SEP]"]
    assert encoded.dropped == 0


# ---- detect ----


ROW = {"text": "the film was very good and the cat sleeps. how are you hello world"}


@pytest.mark.parametrize("style", ["classic", "modern", "rms"])
def test_detect_by_hand(text: TextInput, make_encoder: Callable[..., Encoder], style: str) -> None:
    """The loss is ELECTRA's: 50 times the mean over all tokens, and the mean over hidden ones."""
    task = make("detect", text, rate=0.25)
    model = with_model(task, make_encoder, style)
    head = model.head("it")
    assert isinstance(head, DetectHead)
    (example,) = task.examples(ROW, Draw(rng()))
    (wanted,), hidden = example.wanted, example.truth["hidden"]
    original = text.encode(ROW["text"]).ids
    masked = original.copy()
    masked[wanted[hidden]] = text.mask_id
    np.testing.assert_array_equal(example.sequences[0].segments[0].values, masked)
    assert hidden.sum() == round(0.25 * (len(original) - 2))
    outputs, batch = model(task, collate([example]))

    places = torch.from_numpy(wanted[hidden])
    logits = head.guess(head.generator(collate([example])).last[0][places])
    total = logits.softmax(-1).cumsum(-1)
    drawn = [
        int((row <= u * row[-1]).sum())
        for row, u in zip(total, torch.from_numpy(example.truth["uniform"]), strict=True)
    ]
    filled = original.copy()
    filled[wanted[hidden]] = drawn
    np.testing.assert_array_equal(batch.features["text"][0].numpy(), filled)
    truth = torch.from_numpy((filled != original)[wanted]).float()
    torch.testing.assert_close(batch.truth["replaced"].float(), truth)

    mlm = F.cross_entropy(logits, torch.from_numpy(original[wanted[hidden]]))
    detector = F.binary_cross_entropy_with_logits(outputs["logits"], truth)
    loss = task.loss(outputs, batch) / task.targets(batch)
    torch.testing.assert_close(loss, 50 * detector + mlm)


def test_the_generators_loss_weighs_the_same_whatever_the_rate(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    for rate in (0.1, 0.5):
        (example,) = make("detect", text, rate=rate).examples(ROW, Draw(rng()))
        weight, judged = example.truth["weight"], len(example.wanted[0])
        assert weight.sum() == pytest.approx(judged)


def test_sampling_follows_the_distribution_and_nothing_else() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]])
    uniform = torch.linspace(0, 1, 20001)[:-1]
    found = sample(logits.expand(20000, 4), uniform)
    share = found.bincount(minlength=4) / 20000
    torch.testing.assert_close(share, logits.softmax(-1)[0], atol=1e-3, rtol=0)
    assert sample(logits, torch.tensor([1 - 2.0**-24])).item() == 3
    assert sample(torch.tensor([[-torch.inf, 0.0]]), torch.zeros(1)).item() == 1


def test_replacements_do_not_depend_on_neighbours(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task = make("detect", text, rate=0.4)
    model = with_model(task, make_encoder)
    rows = ["the cat sleeps", "one two three red green blue", ROW["text"], "hello world"] * 3
    examples: list[Example] = []
    for i, row in enumerate(rows):
        examples += task.examples({"text": row}, Draw(row_rng(0, "it", 0, i)))
    together = [a.verdicts for a in model.answers(task, examples)]
    apart = [next(model.answers(task, [example])).verdicts for example in examples]
    backwards = [a.verdicts for a in model.answers(task, examples[::-1])][::-1]
    for some in (apart, backwards):
        for a, b in zip(together, some, strict=True):
            assert [(v.token, v.replaced) for v in a] == [(v.token, v.replaced) for v in b]
            assert [v.probability for v in a] == pytest.approx([v.probability for v in b], abs=1e-5)
    assert any(v.replaced for verdicts in together for v in verdicts)


def test_both_losses_reach_the_embeddings_and_each_its_own_part(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task = make("detect", text, rate=0.3)
    model = with_model(task, make_encoder)
    head = model.head("it")
    assert isinstance(head, DetectHead)
    batch = collate(task.examples(ROW, Draw(rng())))
    table = model.encoder.embeddings.token.weight

    def gradients(loss: torch.Tensor) -> dict[str, bool]:
        model.zero_grad()
        loss.backward()
        parts = {
            "table": [table],
            "generator": list(head.generator.parameters()),
            "guess": list(head.guess.parameters()),
            "detect": list(head.detect.parameters()),
            "trunk": list(model.encoder.layers.parameters()),
        }
        return {
            name: any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part)
            for name, part in parts.items()
        }

    outputs, prepared = model(task, batch)
    generator = prepared.truth["generator_loss"].sum()
    assert gradients(generator) == {
        "table": True,
        "generator": True,
        "guess": True,
        "detect": False,
        "trunk": False,
    }
    outputs, prepared = model(task, batch)
    prepared.truth["generator_loss"].detach_()
    assert gradients(task.loss(outputs, prepared)) == {
        "table": True,
        "generator": False,
        "guess": False,
        "detect": True,
        "trunk": True,
    }


def test_detect_predicts_what_it_is_given(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make("detect", text), make_encoder)
    answer, empty = model.predict("it", ["the cats sleeps", ""])
    assert [v.token for v in answer.verdicts] == ["the", "cat", "##s", "sleeps"]
    assert all(0 <= v.probability <= 1 and v.replaced is None for v in answer.verdicts)
    assert answer.tokens == 6
    assert empty.verdicts == ()


def test_detect_scores_what_can_be_told_apart(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    from unmask.tasks.detect import DetectAnswer, Verdict

    def answer(*verdicts: Verdict) -> DetectAnswer:
        return DetectAnswer(tokens=9, dropped=0, verdicts=verdicts)

    task = make("detect", text)
    good = answer(
        Verdict("a", 0.1, False), Verdict("b", 0.3, True, False), Verdict("c", 0.2, False, True)
    )
    scores = task.score([good], [ROW])
    assert scores["roc_auc"] == 1.0  # the order counts, not the threshold
    assert scores["generator_accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(-math.log(0.9 * 0.3 * 0.8) / 3)
    alone = task.score([answer(Verdict("a", 0.1, False, True))], [ROW])
    assert math.isnan(alone["roc_auc"])
    assert "roc_auc" in task.undefined


def test_the_generator_has_whole_heads_as_wide_as_the_encoders() -> None:
    base = EncoderConfig()
    assert narrower(base, 0.25).hidden_size == 192
    assert narrower(base, 0.25).num_heads == 3
    assert narrower(base, 0.25).intermediate_size == 768
    assert narrower(base, 0.01).num_heads == 1
    assert narrower(base, 1).hidden_size == 768
    assert narrower(base, 0.25).num_layers == base.num_layers


@pytest.mark.parametrize("style", ["classic", "rms"])
def test_a_bundle_keeps_the_generator(
    text: TextInput, make_encoder: Callable[..., Encoder], tmp_path: Path, style: str
) -> None:
    task = make("detect", text, generator=1.0, rate=[0.2, 0.1])
    model = with_model(task, make_encoder, style)
    bundle.save(model, tmp_path / "b")
    again = bundle.load(tmp_path / "b")
    assert not any("token" in name for name, _ in model.head("it").named_parameters())
    assert again.state_dict().keys() == model.state_dict().keys()
    head = again.head("it")
    assert isinstance(head, DetectHead)
    assert head.guess._embedding[0] is again.encoder.embeddings.token
    examples = list(task.examples(ROW, Draw(rng())))
    (one,), (other,) = model.answers(task, examples), again.answers(again.task("it"), examples)
    assert one == other
    assert again.task("it").options == task.options


# ---- order ----


DOCUMENTS = [f"{a} {b}. {c} {d}! 电影{a}。{e}\n{d} {a}" for a, b, c, d, e in zip(
    ["one", "two", "red", "cat", "how", "why"], ["is", "was", "are", "not", "and", "very"],
    ["dog", "good", "bad", "time", "blue", "green"], ["a", "the", "it", "you", "who", "what"],
    ["hello", "world", "film", "three", "great", "dull"], strict=True)]  # fmt: skip


def parts(example: Example) -> tuple[list[int], list[int]]:
    """The ids of the first and of the second part."""
    (segment,) = example.sequences[0].segments
    kinds = np.asarray(segment.kind)
    return segment.values[kinds == 0][1:-1].tolist(), segment.values[kinds == 1][:-1].tolist()


@pytest.mark.parametrize("contrast", ["sop", "nsp"])
@pytest.mark.parametrize("columns", [1, 2])
def test_labels_of_order_are_right_and_balanced(
    text: TextInput, contrast: str, columns: int
) -> None:
    pairs = [tuple(d.split("! ")) for d in DOCUMENTS]
    rows = [{"text": d, "a": a, "b": b} for d, (a, b) in zip(DOCUMENTS, pairs, strict=True)]
    chosen = "text" if columns == 1 else ["a", "b"]
    task = make("order", text, contrast=contrast, input=chosen)
    labels: Counter[int] = Counter()
    cuts = set()
    for i in range(300):
        row = rows[i % len(rows)]
        draw = Draw(row_rng(0, "it", i, 0), others=rows)
        (example,) = task.examples(row, draw)
        (label,) = example.truth["label"].tolist()
        labels[label] += 1
        first, second = parts(example)
        whole = text.encode(row["text"]).ids[1:-1].tolist()
        swapped = label == 1 and contrast == "sop"
        if swapped:
            first, second = second, first
        if label == 0 or swapped:
            assert first + second == whole or columns == 2
            cuts.add(len(first))
        else:
            assert first == whole[: len(first)]
            assert second != whole[len(first) :]
            others = [text.encode(r["text"]).ids[1:-1].tolist() for r in rows if r is not row]
            assert any(
                second == other[k : k + len(second)]
                for other in others
                for k in range(1, len(other))
            )
            if columns == 1:
                assert len(second) <= max(len(whole) - len(first), 4)
        assert example.wanted[0].tolist() == [0]
    assert labels[0] / 300 == pytest.approx(0.5, abs=0.1)
    assert columns == 2 or len(cuts) >= 4  # cut at any sentence


def test_texts_that_cannot_be_put_out_of_order(text: TextInput) -> None:
    for written in ("", "  \n ", "one sentence only", "one sentence only. "):
        assert list(make("order", text).examples({"text": written}, Draw(rng()))) == []
    nsp = make("order", text, contrast="nsp")
    row = {"text": "one is. two are"}
    for others in ((), (row,)):  # no other text: only what is in order
        for seed in range(20):
            found = list(nsp.examples(row, Draw(rng(seed), others=others)))
            assert all(example.truth["label"].tolist() == [0] for example in found)


def test_a_long_document_gives_a_pair_for_each_stretch(text: TextInput) -> None:
    sentences = [f"{a} {b} {c}." for a in ("one", "two", "cat") for b in ("is", "was")
                 for c in ("red", "blue", "green", "good")]  # fmt: skip
    task = make("order", text, max_length=20)
    found = list(task.examples({"text": " ".join(sentences)}, Draw(rng(3))))
    assert all(example.sequences[0].dropped == 0 for example in found)
    seen = []
    for example in found:
        first, second = parts(example)
        seen += second + first if example.truth["label"][0] else first + second
    whole = text.tokenizer.encode(" ".join(sentences), add_special_tokens=False)
    assert seen == whole.ids
    assert len(found) > 4


def test_order_is_judged_as_given(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    task = make("order", text)
    model = with_model(task, make_encoder)
    (example,) = task.examples({"text": "one. two three. red. blue"}, Draw(rng(), truth=False))
    first, second = parts(example)
    assert text.decode(first).split() == ["one", "two", "three"]
    assert text.decode(second).split() == ["red", "blue"]
    (answer,) = model.predict("it", ["one two. three"])
    assert answer.columns()["prediction"] in ("in order", "not in order")
    assert 0 <= answer.in_order <= 1
    with pytest.raises(UserError, match="has one sentence, so there is no order"):
        model.predict("it", ["one sentence"])
    long = "one two three. red green blue. " * 20
    (answer,) = model.predict("it", [long])
    assert answer.tokens + answer.dropped == text.count(long) + 3
    pairs = with_model(make("order", text, input=["a", "b"]), make_encoder)
    (answer,) = pairs.predict("it", [("one", "two")])
    assert answer.tokens == 5


# ---- learning ----


def learn(model: Model, rows: list[dict[str, str]], steps: int, rate: float = 3e-3) -> list[float]:
    """A plain loop: the mean loss of each step."""
    task = model.task("it")
    optimiser = torch.optim.AdamW(model.parameters(), rate)
    model.train()
    losses = []
    for step in range(steps):
        examples: list[Example] = []
        for i, row in enumerate(rows):
            examples += task.examples(row, Draw(row_rng(0, "it", step, i), others=rows))
        outputs, batch = model(task, collate(examples, 64))
        loss = task.loss(outputs, batch) / task.targets(batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    model.eval()
    return losses


COUNTING = [
    {"text": f"{a} one two three. {b} red green blue"}
    for a in ("cat", "dog", "film")
    for b in ("how", "why", "who")
]


@pytest.mark.parametrize(
    ("kind", "options", "below"),
    [
        ("mlm", {"masking": "word"}, 0.5),
        ("mlm", {"masking": "span"}, 0.5),
        ("detect", {"rate": 0.25}, 0.5),
        ("order", {"contrast": "sop"}, 0.2),
        ("order", {"contrast": "nsp", "input": ["a", "b"]}, 0.2),
    ],
)
def test_each_objective_learns(
    text: TextInput, kind: str, options: dict[str, Any], below: float
) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=64,
        max_positions=64, dropout=0.0, attention_dropout=0.0,
        initializer_range=0.2,  # at BERT's 0.02, so narrow a model takes long to begin
    )  # fmt: skip
    encoder = Encoder(config)
    task = make(kind, text, **options)
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    rows = COUNTING
    if options.get("contrast") == "nsp":
        rows = [{"a": f"the {w} was", "b": f"{w} is"} for w in ("one", "red", "cat")] * 8
    losses = learn(model, rows, 80)
    assert np.mean(losses[-10:]) < below * np.mean(losses[:5])


# ---- under a recipe ----


@pytest.mark.parametrize(
    "tasks",
    [
        {
            "words": {"kind": "mlm", "masking": "word", "rate": [0.3, 0.15], "hide": "bert"},
            "next": {"kind": "order", "contrast": "nsp"},
        },
        {"detect": {"kind": "detect"}},
        {"words": {"kind": "mlm", "masking": "span"}, "order": {"kind": "order"}},
    ],
    ids=["bert", "electra", "albert"],
)
def test_as_a_recipe(tasks: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "documents.jsonl"
    lines = [f'{{"text": "{d} number {i}"}}'.replace("\n", "\\n") for i in range(8)
             for d in DOCUMENTS]  # fmt: skip
    source.write_text("\n".join(lines), encoding="utf-8")
    own = {name: {**task, "train": str(source), "valid": 0.2} for name, task in tasks.items()}
    trained = unmask.train(
        {
            "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
            "tasks": own,
            "train": {"steps": 4, "batch_tokens": 200},
        },
        tmp_path / "run",
    )
    model = unmask.load(trained.bundle)
    for name, task in model.tasks.items():
        found = [s for s in trained.scores if s.task == name and s.metric == task.headline]
        assert found
        assert 0 <= found[0].value <= 1
        (answer,) = model.predict(name, ["one is. two are"])
        assert answer.columns()["tokens"] > 3


def test_detect_goes_on_from_its_own_head_only(text: TextInput) -> None:
    """Whose weights fit is told by the facts: a generator of another width is a new head."""
    facts = [Detect.study("it", Detect.Options(generator=share), []) for share in (0.25, 0.25, 0.5)]
    assert facts[0] == facts[1] != facts[2]
