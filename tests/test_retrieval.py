"""`embed` and `rerank`: the losses, what they compare, the vectors, the scores and mining."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unmask
from unmask import bundle
from unmask.batch import collate
from unmask.cli.app import app
from unmask.data.sources import read
from unmask.encoder import Encoder, Pooling
from unmask.errors import UserError
from unmask.evaluation.bootstrap import intervals
from unmask.files import read_json
from unmask.inputs.text import TextInput
from unmask.loading import load
from unmask.model import Model
from unmask.recipe import Source, TrainOptions
from unmask.saving import save_as
from unmask.tasks import KINDS, Draw, Task, row_rng, search
from unmask.tasks.contrast import info_nce
from unmask.tasks.search import nearest, ranks
from unmask.training import loop
from unmask.training.backward import Member, Part, all_together
from unmask.training.mine import mine
from unmask.training.processes import Processes
from unmask.training.share import Microbatch
from unmask.training.update import accumulate

WORDS = ["film", "cat", "dog", "world", "time", "red", "green", "blue"]
PAIRS = [
    {"query": f"the {a} {b}", "document": f"{b} was {a} and very {c}"}
    for a, b, c in zip(WORDS, WORDS[3:] + WORDS[:3], WORDS[5:] + WORDS[:5], strict=True)
]
LABELLED = [{"text": f"the {w} was {m}", "label": m} for w in WORDS for m in ("good", "bad")]


def make(kind: str, text: TextInput, rows: list[dict[str, Any]], **options: Any) -> Task:  # type: ignore[type-arg]
    chosen = KINDS[kind].Options(**options)
    return KINDS[kind]("it", chosen, text, KINDS[kind].study("it", chosen, rows))


def embed(  # type: ignore[type-arg]
    text: TextInput, rows: list[dict[str, Any]] = PAIRS, **options: Any
) -> Task:
    return make("embed", text, rows, input=["query", "document"], **options)


def with_model(task: Task, make_encoder: Callable[..., Encoder], **changes: Any) -> Model:  # type: ignore[type-arg]
    encoder = make_encoder(**changes)
    torch.manual_seed(1)
    return Model(encoder, task.text, {"it": task}, {"it": task.build(encoder)}, task.pooling)


def examples_of(task: Task, rows: list[dict[str, Any]]) -> list[Any]:  # type: ignore[type-arg]
    draws = [Draw(row_rng(0, "it", 0, i), others=rows) for i in range(len(rows))]
    return [e for row, draw in zip(rows, draws, strict=True) for e in task.examples(row, draw)]


# ---- the loss ----


def vectors_of(rows: int, columns: int, width: int = 12) -> Tensor:
    """Normalised vectors (rows, columns, width): query, document, negatives."""
    torch.manual_seed(rows * 31 + columns)
    return F.normalize(torch.randn(rows, columns, width, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("columns", [2, 3, 5])
def test_the_loss_is_that_of_sentence_transformers(columns: int) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    x = vectors_of(7, columns).requires_grad_()
    theirs = MultipleNegativesRankingLoss(
        None, 20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    expected = theirs.compute_loss_from_embeddings(list(x.unbind(1)), torch.zeros(0))
    sizes, same = torch.full((7,), columns), torch.arange(7 * columns)
    loss = info_nce(F.normalize(x.flatten(0, 1), dim=-1), sizes, same, 1 / 20) / 7
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, x), torch.autograd.grad(expected, x))


def test_widths_are_those_of_sentence_transformers(text: TextInput) -> None:
    from sentence_transformers.sentence_transformer.losses import (
        MatryoshkaLoss,
        MultipleNegativesRankingLoss,
    )

    class Given(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": features["x"]}

        def get_embedding_dimension(self) -> int:
            return 12

    x, model, widths = vectors_of(6, 2).float(), Given(), [12, 5, 2]
    inner = MultipleNegativesRankingLoss(
        model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    theirs = MatryoshkaLoss(model, inner, widths, [1 / 3] * 3)
    expected = theirs([{"x": one} for one in x.unbind(1)], torch.zeros(0))
    task = embed(text, widths=widths)
    truth = {"size": torch.full((6,), 2), "same": torch.arange(12)}
    loss = task.contrast({"vector": 3 * x.flatten(0, 1)}, truth) / 6  # their length is no matter
    torch.testing.assert_close(loss, expected)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(2, 4), min_size=1, max_size=6),
    texts=st.lists(st.integers(0, 5), min_size=24, max_size=24),
)
def test_what_is_the_same_is_no_negative(sizes: list[int], texts: list[int]) -> None:
    """Against the same rule, written out example by example."""
    count = sum(sizes)
    x, same = vectors_of(count, 1)[:, 0], texts[:count]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    own = [(same[s], same[s + 1]) for s in starts]
    negatives = [s + k for s, n in zip(starts, sizes, strict=True) for k in range(2, n)]
    expected = 0.0
    for i, s in enumerate(starts):
        there = [x[s] @ x[s + 1]]
        back = [x[s] @ x[s + 1]]
        for j, other in enumerate(starts):
            apart = own[i][0] not in own[j] and own[j][1] not in own[i]
            if j != i and apart:
                there.append(x[s] @ x[other + 1])
            if j != i and own[j][0] not in own[i] and own[i][1] not in own[j]:
                back.append(x[other] @ x[s + 1])
        there += [x[s] @ x[k] for k in negatives if same[k] not in own[i]]
        for scores in (there, back):
            table = torch.stack(scores) / 0.1
            expected += float(table.logsumexp(0) - table[0]) / 2
    loss = info_nce(x, torch.tensor(sizes), torch.tensor(same), 0.1)
    assert float(loss) == pytest.approx(expected)
    assert torch.isfinite(loss)


def test_one_row_alone_has_nothing_to_learn_from_and_is_no_nan(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task = embed(text)
    model = with_model(task, make_encoder)
    found = accumulate(
        model, [Microbatch("it", examples_of(task, PAIRS[:1]))], {"it": 1.0}, ALONE, OPTIONS
    )
    assert found == {"it": 0.0}
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# ---- one loss for a whole update ----

ALONE = Processes()
OPTIONS = TrainOptions()


def gradients(
    model: Model, microbatches: list[Microbatch]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    loss = accumulate(model, microbatches, {"it": 1.0}, ALONE, OPTIONS)
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("style", ["classic", "modern"])
def test_many_microbatches_are_one(
    text: TextInput, make_encoder: Callable[..., Encoder], style: str
) -> None:
    rows = [{**row, "wrong": [PAIRS[i - 3]["document"]] * (i % 3)} for i, row in enumerate(PAIRS)]
    task = embed(text, rows, negatives="wrong", widths=[16, 4])
    model = with_model(task, make_encoder, style=style)
    own = examples_of(task, rows)
    assert {len(example.sequences) for example in own} == {2, 3, 4}
    whole, expected = gradients(model, [Microbatch("it", own)])
    cuts = [own[:3], own[3:4], own[4:]]
    stand_in = Microbatch("it", own[:1], counted=False)
    parts = [stand_in, *(Microbatch("it", cut) for cut in cuts), stand_in]
    loss, found = gradients(model, parts)
    assert loss == pytest.approx(whole)
    assert found.keys() == expected.keys()
    assert max(g.abs().max() for g in expected.values()) > 0.01
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_the_gradient_is_of_the_dropout_that_the_loss_saw(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """Against all parts' graphs kept at once."""
    task = embed(text)
    model = with_model(task, make_encoder, dropout=0.3, attention_dropout=0.2)
    own = examples_of(task, PAIRS)
    cuts = [own[:2], own[2:5], own[5:]]
    loss, found = gradients(model, [Microbatch("it", cut) for cut in cuts])
    again, repeated = gradients(model, [Microbatch("it", cut) for cut in cuts])
    assert loss == again
    torch.manual_seed(5)
    seeds = torch.randint(2**62, (3,)).tolist()
    outputs, truths = [], []
    for seed, cut in zip(seeds, cuts, strict=True):
        torch.manual_seed(seed)
        output, batch = model(task, collate(cut, 64))
        outputs.append(output["vector"])
        truths.append(batch.truth)
    truth = {key: torch.cat([t[key] for t in truths]) for key in truths[0]}
    whole = task.contrast({"vector": torch.cat(outputs)}, truth) / len(own)
    assert loss["it"] == pytest.approx(whole.item())
    model.zero_grad()
    whole.backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, atol=1e-6, rtol=1e-4, msg=name)
            torch.testing.assert_close(found[name], repeated[name], atol=0, rtol=0)


