"""Kind `generate`: one encoder writes, from left to right and in parallel rounds."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import unmask
from unmask.batch import Example, collate
from unmask.bundle import save
from unmask.cli.main import main
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.tasks import Draw, Generate, TextAnswer, row_rng
from unmask.tasks.generation import left_to_right, parallel, scores
from unmask.tasks.generation.constraints import Constraints
from unmask.tasks.generation.options import DecodeOptions, GenerateOptions
from unmask.tasks.generation.rows import Rows, best_of
from unmask.tasks.generation.stream import parts

STYLES = ("classic", "modern", "rms")
SOURCES = ["the cat sleeps", "how are you hello world", "red", "one two three the dog runs"]
few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def make(text: TextInput, **options: Any) -> Generate:
    chosen = GenerateOptions(**({"input": "en", "target": "de", "target_length": 12} | options))
    return Generate("it", chosen, text)


def with_model(task: Generate, make_encoder: Callable[..., Encoder], style: str) -> Model:
    encoder = make_encoder(style)
    torch.manual_seed(1)
    return Model(encoder, task.text, {"it": task}, {"it": task.build(encoder)})


def of_length(n: int, text: TextInput, make_encoder: Callable[..., Encoder]) -> Model:
    """A model that writes in parallel, and takes all texts to have so many pieces."""
    model = with_model(make(text, mode="parallel"), make_encoder, "classic")
    head: Any = model.head("it")
    with torch.no_grad():
        head.lengths.bias[n] = 100.0
    return model


def rng(i: int = 0) -> np.random.Generator:
    return row_rng(0, "it", 0, i)


def prompts(task: Generate, sources: Sequence[str]) -> list[Any]:
    examples = [next(task.examples({"en": s}, Draw(rng(), truth=False))) for s in sources]
    return [task.lessons.begin(e.notes, DecodeOptions()) for e in examples]


def pen_of(model: Model) -> Any:
    task: Any = model.tasks["it"]
    return task._pen(model.encoder, model.head("it"))


# ---- what is learnt ----


@pytest.mark.parametrize("style", STYLES)
def test_from_left_to_right_each_piece_foresees_the_next(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    """The loss by hand: one pass for each piece, over what comes before it and nothing else."""
    task = make(text, label_smoothing=0.0)
    model = with_model(task, make_encoder, style)
    row = {"en": "the cat sleeps", "de": "two dogs"}
    (example,) = task.examples(row, Draw(rng()))
    target = [*text.encode("two dogs").ids[1:-1], text.special_id("end")]
    assert example.truth["piece"].tolist() == target
    (prompt,) = prompts(task, ["the cat sleeps"])
    expected = 0.0
    for i, piece in enumerate(target):
        written = np.array(target[:i], dtype=np.int64)
        sequence = prompt.sequence(written, task.pieces.kind)
        alone = Example((sequence,), (np.array([sequence.length - 1]),))
        hidden = model.encoder(collate([alone])).wanted
        expected -= float(model.head("it")(hidden).log_softmax(-1)[0, piece].detach())
    outputs, batch = model(task, collate([example]))
    assert float(task.loss(outputs, batch).detach()) == pytest.approx(expected, abs=1e-4)
    (answer,) = task.answers({k: v.detach() for k, v in outputs.items()}, batch, [example])
    assert answer.reading is not None
    assert answer.reading.loss == pytest.approx(expected, abs=1e-4)


@few
@given(
    style=st.sampled_from(STYLES),
    source=st.integers(1, 8),
    target=st.integers(2, 8),
    place=st.integers(0, 7),
    mode=st.sampled_from(["left_to_right", "parallel"]),
)
def test_nothing_sees_what_it_must_not(
    text: TextInput,
    make_encoder: Callable[..., Encoder],
    style: str,
    source: int,
    target: int,
    place: int,
    mode: str,
) -> None:
    """A changed piece of the target changes itself and what may see it, and nothing before."""
    place = min(place, target - 1)
    task, encoder = make(text), make_encoder(style)
    (prompt,) = prompts(task, [" ".join(["cat"] * source)])
    ids = np.arange(10, 10 + target)
    changed = ids.copy()
    changed[place] = 40
    states = []
    for one in (ids, changed):
        sequence = prompt.sequence(one, task.pieces.kind, causal=mode == "left_to_right")
        states.append(encoder(collate([Example((sequence,), ())])).last[0].detach())
    same = prompt.prefix + (place if mode == "left_to_right" else 0)
    torch.testing.assert_close(states[0][:same], states[1][:same], atol=1e-6, rtol=0)
    assert (states[0][prompt.prefix + place] - states[1][prompt.prefix + place]).abs().max() > 1e-4


def test_parallel_lessons_hide_a_random_share_and_name_the_length(text: TextInput) -> None:
    task = make(text, mode="parallel")
    row = {"en": "the cat", "de": "one two three red green blue"}
    original = text.encode(row["de"]).ids[1:-1]
    shares = set()
    for i in range(60):
        (example,) = task.examples(row, Draw(rng(i)))
        (wanted,), truth = example.wanted, example.truth
        assert (wanted[0], truth["piece"][0], truth["of_length"][0]) == (0, 6, True)
        ids = np.concatenate([part.values for part in example.sequences[0].segments])
        places = wanted[1:] - example.notes.prefix
        assert (ids[wanted[1:]] == text.mask_id).all()
        np.testing.assert_array_equal(truth["piece"][1:], original[places])
        assert ids[-1] == text.special_id("end")
        shares.add(len(places))
    assert shares == set(range(1, 7))
    both = make(text, mode="both")
    kinds = {next(both.examples(row, Draw(rng(i)))).sequences[0].causal for i in range(20)}
    assert kinds == {True, False}
    held = {
        next(both.examples(row, Draw(rng(i), learn=False))).sequences[0].causal for i in range(20)
    }
    assert held == {True}


@few
@given(
    words=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    mode=st.sampled_from(["left_to_right", "parallel", "both"]),
    style=st.sampled_from(STYLES),
)
def test_packed_training_is_unpacked_training(
    text: TextInput,
    make_encoder: Callable[..., Encoder],
    words: list[int],
    mode: str,
    style: str,
) -> None:
    task = make(text, mode=mode)
    model = with_model(task, make_encoder, style)
    rows = [{"en": "cat " * n, "de": "dog " * (12 - n)} for n in words]
    examples = [next(task.examples(row, Draw(rng(i)))) for i, row in enumerate(rows)]
    with torch.no_grad():
        packed = task.loss(*model(task, collate(examples, 64)))
        apart = sum(task.loss(*model(task, collate([e]))) for e in examples)
    torch.testing.assert_close(packed, apart, atol=1e-3, rtol=1e-5)


def test_label_smoothing_is_torchs(text: TextInput) -> None:
    from unmask.encoder import cross_entropy

    logits = torch.randn(7, 30, requires_grad=True)
    truth = torch.randint(0, 30, (7,))
    ours = cross_entropy(logits, truth, 0.1)
    (gradient,) = torch.autograd.grad(ours, logits)
    theirs = torch.nn.functional.cross_entropy(logits, truth, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, logits)[0])


# ---- how it is written ----


@pytest.mark.parametrize("style", STYLES)
def test_cached_is_uncached(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    """Rows of different lengths, reordered and doubled on the way, against whole passes."""
    task = make(text)
    model = with_model(task, make_encoder, style)
    pen, own = pen_of(model), prompts(task, SOURCES)
    which, written = [0, 1, 2, 3], [[] for _ in SOURCES]  # type: list[int], list[list[int]]
    with torch.no_grad():
        rows = Rows(pen, own)
        draw = np.random.default_rng(0)
        for step in range(8):
            if step in (2, 5):
                order = [3, 1, 1, 0] if step == 2 else [2, 0, 3]
                rows.select(torch.tensor(order))
                which, written = [which[i] for i in order], [list(written[i]) for i in order]
            tokens = draw.integers(5, 40, len(which))
            for ids, token in zip(written, tokens.tolist(), strict=True):
                ids.append(token)
            rows.feed(torch.from_numpy(tokens))
            for r, (i, ids) in enumerate(zip(which, written, strict=True)):
                sequence = own[i].sequence(np.array(ids), pen.kind)
                last = np.array([sequence.length - 1])
                hidden = model.encoder(collate([Example((sequence,), (last,))])).wanted
                torch.testing.assert_close(rows.log_p[r], pen.log_p(hidden)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", STYLES)
def test_texts_that_share_a_prompt_are_texts_alone(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    """Three texts a prompt, which go on from one another while prompts end, against whole passes.

    There are enough prompts that they are read in several grids.
    """
    task = make(text)
    model = with_model(task, make_encoder, style)
    pen, own = pen_of(model), prompts(task, [f"{s} {'cat ' * 15}" for s in SOURCES * 30])
    W = 3
    which = list(range(len(own)))
    written: list[list[list[int]]] = [[[] for _ in range(W)] for _ in own]
    with torch.no_grad():
        rows = Rows(pen, own, W)
        draw = np.random.default_rng(0)
        for step in range(6):
            ends = draw.random(len(which)) < 0.6
            left = [k for k in range(len(which)) if k == 0 or not ends[k]]
            order = rows.keep(left)
            assert sorted(order) == left
            which, written = [which[k] for k in order], [written[k] for k in order]
            if step:
                origin = draw.integers(0, W, (len(which), W))
                rows.follow(torch.from_numpy(origin))
                written = [
                    [list(texts[w]) for w in ways]
                    for texts, ways in zip(written, origin, strict=True)
                ]
            tokens = draw.integers(5, 40, (len(which), W))
            for texts, pieces in zip(written, tokens.tolist(), strict=True):
                for ids, piece in zip(texts, pieces, strict=True):
                    ids.append(piece)
            rows.feed(torch.from_numpy(tokens).flatten())
            log_p = rows.log_p.view(len(which), W, -1)
            for r, i in enumerate(which):
                for w, ids in enumerate(written[r]):
                    sequence = own[i].sequence(np.array(ids), pen.kind)
                    last = np.array([sequence.length - 1])
                    hidden = model.encoder(collate([Example((sequence,), (last,))])).wanted
                    expected = pen.log_p(hidden)[0]
                    torch.testing.assert_close(log_p[r, w], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [64, 500, 1024])
def test_the_best_of_blocks_are_the_best_of_all(size: int) -> None:
    log_p = torch.randn(7, size, generator=torch.Generator().manual_seed(0))
    log_p[:, 3] = -torch.inf
    for count in (1, 5):
        values, which = best_of(log_p, count)
        expected = log_p.topk(count)
        torch.testing.assert_close(values, expected.values, atol=0, rtol=0)
        torch.testing.assert_close(which, expected.indices)
        nothing, _ = best_of(log_p[:0], count)  # where all of a canvas is given
        assert nothing.shape == (0, count)


@pytest.mark.parametrize("style", STYLES)
def test_in_rounds_cached_is_uncached(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    """The first round of parallel writing, by hand."""
    task = make(text, mode="parallel")
    model = with_model(task, make_encoder, style)
    pen, own = pen_of(model), prompts(task, SOURCES)
    options = DecodeOptions(rounds=1, lengths=3, top=3)
    with torch.no_grad():
        drafts = parallel.write(pen, task.pieces, own, options)
        constraints = Constraints(task.pieces, options, own, pen.vocabulary)
        for i, prompt in enumerate(own):
            assert len({len(draft.ids) for draft in drafts[i]}) == 3
            for draft in drafts[i]:
                n = len(draft.ids)
                ids = np.append(np.full(n, text.mask_id), task.pieces.end)
                sequence = prompt.sequence(ids, pen.kind, causal=False)
                wanted = prompt.prefix + np.arange(n)
                hidden = model.encoder(collate([Example((sequence,), (wanted,))])).wanted
                log_p = constraints.alone(pen.log_p(hidden), torch.full((n,), i))
                log_p[:, task.pieces.end] = -torch.inf
                best = log_p.max(-1)
                assert draft.ids == best.indices.tolist()
                first = Example((prompt.sequence(ids[:0], pen.kind),), (np.array([0]),))
                lengths = pen.head.guess_lengths(model.encoder(collate([first])).wanted)[0, 1:]
                expected = best.values.sum() + lengths.log_softmax(-1)[n - 1]
                assert draft.log_p == pytest.approx(float(expected), abs=1e-4)


@few
@given(
    style=st.sampled_from(STYLES),
    rounds=st.integers(2, 5),
    schedule=st.sampled_from(["linear", "cosine"]),
    prefix=st.sampled_from(["", "the film"]),
)
def test_all_rounds_cached_are_uncached(
    text: TextInput,
    make_encoder: Callable[..., Encoder],
    style: str,
    rounds: int,
    schedule: str,
    prefix: str,
) -> None:
    """Mask-predict by hand: in each round a whole pass over source and text, nothing kept."""
    task = make(text, mode="parallel")
    model = with_model(task, make_encoder, style)
    options = DecodeOptions(rounds=rounds, lengths=2, top=2, schedule=schedule, prefix=prefix)  # type: ignore[arg-type]
    pen = pen_of(model)
    own = [task.lessons.begin(p, options) for p in prompts(task, SOURCES)]
    with torch.no_grad():
        drafts = parallel.write(pen, task.pieces, own, options)
        constraints = Constraints(task.pieces, options, own, pen.vocabulary)
        for i, prompt in enumerate(own):
            for draft in drafts[i]:
                n, given_ = len(draft.ids), len(prompt.begun)
                ids = np.append(np.full(n, text.mask_id), task.pieces.end)
                ids[:given_] = prompt.begun
                chances = torch.full((n,), torch.inf)
                masked = np.arange(given_, n)
                for number in range(1, rounds + 1):
                    ids[masked] = text.mask_id
                    sequence = prompt.sequence(ids, pen.kind, causal=False)
                    example = Example((sequence,), (prompt.prefix + masked,))
                    log_p = pen.log_p(model.encoder(collate([example])).wanted)
                    allowed = constraints.alone(log_p, torch.full((len(masked),), i))
                    allowed[:, task.pieces.end] = -torch.inf
                    best = allowed.max(-1)
                    ids[masked], chances[masked] = best.indices.numpy(), best.values
                    over = number / rounds
                    share = 1 - over if schedule == "linear" else math.cos(math.pi / 2 * over)
                    again = int((n - given_) * np.float32(share))
                    if not again:
                        break
                    masked = chances.argsort(stable=True)[:again].sort().values.numpy()
                assert draft.ids == ids[:n].tolist()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"beams": 3, "top": 3},
        {"temperature": 1.0, "top_k": 20, "top_p": 0.9, "seed": 4, "top": 2},
        {"mode": "parallel", "top": 2, "rounds": 3},
    ],
    ids=["greedy", "beams", "drawn", "parallel"],
)
def test_a_text_alone_is_the_text_among_others(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str, how: dict[str, Any]
) -> None:
    task = make(text, mode="both")
    model = with_model(task, make_encoder, style)
    together = model.predict("it", SOURCES, **how)
    for source, answer in zip(SOURCES, together, strict=True):
        (alone,) = model.predict("it", source, **how)
        assert [t.text for t in alone.texts] == [t.text for t in answer.texts]
        for a, b in zip(alone.texts, answer.texts, strict=True):
            assert a.log_probability == pytest.approx(b.log_probability, abs=1e-4)
        assert len(answer.texts) == how.get("top", 1)
    again = model.predict("it", SOURCES, **how)
    assert [a.texts for a in again] == [a.texts for a in together]


@pytest.mark.parametrize("style", STYLES)
def test_one_beam_takes_the_likeliest(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    task = make(text)
    pen, own = pen_of(with_model(task, make_encoder, style)), prompts(task, SOURCES)
    with torch.no_grad():
        greedy = left_to_right.write(pen, task.pieces, own, DecodeOptions())
        beam = left_to_right.search(pen, task.pieces, own, DecodeOptions(beams=1))
        wide = left_to_right.write(pen, task.pieces, own, DecodeOptions(beams=4, length_penalty=0))
    for (a,), (b,), (c,) in zip(greedy, beam, wide, strict=True):
        assert (a.ids, a.ended) == (b.ids, b.ended)
        assert a.log_p == pytest.approx(b.log_p, abs=1e-4)
        assert c.log_p >= a.log_p - 1e-4 or not a.ended


def test_wide_beams_find_the_best_text(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """As many beams as there are texts of two pieces: the best of all of them is found."""
    task = make(text)
    model = with_model(task, make_encoder, "classic")
    pen = pen_of(model)
    (prompt,) = (task.lessons.begin(p, DecodeOptions(longest=2)) for p in prompts(task, ["red"]))
    options = DecodeOptions(beams=60, top=1, length_penalty=0)
    with torch.no_grad():
        ((best,),) = left_to_right.write(pen, task.pieces, [prompt], options)
        rows = Rows(pen, [prompt])
        V = pen.vocabulary
        constraints = Constraints(task.pieces, options, [prompt], V)
        first = constraints.alone(rows.log_p, torch.zeros(1, dtype=torch.long))[0]
        rows.select(torch.zeros(V, dtype=torch.long))
        rows.feed(torch.arange(V))
        second = constraints.alone(rows.log_p, torch.zeros(V, dtype=torch.long))
        total = first[:, None] + second
        end = task.pieces.end
        total[end] = -torch.inf
        rows.select(torch.arange(V).repeat_interleave(V))
        rows.feed(torch.arange(V).repeat(V))
        third = constraints.alone(rows.log_p, torch.zeros(V * V, dtype=torch.long))
        ends = torch.where(third.argmax(1) == end, third[:, end], 0.0).view(V, V)
        ends[:, end] = 0  # these have ended before
        found = max(float(first[end]), float((total + ends).max()))
    assert best.log_p == pytest.approx(found, abs=1e-4)


def test_drawing_keeps_to_the_likeliest() -> None:
    log_p = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    for options, left in (
        ({"temperature": 1}, 4),
        ({"temperature": 1, "top_k": 2}, 2),
        ({"temperature": 1, "top_p": 0.5}, 1),
        ({"temperature": 1, "top_p": 0.51}, 2),
        ({"temperature": 1, "top_p": 0.01}, 1),
        ({"temperature": 1, "top_k": 3, "top_p": 0.99}, 3),
    ):
        found = left_to_right.likeliest(log_p, DecodeOptions(**options))  # type: ignore[arg-type]
        assert int((found > -torch.inf).sum()) == left
    warm = left_to_right.likeliest(log_p, DecodeOptions(temperature=2)).softmax(-1)
    torch.testing.assert_close(warm, (log_p.exp() ** 0.5) / (log_p.exp() ** 0.5).sum())


def test_seeds_decide_what_is_drawn(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    model = with_model(make(text), make_encoder, "classic")
    texts = {
        seed: [a.short for a in model.predict("it", SOURCES, temperature=1.5, seed=seed)]
        for seed in (0, 0, 1)
    }
    assert texts[0] != texts[1]
    (answer,) = model.predict("it", "red", temperature=1.5, top=4)
    assert len({t.text for t in answer.texts}) > 1


def test_in_parallel_no_banned_text_is_left_at_the_end(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = of_length(8, text, make_encoder)
    banned: list[str] = []
    for _ in range(6):  # what is written in place of one is banned in turn
        found = [a.texts[0] for a in model.predict("it", SOURCES, banned=banned)]
        known = [model.task("it").pieces.of(said).tolist() for said in banned]  # type: ignore[attr-defined]
        for written in found:
            own = [model.text.tokenizer.token_to_id(p) for p in written.pieces]
            assert len(own) == 8
            for ids in known:
                assert all(own[i : i + len(ids)] != ids for i in range(len(own)))
        pieces = [model.text.tokenizer.token_to_id(p) for p in found[0].pieces[1:3]]
        banned.append(model.text.decode(pieces))
    assert len({tuple(model.text.encode(said).ids) for said in banned}) > 1
    (given,) = model.predict("it", "red", banned=["the film"], prefix="the film")
    assert given.texts[0].pieces[:2] == ("the", "film")  # it was asked for


def test_what_may_not_be_written_is_not(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make(text), make_encoder, "classic")
    free = [a.texts[0] for a in model.predict("it", SOURCES)]
    word = next(p for t in free for p in t.pieces if not p.startswith("##"))
    for how in ({}, {"beams": 3}):
        for a in model.predict("it", SOURCES, banned=[word], **how):
            assert word not in a.texts[0].pieces
        for a in model.predict("it", SOURCES, no_repeat=2, **how):
            pairs = list(zip(a.texts[0].pieces, a.texts[0].pieces[1:], strict=False))
            assert len(pairs) == len(set(pairs))
        for a in model.predict("it", SOURCES, prefix="the film", longest=6, **how):
            assert a.texts[0].pieces[:2] == ("the", "film")
            assert len(a.texts[0].pieces) <= 6
    pair = next(t for t in free if len(t.pieces) > 1).pieces[:2]
    said = model.text.decode([model.text.tokenizer.token_to_id(p) for p in pair])
    ids = tuple(model.tasks["it"].pieces.of(said).tolist())  # type: ignore[attr-defined]
    for a in model.predict("it", SOURCES, banned=[said]):
        own = [model.text.tokenizer.token_to_id(p) for p in a.texts[0].pieces]
        assert all(tuple(own[i : i + len(ids)]) != ids for i in range(len(own)))
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    for how in ({}, {"beams": 3}, {"temperature": 3.0, "seed": 1}):
        for a in model.predict("it", SOURCES, **how):
            assert special.isdisjoint(a.texts[0].pieces)


def test_unknown_words_and_digits_come_from_the_source(
    make_encoder: Callable[..., Encoder],
) -> None:
    words = ["a", "b", "c", "1", "2", "##3", "in"]
    text = TextInput(wordpiece({w: i for i, w in enumerate([*SPECIAL, *words])}, True), 32)
    task = make(text)
    source = "a Quito b 2 Åland"
    (example,) = task.examples({"en": source}, Draw(rng(), truth=False))
    assert example.notes.unknown == ("Quito", "Åland")
    unknown, a, two = (text.tokenizer.token_to_id(t) for t in ("[UNK]", "a", "2"))
    spelt = task.pieces.spell([unknown, a, unknown, two, unknown], example.notes.unknown)
    assert spelt == "Quito a Åland 2"  # the third has no word left
    assert task.pieces.spell([a, unknown]) == "a"
    model = Model(make_encoder("classic"), text, {"it": task}, {})
    constraints = Constraints(
        task.pieces,
        DecodeOptions(copy_source=True),
        [example.notes],
        model.encoder.config.vocab_size,
    )
    allowed = constraints.alone(torch.zeros(1, 64), torch.zeros(1, dtype=torch.long))[0] == 0
    names = {text.tokenizer.id_to_token(i) for i in allowed.nonzero()[:, 0].tolist()}
    assert names == {"[UNK]", "[SEP]", "a", "b", "c", "2", "in"}


def test_options_are_checked(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    model = with_model(make(text), make_encoder, "classic")
    for options, said in (
        ({"beam": 2}, "no option 'beam' of writing; did you mean 'beams'"),
        ({"beams": 2, "temperature": 1}, "choose one of them"),
        ({"top_p": 0.5}, "give a temperature too"),
        ({"beams": 2, "top": 3}, "as many beams"),
        ({"top": 2}, "as many beams, or a temperature"),
        ({"mode": "parallel"}, "was not learnt; train with `mode: both`"),
        ({"prefix": "the film " * 20}, "leaves no room"),
        ({"prefix": "the film", "longest": 2}, r"leaves no room .* 2 pieces, of 2 at most"),
        ({"longest": 13}, "longest 13: it writes 12 pieces at most"),
        ({"seed": -1}, "seed: "),
        ({"prefix": "the Привет"}, "vocabulary lacks, 'Привет'"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            model.predict("it", "red", **options)
        assert "\n" not in str(caught.value)
    both = with_model(make(text, mode="both"), make_encoder, "classic")
    with pytest.raises(UserError, match="no_repeat is for writing from left to right"):
        both.predict("it", "red", mode="parallel", no_repeat=2)
    with pytest.raises(UserError, match="as many lengths"):
        both.predict("it", "red", mode="parallel", lengths=2, top=3)
    with pytest.raises(ValueError, match="decode: mode 'parallel' was not learnt"):
        make(text, decode={"mode": "parallel"})  # before hours of training
    task = make(text, decode={"prefix": "the film " * 20})
    with pytest.raises(UserError, match="leaves no room"):
        task.look_over([{"en": "red", "de": "blue"}])
    with pytest.raises(UserError, match="top is for `predict`"):
        list(model.write("it", "red", top=2, beams=2))


# ---- streaming ----


def keeping(
    parts: Generator[str, None, TextAnswer], answers: list[TextAnswer]
) -> Generator[str, None, None]:
    """The parts, and what they return into a list."""
    answers.append((yield from parts))


@pytest.mark.parametrize("target", ["de", None])
def test_parts_joined_are_the_text(
    text: TextInput, make_encoder: Callable[..., Encoder], target: str | None
) -> None:
    task = make(text, target=target)
    model = with_model(task, make_encoder, "classic")
    for source in SOURCES:
        for how in ({}, {"beams": 2}, {"temperature": 2.0, "seed": 3}, {"prefix": "a"}):
            (answer,) = model.predict("it", source, **how)
            whole: list[TextAnswer] = []
            found = list(keeping(model.write("it", source, **how), whole))
            assert whole[0].texts[0].pieces == answer.texts[0].pieces
            assert whole[0].unfinished == answer.unfinished
            assert "".join(found) == answer.short
    assert len(list(model.write("it", SOURCES[0], temperature=2.0))) > 1


@settings(max_examples=20, deadline=None)
@given(written=st.text(max_size=20))
def test_parts_of_bytes_are_whole_characters(written: str) -> None:
    """Half a character is held back, as a byte-level vocabulary may give it."""
    data = written.encode(errors="ignore")
    texts = [data[:n].decode(errors="replace") for n in range(len(data) + 1)]
    found = list(parts(texts))
    assert "".join(found) == texts[-1]
    if "\ufffd" not in texts[-1]:
        assert all("\ufffd" not in part for part in found)


# ---- rows at the edges ----


def test_a_long_source_is_cut_and_said(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make(text), make_encoder, "classic")
    (answer,) = model.predict("it", "cat " * 100, longest=3)
    room = 13  # for a target of twelve pieces and its end
    assert answer.dropped == 100 - (32 - room - 2)
    assert answer.columns()["dropped"] == answer.dropped
    going_on = with_model(make(text, target=None), make_encoder, "classic")
    (answer,) = going_on.predict("it", "cat " * 100 + "dog", longest=3)
    assert answer.dropped == 101 - (32 - 1 - room)
    assert answer.texts[0].pieces[32 - 1 - room - 1] == "dog"  # the end of it is kept


def test_empty_sources_and_limits(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    model = with_model(make(text), make_encoder, "classic")
    empty, full = model.predict("it", [" ", "the cat"], longest=1, banned=["x"])
    assert (empty.short, empty.unfinished, empty.texts[0].log_probability) == ("", False, 0.0)
    assert len(full.texts[0].pieces) <= 1
    assert full.columns()["unfinished"] == full.unfinished
    assert list(model.write("it", "")) == [""]


@pytest.mark.parametrize("how", [{}, {"beams": 3}])
def test_a_text_that_ends_at_the_limit_is_whole(
    text: TextInput, make_encoder: Callable[..., Encoder], how: dict[str, Any]
) -> None:
    model = with_model(make(text), make_encoder, "classic")
    (answer,) = model.predict("it", "the cat", **how)
    assert answer.unfinished
    task = model.tasks["it"]
    assert isinstance(task, Generate)
    pieces, n = task.pieces, 4
    whole = left_to_right.Rows.log_p

    def ends(rows: Rows) -> torch.Tensor:
        """What the model says, but that a text ends behind so many pieces and not before."""
        log_p: Any = whole.fget(rows)  # type: ignore[attr-defined]
        done = rows.position[0] == first + n
        log_p[:, pieces.end] = 0.0 if done else -torch.inf
        return log_p

    (prompt,) = prompts(task, ["the cat"])
    first = prompt.prefix
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rows, "log_p", property(ends))
        found = {m: model.predict("it", "the cat", longest=m, **how)[0] for m in (n - 1, n, n + 1)}
    assert {m: a.unfinished for m, a in found.items()} == {n - 1: True, n: False, n + 1: False}
    assert found[n].texts == found[n + 1].texts
    assert len(found[n].texts[0].pieces) == n


def test_what_cannot_be_seen_is_an_empty_source(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make(text), make_encoder, "classic")
    (answer,) = model.predict("it", "\u200b \u2060")
    assert (answer.short, answer.texts[0].log_probability) == ("", 0.0)


def test_in_parallel_the_end_of_a_long_beginning_is_gone_on_with(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make(text, target=None, mode="parallel"), make_encoder, "classic")
    (answer,) = model.predict("it", "cat " * 9 + "dog")
    assert answer.texts[0].pieces[:6] == ("cat",) * 5 + ("dog",)
    assert 6 <= len(answer.texts[0].pieces) <= 12
    assert answer.dropped == 4


def test_rows_that_teach_nothing_are_left_out_and_counted(
    text: TextInput, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"en": "", "de": "red"},
        {"en": "red", "de": ""},
        {"en": "red", "de": "我们"},
        {"en": "red", "de": "blue"},
        {"en": "cat " * 90, "de": "blue"},
    ]
    task = make(text)
    kept = [len(list(task.examples(row, Draw(rng())))) for row in rows]
    assert kept == [0, 0, 0, 1, 1]
    judged = [len(list(task.examples(row, Draw(rng(), learn=False)))) for row in rows]
    assert judged == [1] * 5
    with caplog.at_level(logging.WARNING, logger="unmask"):
        task.look_over(rows)
    said = "\n".join(caplog.messages)
    assert (
        "3 of 5 training rows are left out (empty source: 1, nothing known in the target: 2)"
        in said
    )
    assert "1 of 5 training rows are too long" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="unmask"):
        task.look_over(rows[3:4])
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, logger="unmask"):
        task.look_over([{"en": "我们去", "de": "看电影 red"}] * 3)
    assert "the vocabulary lacks their alphabet" in caplog.text
    with pytest.raises(UserError, match="none of its 2 training rows teaches anything"):
        task.look_over(rows[1:3])


def test_special_tokens_that_somebody_typed_are_not_written(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """They would end a target early, or be taught as a word."""
    clean = make(text).pieces.of("red blue")
    typed = "[CLS] red [SEP] [MASK][PAD] blue"
    np.testing.assert_array_equal(make(text).pieces.of(typed), clean)
    (example,) = make(text).examples({"en": "cat", "de": typed}, Draw(rng()))
    assert example.truth["piece"].tolist() == [*clean, text.special_id("end")]
    going_on = make(text, target=None, input="text")
    (example,) = going_on.examples({"text": typed}, Draw(rng()))
    assert example.truth["piece"].tolist() == [*clean, text.special_id("end")]
    model = with_model(make(text), make_encoder, "classic")
    (free,), (banned,) = (model.predict("it", "red", banned=b) for b in ([], ["[SEP]"]))
    assert banned == free


def test_what_the_vocabulary_lacks_and_what_has_no_end_is_marked(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(make(text), make_encoder, "classic")
    strange, known = model.predict("it", ["the 我们", "the cat"], longest=1)
    assert (strange.unknown, known.unknown) == (2, 0)
    assert strange.columns()["unknown"] == 2
    assert known.marks == (["the text is unfinished: it was as long as it may be"]
                           if known.unfinished else [])  # fmt: skip
    (cut,) = model.predict("it", "cat " * 100)
    assert cut.marks[0] == f"the source of 102 tokens was cut to {cut.tokens}"


def test_in_parallel_a_text_longer_than_it_may_be_is_unfinished(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = of_length(7, text, make_encoder)
    whole, cut = (model.predict("it", "the cat", longest=n)[0] for n in (7, 4))
    assert (len(whole.texts[0].pieces), whole.unfinished) == (7, False)
    assert (len(cut.texts[0].pieces) <= 4, cut.unfinished) == (True, True)


def test_letters_of_several_bytes_are_no_digits() -> None:
    """Byte-level vocabularies write the second byte of ò as ²."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Ã²", "Ð²", "7", "Ġ3"]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, "[UNK]"))
    pieces = make(TextInput(tokenizer, 32)).pieces
    assert pieces.digits.tolist() == [7, 8]


