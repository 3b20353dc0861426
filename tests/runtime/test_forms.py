"""A compiled form gives what torch gives, for every kind of head, and the same in any batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask import bundle
from unmask.batch import Example, Segment, Sequence, collate
from unmask.jobs import unseen
from unmask.model import Model
from unmask.runtime.stored import Settings, lacks, put

EXACT = [
    ("classic", "openvino-fp32"),
    ("offset", "openvino-fp32"),
    ("modern", "openvino-fp32"),
    ("modern", "onnxruntime-fp32"),
]
OFFERED = [
    ("classic", "openvino-fp32"),
    ("modern", "onnxruntime-fp32"),
    ("classic", "openvino-int8"),
    ("classic", "onnxruntime-int8"),
    pytest.param(
        ("classic", "openvino-bf16"),
        marks=pytest.mark.skipif(lacks("openvino-bf16") is not None, reason="needs native bf16"),
    ),
]
# A last bit may fall otherwise in a grid of another shape, and int8 may round it the other way.
STATED = {"fp32": 1e-5, "bf16": 2e-2, "int8": 2e-2}
WORDS = ["a", "the", "film", "was", "good", "bad", "great", "dull", "it", "is", "not", "and"]
Make = Callable[[str, str], Path]
MakeBundle = Callable[[str], Path]


@pytest.fixture(scope="module")
def forms(make_bundle: MakeBundle, make_form: Make) -> Callable[[str, str], Model]:
    known: dict[tuple[str, str], Model] = {}

    def form(style: str, name: str) -> Model:
        if (style, name) not in known:
            known[style, name] = bundle.load(make_bundle(style))
            put(known[style, name], make_form(style, name), name, Settings(batch_tokens=64))
        return known[style, name]

    return form


@pytest.mark.parametrize("of", EXACT, ids="-".join)
def test_every_head_gives_what_it_gives_in_torch(
    of: tuple[str, str], forms: Callable[[str, str], Model], make_bundle: MakeBundle,
    texts: list[str],
) -> None:  # fmt: skip
    model, form = bundle.load(make_bundle(of[0])), forms(*of)
    assert form.form_name == of[1]
    assert (form.encode(texts) - model.encode(texts)).abs().max() < 1e-5
    for name, task in model.tasks.items():
        rows: list[Any] = list(texts)
        if len(task.options.inputs) == 2:
            rows = list(zip(texts, reversed(texts), strict=True))
        if task.kind == "mlm":
            rows = [f"{text} [MASK] good" for text in texts]
        examples = [unseen(task, row, i) for i, row in enumerate(rows)]
        with torch.inference_mode():
            ours, _ = form(form.task(name), form.grid(examples))
            theirs, _ = model(task, model.grid(examples))
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert value.numel(), name  # so that something is compared
            torch.testing.assert_close(ours[key], value, atol=1e-4, rtol=1e-4, msg=f"{name} {key}")
        assert len(form.predict(name, rows)) == len(rows)


def test_tasks_share_a_pass_of_the_form(
    forms: Callable[[str, str], Model], make_bundle: MakeBundle, texts: list[str]
) -> None:
    names = ["mood", "mean", "price", "names"]
    form = forms("classic", "openvino-fp32")
    together = form.predict(names, texts)
    for answers, expected in zip(
        together, bundle.load(make_bundle("classic")).predict(names, texts), strict=True
    ):
        assert answers["mood"].labels == expected["mood"].labels
        assert answers["price"].value == pytest.approx(expected["price"].value, abs=1e-4)


@pytest.mark.parametrize("of", OFFERED, ids="-".join)
def test_a_text_alone_is_the_same_in_any_batch(
    of: tuple[str, str], forms: Callable[[str, str], Model]
) -> None:
    form = forms(*of)

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=28).map(" ".join)
        text, others = data.draw(words), data.draw(st.lists(words, max_size=12))
        at = data.draw(st.integers(0, len(others)))
        among = form.encode([*others[:at], text, *others[at:]])[at]
        assert (among - form.encode(text)[0]).abs().max() <= STATED[form.computes_in]
        alone = form.predict("names", text)[0]
        assert alone.tokens == form.predict("names", [*others, text])[-1].tokens

    holds()


@pytest.mark.parametrize("name", ["openvino-int8", "onnxruntime-int8"])
def test_int8_is_near_the_original(
    name: str, forms: Callable[[str, str], Model], make_bundle: MakeBundle, texts: list[str]
) -> None:
    form = forms("classic", name)
    cosine = (form.encode(texts) * bundle.load(make_bundle("classic")).encode(texts)).sum(1)
    assert 0.8 < cosine.min() < 0.99999  # near for random weights, and really in int8
    assert form.computes_in == "int8"


def test_order_of_many_texts(
    make_form: Make, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a window of texts, several streams: answers stay in the order of the texts."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("unmask.machine.threads.available_cpus", lambda: 2)
    texts = [f"{WORDS[i % 12]} {WORDS[i // 12 % 12]} {'film ' * (i % 5)}" for i in range(5000)]
    form, model = (bundle.load(make_bundle("classic")) for _ in range(2))
    put(form, make_form("classic", "openvino-fp32"), "openvino-fp32", Settings())
    assert form.form is not None
    assert form.form.streams == 2
    assert (form.encode(texts) - model.encode(texts)).abs().max() < 1e-5


def test_training_leaves_the_form_behind(make_bundle: MakeBundle, make_form: Make) -> None:
    model = bundle.load(make_bundle("classic"))
    put(model, make_form("classic", "openvino-fp32"), "openvino-fp32", Settings())
    assert model.form_name == "openvino-fp32"
    model.train()
    assert model.form_name == "torch-fp32"


def test_torch_computes_what_a_form_does_not_serve(
    forms: Callable[[str, str], Model], make_bundle: MakeBundle
) -> None:
    model = forms("classic", "openvino-fp32")
    assert model.form is not None
    ids = np.array([2, 5, 6, 3])
    one = Example((Sequence((Segment(ids),)),), (np.array([0]),))
    writing = Example((Sequence((Segment(ids),), prefix=2),), (np.array([0]),))
    assert model.form.serves(collate([one, one]), None)
    assert not model.form.serves(collate([one, one]), "an adapter")
    assert not model.form.serves(collate([one, one], width=8), None)  # two in a row
    assert not model.form.serves(collate([one, writing]), None)
    hidden = bundle.load(make_bundle("classic")).hidden("the film was good")
    assert torch.equal(model.hidden("the film was good"), hidden)