def test_only_the_last_part_keeps_its_graph_and_is_computed_once(
    text: TextInput, make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = embed(text)
    model = with_model(task, make_encoder)
    parts = [Part(collate([e]), True) for e in examples_of(task, PAIRS)[:3]]
    seen: list[bool] = []
    outputs = task.outputs
    monkeypatch.setattr(
        task, "outputs", lambda *a: seen.append(torch.is_grad_enabled()) or outputs(*a)
    )
    all_together(model, task, Member(task, parts, 3.0, 1.0), ALONE)  # type: ignore[arg-type]
    assert seen == [False, False, True, True, True]


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    return write_recipe(tmp_path)


def write_recipe(folder: Path) -> dict[str, Any]:
    """A tiny encoder without dropout, pairs, and hard negatives of some."""
    path = folder / "pairs.jsonl"
    rows = [
        {
            "query": f"{a} {b}",
            "document": f"the {b} and the {a}",
            "negatives": [f"{b} not {a}"] * (i % 2),
        }
        for i, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS if a != b)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"kind": "embed", "train": str(path), "input": ["query", "document"], "valid": 0.2}
    return {
        "encoder": {
            "shape": "tiny",
            "style": "modern",
            "tokenizer": {"vocab_size": 100, "min_frequency": 1},
        },
        "tasks": {"near": {**task, "negatives": "negatives", "widths": [128, 16]}},
        "train": {"steps": 6, "batch_tokens": 400, "precision": "fp32", "optimiser": "adamw"},
    }