def test_a_long_target_does_not_end_where_it_is_cut(text: TextInput) -> None:
    task = make(text, target_length=5)
    (example,) = task.examples({"en": "red", "de": "one two three red green blue"}, Draw(rng()))
    assert text.special_id("end") not in example.truth["piece"]
    assert (len(example.truth["piece"]), example.sequences[0].dropped) == (5, 1)


def test_without_a_target_the_text_itself_is_learnt_whole(text: TextInput) -> None:
    for mode in ("left_to_right", "parallel"):
        task = make(text, target=None, input="text", max_length=10, mode=mode, target_length=8)
        row = {"text": "one two three red green blue cat dog " * 3}
        found = list(task.examples(row, Draw(rng())))
        assert len(found) == 3
        assert max(e.length for e in found) <= 10
        if mode == "left_to_right":
            learnt = np.concatenate([e.truth["piece"] for e in found])
            np.testing.assert_array_equal(learnt, text.encode(row["text"]).ids[1:])


def test_two_inputs_say_which_target_is_wanted(text: TextInput) -> None:
    task = make(text, input=["language", "en"])
    (example,) = task.examples({"language": "red", "en": "the cat", "de": "dog"}, Draw(rng()))
    tokens = [text.tokenizer.id_to_token(int(i)) for i in example.notes.ids]
    assert tokens == ["[CLS]", "red", "[SEP]", "the", "cat", "[SEP]"]


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="leave target out"):
        GenerateOptions(input="en", target="en")
    with pytest.raises(ValueError, match="one column"):
        GenerateOptions(input=["a", "b"])


# ---- scores ----


def test_scores_are_sacrebleus_and_rouge_scores(text: TextInput) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    from unmask.tasks.generation.scores import bleu, bleu_counts, chrf, chrf_counts

    written = ["the cat sat on the mat .", "a dog", "", "Ein Mann mit T-Shirt läuft schnell."]
    truth = ["the cat sat on a mat .", "a dog runs fast today", "x", "Ein Mann im T-Shirt läuft."]
    ours = bleu(bleu_counts(written, truth, "13a").sum(0))
    assert ours == pytest.approx(sacrebleu.corpus_bleu(written, [truth]).score / 100, abs=1e-9)
    for some in (written, written[1:3], ["", ""]):
        own = truth[: len(some)]
        value = chrf(chrf_counts(some, own).sum(0))
        assert value == pytest.approx(sacrebleu.corpus_chrf(some, [own]).score / 100, abs=1e-9)


def test_scores_of_answers(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    task = make(text)
    model = with_model(task, make_encoder, "classic")
    rows = [{"en": s, "de": "the cat"} for s in SOURCES]
    examples = [next(task.examples(r, Draw(rng(), learn=False))) for r in rows]
    answers = list(model.answers(task, examples))
    scores = task.score(answers, rows)
    assert {"loss", "accuracy", "bleu", "chrf", "exact_match", "distinct_2"} <= scores.keys()
    assert 0 <= scores[task.headline] <= 1
    for answer, row in zip(answers, rows, strict=True):
        assert answer.short == model.predict("it", row)[0].short
        assert task.surprise(answer, row) > 0
    count = sum(a.reading.count for a in answers if a.reading)
    assert scores["loss"] == pytest.approx(sum(a.reading.loss for a in answers) / count)
    assert math.isfinite(scores["loss"])


def test_rouge_is_asked_for(text: TextInput, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from unmask.tasks.generation.scores import rouge_scorer, rouge_values

    rouge_scorer.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
        with pytest.raises(UserError, match=r"pip install 'unmask\[rouge\]'"):
            Generate.study("it", GenerateOptions(target="de", rouge=True), [])
    pytest.importorskip("rouge_score")
    found = rouge_values(["the cat sat"], ["the cat sat down"])
    assert found["rouge_l"] == pytest.approx([6 / 7])
    assert make(text, rouge=True).headline == "rouge_l"


# ---- whole runs ----

PAIRS = [("the cat sleeps", "die katze schläft"), ("the dog runs", "der hund läuft")]
PAIRS += [("a red film", "ein roter film"), ("hello world", "hallo welt")]


def recipe(folder: Path, **options: Any) -> dict[str, Any]:
    path = folder / "pairs.jsonl"
    rows = [{"en": en, "de": de} for en, de in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {"kind": "generate", "train": str(path), "valid": None, "input": "en", "target": "de"}
    task |= {"label_smoothing": 0.0, "target_length": 12, **options}
    tokenizer = {"vocab_size": 100, "min_frequency": 1, "lowercase": False}
    return {
        "encoder": {"shape": "tiny", "style": "classic", "dropout": 0.0, "attention_dropout": 0.0}
        | {"tokenizer": tokenizer, "max_positions": 64},
        "tasks": {"translate": task},
        "train": {"steps": 60, "batch_tokens": 60, "learning_rate": 3e-3, "precision": "fp32"}
        | {"optimiser": "adamw", "schedule": "constant"},
    }


@pytest.mark.parametrize("mode", ["left_to_right", "both"])
def test_a_few_pairs_are_learnt_by_heart_and_written_back(tmp_path: Path, mode: str) -> None:
    """In each mode, and with both in one model; through a bundle and the command."""
    data = recipe(tmp_path, mode=mode)
    if mode == "both":
        data["train"]["steps"] = 150
    trained = unmask.train(data, tmp_path / "run")
    model = unmask.load(trained.bundle)
    sources, targets = [en for en, _ in PAIRS], [de for _, de in PAIRS]
    ways: list[dict[str, Any]] = [{}, {"beams": 3}]
    if mode == "both":
        ways += [{"mode": "parallel", "rounds": 4}, {"mode": "parallel", "lengths": 1}]
    for how in ways:
        answers = model.predict("translate", sources, **how)
        assert [a.short for a in answers] == targets, how
        assert not any(a.unfinished for a in answers)
    assert "".join(model.write("translate", sources[0])) == targets[0]


def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = recipe(tmp_path)
    data["train"]["steps"] = 2
    bundle = str(unmask.train(data, tmp_path / "run").bundle)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    output = tmp_path / "written.jsonl"
    code, _, _ = command(
        "predict", bundle, "--input", str(tmp_path / "pairs.jsonl"), "--output", str(output),
        "--option", "beams=2", "--option", "top=2",
    )  # fmt: skip
    assert code == 0
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["de"] for row in rows] == [de for _, de in PAIRS]
    assert all(len(row["candidates"]) == 2 for row in rows)
    long, how = "the cat " * 90, ("--option", "longest=2", "--option", "prefix=die")
    code, shown, said = command("write", bundle, long, *how)
    (expected,) = unmask.load(bundle).predict("translate", long, longest=2, prefix="die")
    assert (code, shown) == (0, expected.short + "\n")
    assert said.splitlines() == expected.marks
    assert "was cut to" in said
    code, shown, said = command("write", bundle, PAIRS[0][0], "--option", "longest=1")
    assert (code, len(shown.split())) == (0, 1)
    assert "unfinished" in said
    code, _, said = command("write", bundle, "the cat", "--option", "beams")
    assert (code, said.count("\n")) == (2, 1)
    assert "write KEY=VALUE" in said


def test_a_pretrained_head_goes_on_writing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A trunk with an `mlm` head lends it; one without gets a new head."""
    data = recipe(tmp_path)
    data["train"]["steps"] = 1
    mlm = {"kind": "mlm", "train": str(tmp_path / "pairs.jsonl"), "valid": None, "input": "en"}
    first = unmask.train({**data, "tasks": {"words": mlm}}, tmp_path / "first").bundle
    words = unmask.load(first).head("words").state_dict()
    start = {**data, "encoder": {"from": str(first)}}
    start["train"] = {**data["train"], "learning_rate": 1e-12}
    with caplog.at_level(logging.INFO, logger="unmask"):
        second = unmask.train(start, tmp_path / "second").bundle
    assert "begins with what one of the start has learnt" in caplog.text
    head = unmask.load(second).head("translate")
    for name, tensor in words.items():
        torch.testing.assert_close(head.words.state_dict()[name], tensor, atol=1e-5, rtol=0)
    bare = unmask.load(first)
    save(Model(bare.encoder, bare.text), tmp_path / "bare")
    third = unmask.train({**start, "encoder": {"from": str(tmp_path / "bare")}}, tmp_path / "third")
    assert unmask.load(third.bundle).predict("translate", "the cat")[0].texts


def test_bleu_of_short_texts() -> None:
    """Sacrebleu smooths; and where no text has four words, shorter stretches are all there is."""
    sacrebleu = pytest.importorskip("sacrebleu")
    written, truth = ["the cat sat on a mat"], ["the cat is on the mat"]
    theirs = sacrebleu.corpus_bleu(written, [truth]).score / 100
    assert theirs > 0
    assert scores.bleu(scores.bleu_counts(written, truth, "13a").sum(0)) == pytest.approx(theirs)
    short = ["die Katze schläft", "der Hund"]
    assert scores.bleu(scores.bleu_counts(short, short, "13a").sum(0)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"length_penalty": 5000}, "length_penalty"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 1e-40}, "0 takes the likeliest pieces"),
    ],
)
def test_options_that_no_number_survives(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DecodeOptions().changed("translate", option)