def updates(run: Path) -> np.ndarray:
    """The loss of each update, and the norm of its gradient."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([(x["loss"]["near"], x["gradient_norm"]) for x in lines if "loss" in x])


def test_microbatches_and_processes_change_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    """1 and 2 processes, weights copied or sharded, 1 microbatch or many."""
    unmask.train(recipe, tmp_path / "whole")
    unmask.train(recipe, tmp_path / "cut", ["train.microbatch_tokens=60"])
    jobs = [
        {
            "recipe": recipe,
            "out": str(tmp_path / f"two-{how}-{at_once}"),
            "changes": [f"train.parallel={how}", f"train.microbatch_tokens={at_once}"],
        }
        for how, at_once in (("replicate", 8192), ("replicate", 60), ("shard", 60))
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    worker = Path(__file__).parent / "many_processes.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", worker, tmp_path / "jobs.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    expected = updates(tmp_path / "whole")
    assert len(expected) == 6
    assert expected[-1, 0] < expected[0, 0] - 0.1  # there is something to compare
    for name in ("cut", "two-replicate-8192", "two-replicate-60", "two-shard-60"):
        found = updates(tmp_path / name)
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4, err_msg=name)


def test_going_on_is_exact(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, many microbatches, and texts drawn by label."""
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LABELLED))
    recipe["encoder"]["style"] = "classic"
    recipe["tasks"]["near"] = {"kind": "embed", "train": str(path), "valid": None}
    recipe["train"] |= {"batch_tokens": 150, "microbatch_tokens": 60, "save_every": 2}
    unmask.train(recipe, tmp_path / "whole")
    real = loop.gradient

    def broken(*given: Any) -> Any:
        if given[3] == 4:
            raise InterruptedError
        return real(*given)

    monkeypatch.setattr(loop, "gradient", broken)
    with pytest.raises(InterruptedError):
        unmask.train(recipe, tmp_path / "broken")
    monkeypatch.undo()
    unmask.train(recipe, tmp_path / "broken", resume=True)
    np.testing.assert_array_equal(updates(tmp_path / "broken"), updates(tmp_path / "whole"))


# ---- what is an example ----


def test_a_label_draws_another_text_of_it_and_never_itself(text: TextInput) -> None:
    task = make("embed", text, LABELLED)
    drawn: dict[str, int] = {}
    for i in range(300):
        (example,) = task.examples(LABELLED[0], Draw(row_rng(0, "it", i, 0), others=LABELLED))
        first, second = (text.decode(list(s.segments[0].values)) for s in example.sequences)
        assert first == "the film was good"
        drawn[second] = drawn.get(second, 0) + 1
    assert set(drawn) == {f"the {w} was good" for w in WORDS[1:]}
    assert min(drawn.values()) > 15  # of 43
    assert example.truth["same"][0] == example.truth["same"][1]
    alone = [*LABELLED, {"text": "hello", "label": "odd"}, {"text": "hello ", "label": " odd "}]
    (example,) = task.examples(alone[-2], Draw(row_rng(0, "it", 0, 0), others=alone[:-1]))
    one, two = (list(s.segments[0].values) for s in example.sequences)
    assert one == two  # its own positive
    (example,) = task.examples(alone[-2], Draw(row_rng(0, "it", 0, 0)))
    assert len(example.sequences) == 2


def test_the_index_of_labels_is_made_once(text: TextInput) -> None:
    class Counted(list[dict[str, Any]]):
        read = 0

        def __iter__(self) -> Any:
            Counted.read += 1
            return super().__iter__()

    rows = Counted(LABELLED)
    task = make("embed", text, LABELLED)
    for i, row in enumerate(LABELLED):
        list(task.examples(row, Draw(row_rng(0, "it", 0, i), others=rows)))
    assert Counted.read == 1


def test_texts_of_a_label_are_no_negatives_of_each_other(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    """With one label in the batch, there is nothing to tell apart."""
    task = make("embed", text, LABELLED)
    model = with_model(task, make_encoder)
    good = [row for row in LABELLED if row["label"] == "good"]
    own = examples_of(task, good)
    assert accumulate(model, [Microbatch("it", own)], {"it": 1.0}, ALONE, OPTIONS) == {"it": 0.0}
    own += examples_of(task, [row for row in LABELLED if row["label"] == "bad"][:1])
    assert accumulate(model, [Microbatch("it", own)], {"it": 1.0}, ALONE, OPTIONS)["it"] > 0


def test_blank_texts_are_left_out_of_learning_and_can_be_asked_about(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    row = {"query": " ", "document": "the cat", "wrong": ["", "dog"]}
    for kind in ("embed", "rerank"):
        task = make(kind, text, [row], input=["query", "document"], negatives="wrong")
        assert list(task.examples(row, Draw(row_rng(0, "it", 0, 0)))) == []
        (example,) = task.examples({**row, "query": "a"}, Draw(row_rng(0, "it", 0, 0)))
        assert len(example.sequences) == (3 if kind == "embed" else 2)
        (answer,) = with_model(task, make_encoder).predict("it", [row])
        assert math.isfinite(answer.relevance)


@pytest.mark.parametrize(
    ("kind", "options", "rows", "said"),
    [
        ("embed", {}, [{"text": "a", "label": "x"}], r"have 1 label\(s\)"),
        ("embed", {}, [{"text": "a", "label": None}], "holds None and no label"),
        ("embed", {}, [{"text": "a", "label": math.nan}], "holds nan and no label"),
        ("embed", {"input": ["a", "b"], "negatives": "n"}, [{"a": "x", "b": "y"}], "no column 'n'"),
        (
            "embed",
            {"input": ["a", "b"], "negatives": "n"},
            [{"n": [1]}],
            "neither a text nor a list",
        ),
        ("rerank", {"negatives": "n"}, [{"n": 7}], "neither a text nor a list"),
        ("rerank", {"label": "y"}, [{"y": "good"}], "holds 'good' and no grade"),
        ("rerank", {"label": "y"}, [{"y": -1}], "holds -1 and no grade"),
        (
            "rerank",
            {"label": "y"},
            [{"query": "a", "document": "b", "y": y} for y in (1, "1")],
            r"have 1 label\(s\)",
        ),
    ],
)
def test_rows_that_cannot_be_learnt_from(
    text: TextInput, kind: str, options: dict[str, Any], rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make(kind, text, rows, **options)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("embed", {"input": ["a", "b"], "label": "x"}, "two `input` columns, or by one and a"),
        ("embed", {"label": None}, "two `input` columns, or by one and a"),
        ("embed", {"negatives": "n"}, "they belong to a query"),
        ("embed", {"widths": [0]}, "at least 1 wide"),
        ("embed", {"widths": []}, "at least 1 item"),
        ("rerank", {"input": "a"}, "name two columns"),
        ("rerank", {"label": "y", "negatives": "n"}, "a row with label 0"),
    ],
)
def test_options_that_contradict_each_other(kind: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        KINDS[kind].Options(**options)


def test_what_cannot_be_scored_is_found_before_training(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    task = make("embed", text, LABELLED)
    with pytest.raises(UserError, match="no two rows of its valid split have the same label"):
        task.check(LABELLED[:2], "valid")
    blank = {"text": " ", "label": LABELLED[0]["label"]}  # which is left out of scoring
    with pytest.raises(UserError, match="no two rows of its test split have the same label"):
        task.check([LABELLED[0], blank], "test")
    rows = [{**row, "wrong": []} for row in PAIRS]
    pairs = make("embed", text, rows, input=["query", "document"], negatives="wrong")
    assert "wrong" not in pairs.options.needed
    pairs.check(PAIRS, "valid")  # rows to score need none
    with pytest.raises(UserError, match="valid row 1: task it: column 'wrong' holds 7 and neither"):
        pairs.check([{**PAIRS[0], "wrong": 7}], "valid")
    with pytest.raises(UserError, match=r"widths \[99\] go beyond the encoder's 16"):
        embed(text, widths=[99]).build(make_encoder())
    pair = {"query": "a", "document": "b"}
    grades = make("rerank", text, [{**pair, "y": 0}, {**pair, "y": 3}], label="y")
    with pytest.raises(UserError, match="valid row 1: task it: label 4 is over 3"):
        grades.check([{"y": "4"}], "valid")


# ---- vectors, and finding by them ----


def test_ties_count_against_the_right_one() -> None:
    same = torch.ones(5, 4)
    assert ranks(same, same, torch.arange(5), [[]] * 5).tolist() == [5] * 5
    broken = torch.full((2, 4), math.nan)
    assert ranks(broken, broken, torch.arange(2), [[]] * 2).tolist() == [2, 2]


def test_nearest_and_ranks_agree_with_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = vectors_of(9, 1)[:, 0], vectors_of(20, 1)[:, 0]
    ignored = [[i, (7 * i) % 20] for i in range(9)]
    own = torch.tensor([(7 * i + 1) % 20 for i in range(9)])
    scores = queries @ documents.T
    order = [
        [j for j in row.argsort(descending=True).tolist() if j not in out]
        for row, out in zip(scores, ignored, strict=True)
    ]
    for block in (1 << 24, 41):
        monkeypatch.setattr(search, "_BLOCK", block)
        assert nearest(queries, documents, 4, ignored) == [row[:4] for row in order]
        assert nearest(queries, documents, 99, ignored) == order
        places = ranks(queries, documents, own, ignored)
        assert places.tolist() == [
            row.index(int(j)) + 1 for row, j in zip(order, own, strict=True) if int(j) in row
        ]


def test_recall_is_among_different_documents(text: TextInput) -> None:
    """Two queries share a document, one query has two: none stands in the other's way."""
    task = embed(text)
    rows = [
        {"query": q, "document": d} for q, d in [("a", "x"), ("b", "x"), ("c", "y"), ("c", "z")]
    ]
    e = np.eye(4, dtype=np.float32)
    vectors = {"a": e[0], "b": e[0], "x": e[0], "c": e[1], "y": e[1], "z": (e[1] + e[2]) / 2**0.5}
    answers: list[Any] = [
        type("A", (), {"vectors": np.stack([vectors[row["query"]], vectors[row["document"]]])})()
        for row in rows
    ]
    assert task.score(answers, rows) == {"recall_at_1": 1.0, "recall_at_10": 1.0, "mrr": 1.0}
    vectors["b"] = e[1]  # before x stand y and z
    answers[1].vectors = np.stack([vectors["b"], vectors["x"]])
    found = task.score(answers, rows)
    assert found["recall_at_1"] == 0.75
    assert found["mrr"] == pytest.approx((3 + 1 / 3) / 4)


def test_resampled_rows_look_among_the_same_documents(text: TextInput) -> None:
    """Among the fewer that a sample has, all would be easier: the interval lay above the score."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    y = x + 1.2 * rng.normal(size=x.shape)
    pairs = np.stack((x, y), axis=1).astype(np.float32)
    pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
    answers: list[Any] = [type("A", (), {"vectors": pair})() for pair in pairs]
    rows = [{"query": f"q{i}", "document": f"d{i}"} for i in range(200)]
    tally = embed(text).tally(answers, rows)
    for name, (low, high, _) in intervals(tally, np.arange(200)).items():
        middle = tally.total()[name]
        assert 0.1 < middle < 0.9
        assert low < middle < high
        assert abs((low + high) / 2 - middle) < 0.02


def test_labels_are_scored_by_the_nearest_other_text(text: TextInput) -> None:
    task = make("embed", text, LABELLED)
    rows = [{"text": t, "label": label} for t, label in zip("aabcde", "xxxyyz", strict=True)]
    e = np.eye(3, dtype=np.float32)
    vectors = [e[0], e[0], e[0] + 0.1 * e[1], e[1], e[0] + 0.4 * e[1], e[2]]
    answers = [type("A", (), {"vectors": np.stack([v, v]) / np.linalg.norm(v)})() for v in vectors]
    # a: b; a: b; b: a; c: d; d: b, wrong; e has no fellow
    assert task.score(answers, rows) == {"accuracy": 0.8}
    assert math.isnan(task.score(answers[-1:], rows[-1:])["accuracy"])


def test_predict_gives_vectors_and_cosines(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(embed(text), make_encoder)
    (answer,) = model.predict("it", [("the cat", "the dog")])
    first, second = model.encode(["the cat", "the dog"]).numpy()
    np.testing.assert_allclose(answer.vectors, [first, second], atol=1e-6)
    assert answer.columns()["cosine"] == pytest.approx(float(first @ second), abs=1e-6)
    model = with_model(make("embed", text, LABELLED), make_encoder)
    (answer,) = model.predict("it", ["the cat"])
    np.testing.assert_allclose(answer.columns()["vector"], first, atol=1e-6)


def test_a_narrow_vector_is_the_beginning_of_a_wide_one(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    model = with_model(embed(text), make_encoder)
    whole, narrow = model.encode("the cat"), model.encode("the cat", width=4)
    torch.testing.assert_close(narrow, F.normalize(whole[:, :4], dim=-1))
    model.pooling = Pooling(normalise=False)
    torch.testing.assert_close(model.encode("a", width=4), model.encode("a")[:, :4])
    assert model.encode([], width=4).shape == (0, 4)
    for width in (0, 17):
        with pytest.raises(UserError, match="vectors are 16 wide"):
            model.encode("a", width=width)


# ---- rerank ----


def test_a_group_is_a_softmax_over_its_documents(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    rows = [{**row, "wrong": WORDS[: i % 3 + 1]} for i, row in enumerate(PAIRS)]
    task = make("rerank", text, rows, negatives="wrong")
    model = with_model(task, make_encoder)
    own = examples_of(task, rows)
    answers = list(model.answers(task, own))
    expected = 0.0
    for row, answer in zip(rows, answers, strict=True):
        assert len(answer.logits) == 1 + len(row["wrong"])
        pairs = [(row["query"], text) for text in (row["document"], *row["wrong"])]
        alone = [a.columns()["logit"] for a in model.predict("it", pairs)]
        assert answer.logits == pytest.approx(alone, abs=1e-5)
        expected -= float(F.log_softmax(torch.tensor(alone), 0)[0])
    outputs, batch = model(task, collate(own, 64))
    assert task.loss(outputs, batch).item() == pytest.approx(expected, abs=1e-4)
    surprises = [task.surprise(a, r) for a, r in zip(answers, rows, strict=True)]
    assert sum(surprises) == pytest.approx(expected, abs=1e-4)
    places = [1 + sum(x > a.logits[0] for x in a.logits[1:]) for a in answers]
    assert task.score(answers, rows)["mrr"] == pytest.approx(np.mean(1 / np.array(places)))


def test_documents_of_others_are_drawn_where_there_are_no_negatives(text: TextInput) -> None:
    task = make("rerank", text, PAIRS, random_negatives=3)
    rows = [*PAIRS, {"query": PAIRS[0]["query"], "document": "another answer"}]
    for i in range(20):
        (example,) = task.examples(rows[0], Draw(row_rng(0, "it", i, 0), others=rows))
        ids = [tuple(s.segments[0].values) for s in example.sequences]
        assert len(set(ids)) == 4
        strange = text.encode(rows[0]["query"], "another answer")
        assert tuple(strange.ids) not in ids
    assert list(task.examples(rows[0], Draw(row_rng(0, "it", 0, 0), others=rows[:1]))) == []


def test_grades_are_shares_of_the_highest(
    text: TextInput, make_encoder: Callable[..., Encoder]
) -> None:
    rows = [{**row, "grade": str(i % 4)} for i, row in enumerate(PAIRS)]
    task = make("rerank", text, rows, label="grade")
    own = examples_of(task, rows)
    assert [float(e.truth["label"][0]) for e in own[:4]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    model = with_model(task, make_encoder)
    answers = list(model.answers(task, own))
    assert set(task.score(answers, rows)) == {"accuracy", "roc_auc"}
    assert set(task.score(answers[:1], rows[:1])) == {"accuracy"}
    outputs, batch = model(task, collate(own, 64))
    expected = sum(task.surprise(a, r) for a, r in zip(answers, rows, strict=True))
    assert task.loss(outputs, batch).item() == pytest.approx(expected, abs=1e-3)


def test_ranking_documents(text: TextInput, make_encoder: Callable[..., Encoder]) -> None:
    documents = [row["document"] for row in PAIRS]
    for task in (embed(text), make("rerank", text, PAIRS)):
        model = with_model(task, make_encoder)
        found = model.rank("it", "the cat", documents, top=3)
        answers = model.predict("it", [("the cat", document) for document in documents])
        best = sorted(zip(answers, documents, strict=True), key=lambda x: -x[0].relevance)
        assert [document for document, _ in found] == [d for _, d in best[:3]]
        assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    model = with_model(make("classify", text, LABELLED), make_encoder)
    with pytest.raises(UserError, match="only `embed` and `rerank` rank"):
        model.rank("it", "a", ["b"])


# ---- bundles and other libraries ----


def test_a_cross_encoder_goes_out_and_comes_back(
    text: TextInput, make_encoder: Callable[..., Encoder], tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    from unmask.interop import usual_head

    encoder = make_encoder()
    task = make("rerank", text, PAIRS, head=usual_head("rerank", encoder.config))
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    save_as(model, tmp_path / "cross", "huggingface")
    pairs = [(row["query"], row["document"]) for row in PAIRS]
    ours = [a.relevance for a in model.predict("it", pairs)]
    back = load(tmp_path / "cross")
    assert back.task("rerank").kind == "rerank"
    assert [a.relevance for a in back.predict("rerank", pairs)] == pytest.approx(ours, abs=1e-6)
    theirs = CrossEncoder(str(tmp_path / "cross"), device="cpu").predict(pairs)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that pools by cls, as its recipe says."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder)
    recipe["tasks"]["near"]["pooling"] = "cls"
    recipe["train"] |= {"steps": 40, "batch_tokens": 1000, "learning_rate": 2e-3}
    return unmask.train(recipe, folder / "run")


def test_a_bundle_gives_the_vectors_that_were_trained(
    trained: Any, recipe: dict[str, Any], tmp_path: Path
) -> None:
    found = updates(trained.folder)
    assert found[-1, 0] < found[0, 0] - 0.5
    model = bundle.load(trained.bundle)
    assert model.pooling == Pooling(mode="cls")
    vectors = model.encode(["cat dog", "the dog and the cat"])
    (answer,) = model.predict("near", [("cat dog", "the dog and the cat")])
    np.testing.assert_allclose(answer.vectors, vectors, atol=1e-6)
    scores = {s.metric: s.value for s in trained.scores}
    assert scores["recall_at_10"] > scores["recall_at_1"] > 0
    # The next run starts from it and pools as it does.
    recipe["encoder"] = {"from": str(trained.bundle)}
    again = unmask.train(recipe, tmp_path / "again", ["train.steps=1"])
    assert again.model.pooling == Pooling(mode="cls")
    recipe["tasks"]["far"] = {**recipe["tasks"]["near"], "pooling": "mean"}
    with pytest.raises(UserError, match="near by cls, far by mean"):
        unmask.train(recipe, tmp_path / "both")


def test_the_command_mines_and_embeds(
    trained: Any, recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: object) -> str:
        app(list(map(str, words)), standalone_mode=False)
        return capsys.readouterr().out

    plain = tmp_path / "plain.jsonl"
    known = read(Source(path=str(tmp_path / "pairs.jsonl")))
    rows = [{name: row[name] for name in ("query", "document")} for row in known]
    rows.append({"query": rows[0]["query"], "document": rows[1]["document"]})
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("--query", "query", "--document", "document", "--count", 2, "--output")
    for name in ("mined.parquet", "mined.jsonl"):
        said = command("mine", trained.bundle, plain, *columns, tmp_path / name)
        assert f"{2 * len(rows)} negatives for {len(rows)} rows" in said
        mined = list(read(Source(path=str(tmp_path / name))))
        assert [{k: m[k] for k in ("query", "document")} for m in mined] == rows
        assert all(len(set(m["negatives"])) == 2 for m in mined)
        assert not {rows[0]["document"], rows[1]["document"]} & set(mined[0]["negatives"])
    with pytest.raises(UserError, match="has a column 'negatives' already"):
        command("mine", trained.bundle, tmp_path / "mined.jsonl", *columns, tmp_path / "x.jsonl")
    with pytest.raises(UserError, match=r"the output is .jsonl or .parquet"):
        command("mine", trained.bundle, plain, *columns, tmp_path / "x.csv")
    recipe["tasks"]["near"]["train"] = str(tmp_path / "mined.parquet")
    recipe["encoder"] = {"from": str(trained.bundle)}
    unmask.train(recipe, tmp_path / "harder", ["train.steps=1"])
    wide, narrow = (
        np.array(json.loads(command("embed", trained.bundle, "cat dog", *more)))
        for more in ((), ("--width", 16))
    )
    assert (wide.shape, narrow.shape) == ((1, 128), (1, 16))
    np.testing.assert_allclose(narrow[0], wide[0, :16] / np.linalg.norm(wide[0, :16]), atol=1e-5)
    with pytest.raises(UserError, match="vectors are 128 wide"):
        command("embed", trained.bundle, "cat dog", "--width", 999)


def test_mining_gives_what_is_near_and_not_its_own(trained: Any) -> None:
    pairs = [(f"{a} {b}", f"the {b} and the {a}") for a in WORDS for b in WORDS[:3] if a != b]
    near, far = mine(trained.model, pairs, 3, 0), mine(trained.model, pairs, 2, 1)
    assert [own[1:] for own in near] == far
    documents = sorted({document for _, document in pairs})
    for (query, document), own in list(zip(pairs, near, strict=True))[:4]:
        ranked = [d for d, _ in trained.model.rank("near", query, documents)]
        assert [d for d in ranked if d != document][:3] == own


def test_a_trained_model_goes_to_sentence_transformers(
    text: TextInput, make_encoder: Callable[..., Encoder], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    model = with_model(embed(text, pooling="cls"), make_encoder)
    save_as(model, tmp_path / "st", "sentence-transformers")
    assert read_json(tmp_path / "st" / "1_Pooling" / "config.json")["pooling_mode_cls_token"]
    texts = [row["document"] for row in PAIRS]
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(texts)
    np.testing.assert_allclose(model.encode(texts), theirs, atol=1e-5)
    save_as(model, tmp_path / "hf", "huggingface")  # the encoder alone
    np.testing.assert_allclose(
        load(tmp_path / "hf").hidden("the cat"), model.hidden("the cat"), atol=1e-6
    )
