"""The methods beside captum, and what each of them promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import unmask
from unmask.explain import explain
from unmask.explain.attention import attention, rollout
from unmask.explain.explain import game_of
from unmask.explain.faithful import rank_correlation
from unmask.explain.game import Pace
from unmask.explain.gradients import clenshaw_curtis, gradient_input, integrated_gradients, way
from unmask.explain.hiding import occlusion, shapley
from unmask.inputs.text import TextInput
from unmask.model import Model

from .conftest import ROWS

Make = Callable[..., Model]
KINDS = [kind for kind in ROWS if kind != "detect"]


class Twin:
    """A classifier of transformers, which captum explains, and the same as ours."""

    def __init__(self, folder: Path, text: TextInput) -> None:
        torch.manual_seed(0)
        labels = dict(enumerate(["bad", "good", "so so"]))
        config = transformers.BertConfig(
            vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=40, id2label=labels,
        )  # fmt: skip
        self.theirs = transformers.BertForSequenceClassification(config).eval()
        with torch.no_grad():
            for weight in self.theirs.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        self.theirs.save_pretrained(folder)
        text.save(folder / "tokenizer.json")
        self.ours = unmask.load(folder)
        self.ids = torch.from_numpy(self.ours.tokenize(ROWS["classify"]).ids)[None]
        self.blank = torch.full_like(self.ids, text.mask_id)
        self.blank[0, [0, -1]] = self.ids[0, [0, -1]]

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return self.theirs(ids).logits


@pytest.fixture
def twin(tmp_path: Path, text: TextInput) -> Twin:
    return Twin(tmp_path, text)


@pytest.mark.parametrize("label", [0, 2])
def test_gradients_are_captums(twin: Twin, label: int) -> None:
    from captum.attr import LayerGradientXActivation, LayerIntegratedGradients

    name = ["bad", "good", "so so"][label]
    game, _ = game_of(twin.ours, "classify", ROWS["classify"], name, "token")
    layer = twin.theirs.bert.embeddings
    theirs, delta = LayerIntegratedGradients(twin, layer).attribute(
        twin.ids, twin.blank, target=label, n_steps=200, return_convergence_delta=True
    )
    ours = integrated_gradients(game, tolerance=1e-5)
    assert ours.tokens is not None
    assert ours.error is not None
    np.testing.assert_allclose(ours.tokens, theirs.sum(-1)[0].detach().numpy(), atol=1e-4)
    assert ours.error < 1e-3
    assert abs(float(delta)) < 1e-3
    product = LayerGradientXActivation(twin, layer).attribute(twin.ids, target=label)
    found = gradient_input(game).tokens
    np.testing.assert_allclose(found, product.sum(-1)[0].detach().numpy(), atol=1e-4)


def test_occlusion_and_shapley_are_captums(twin: Twin) -> None:
    from captum.attr import FeatureAblation, ShapleyValues

    row = "film was good"  # captum asks all orders of five tokens
    ids = torch.from_numpy(twin.ours.tokenize(row).ids)[None]
    blank = torch.full_like(ids, int(twin.blank[0, 1]))
    blank[0, [0, -1]] = ids[0, [0, -1]]
    game, _ = game_of(twin.ours, "classify", row, "good", "word")
    inside = slice(1, -1)
    ablated = FeatureAblation(twin).attribute(ids, blank, target=1)[0, inside]
    np.testing.assert_allclose(occlusion(game).scores, ablated.detach().numpy(), atol=1e-4)
    exact = ShapleyValues(twin).attribute(ids, blank, target=1)[0, inside]
    found = shapley(game)
    np.testing.assert_allclose(found.scores, exact.detach().numpy(), atol=1e-4)
    assert found.spread is not None
    assert not found.spread.any()  # all orders were looked at


def test_quadrature_is_exact_on_polynomials() -> None:
    for n in (2, 8, 16):
        x = (1 - np.cos(np.pi * np.arange(n + 1) / n)) / 2
        w = clenshaw_curtis(n)
        for power in range(n + 1):
            assert w @ x**power == pytest.approx(1 / (power + 1), abs=1e-12)


def test_points_lie_dense_and_still_give_the_integral() -> None:
    for power in range(6):
        points, weights = way(48)
        assert weights @ points**power == pytest.approx(1 / (power + 1), abs=1e-6)
    few, many = way(12)[0], way(24)[0]
    assert set(few) <= set(many)  # what is known already is not asked again
    assert (few[0], few[-1]) == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["word", "token"])
def test_every_kind_is_explained(make_model: Make, kind: str, by: Any) -> None:
    """Scores add up to the change, and come one a part; what is measured is finite."""
    model = make_model(kind)
    methods = ["integrated_gradients", "gradient_input", "occlusion", "shapley", "rollout"]
    found = explain(model, "it", ROWS[kind], methods=methods, by=by)
    assert [one.method for one in found.methods] == methods
    for one in found.methods:
        assert len(one.scores) == len(found.parts)
        assert np.isfinite(one.scores).all()
        assert one.faithfulness is not None
        assert np.isfinite([*one.faithfulness.deletion]).all()
    gradients, shap = found.methods[0], found.methods[3]
    assert gradients.change is not None
    assert gradients.error is not None
    assert sum(shap.scores) == pytest.approx(gradients.change, abs=1e-4)
    assert sum(gradients.scores) == pytest.approx(gradients.change, abs=gradients.error + 1e-4)
    special = [i for i, token in enumerate(found.tokens) if token.part is None]
    assert gradients.token_scores is not None
    assert not np.array(gradients.token_scores)[special].any()
    assert next(token.text for token in found.tokens if token.part is None) == "[CLS]"


@pytest.mark.parametrize("style", ["classic", "modern", "rms"])
def test_the_way_begins_and_ends_where_it_should(make_model: Make, style: str) -> None:
    """All there is the model's own answer; a gradient is that of small steps."""
    model = make_model("classify", style)
    game, _ = game_of(model, "it", ROWS["classify"], "good", "token")
    logits = model.predict("it", ROWS["classify"])[0].logits
    assert game.whole[0] == pytest.approx(logits[1], abs=1e-5)
    P = len(game.places)
    there = np.full((3, P), 0.5, dtype=np.float32)
    there[1, 2], there[2, 2] = 0.49, 0.51
    along, _, said = game.slopes(there)
    assert along[0, 2] == pytest.approx((said[2, 0] - said[1, 0]) / 0.02, rel=0.02, abs=1e-3)


def test_copies_do_not_see_one_another(make_model: Make) -> None:
    """Asked alone or in one pass, with windows of different lengths: the same."""
    for kind in ("classify", "span", "embed"):
        game, _ = game_of(make_model(kind), "it", ROWS[kind], None, "word")
        kept = np.random.default_rng(0).random((5, len(game.parts))) < 0.5
        alone = np.concatenate([game.ask(one[None]) for one in kept])
        np.testing.assert_allclose(game.ask(kept), alone, atol=1e-5)


def test_shapley_samples_come_near_the_exact_values(make_model: Make) -> None:
    row = "the film was very good and great one"  # eight words: over the limit for all orders
    game, _ = game_of(make_model("classify"), "it", row, "good", "word")
    n = len(game.parts)
    subsets = np.array(np.meshgrid(*[[0, 1]] * n, indexing="ij")).reshape(n, -1).T
    value = dict(zip(map(tuple, subsets), game.ask(subsets)[:, 0], strict=True))
    exact = np.zeros(n)
    rng = np.random.default_rng(1)
    orders = [tuple(rng.permutation(n)) for _ in range(2000)]
    for order in orders:
        kept = np.zeros(n, dtype=int)
        for i in order:
            before = value[tuple(kept)]
            kept[i] = 1
            exact[i] += (value[tuple(kept)] - before) / len(orders)
    found = shapley(game, orders=400)
    assert found.spread is not None
    assert (found.spread > 0).all()
    np.testing.assert_allclose(found.scores, exact, atol=6 * found.spread.max())


def test_rollout_is_attention_through_the_layers(make_model: Make) -> None:
    model = make_model("classify")
    game, _ = game_of(model, "it", ROWS["classify"], None, "token")
    (table,) = attention(game)
    assert table.shape == (3, 2, 9, 9)
    np.testing.assert_allclose(table.sum(-1), 1, atol=1e-5)
    mixed = [layer.mean(0) / 2 + np.eye(9) / 2 for layer in table]
    flow = mixed[2] @ mixed[1] @ mixed[0]
    np.testing.assert_allclose(rollout(game).tokens, flow[0], atol=1e-6)  # [CLS] is read


def test_a_text_compared_with_another_is_hidden_alone(make_model: Make) -> None:
    """Of two texts each is explained while the other stays: both blank would be alike."""
    game, _ = game_of(make_model("embed"), "it", ROWS["embed"], None, "word")
    first, second = game.rounds
    assert [game.parts[i].sequence for i in first] == [0] * len(first)
    kept = np.ones((2, len(game.parts)))
    kept[0, first], kept[1, second] = 0, 0
    change = sum(game.whole[0] - game.ask(kept)[:, 0])
    assert shapley(game).scores.sum() == pytest.approx(change, abs=1e-5)
    assert integrated_gradients(game).change == pytest.approx(change, abs=1e-5)


def test_rank_correlation_is_scipys() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for n in (3, 10, 200):
        a, b = rng.integers(0, 6, (2, n)) / 3  # many are equal
        a[0], a[1], b[0], b[1] = 9, 8, 1, 7
        found = rank_correlation(a, b)
        assert found == pytest.approx(float(spearmanr(a, b).statistic), abs=1e-4)
    assert rank_correlation(a, np.ones(n)) is None


def test_small_passes_give_the_same_and_any_may_be_the_last(make_model: Make) -> None:
    model = make_model("classify")
    passes: list[int] = []
    methods = ["integrated_gradients", "occlusion"]
    whole = explain(model, "it", ROWS["classify"], methods=methods, check=False)
    pace = Pace(1, lambda: passes.append(1))
    small = explain(model, "it", ROWS["classify"], methods=methods, check=False, pace=pace)
    assert len(passes) > 13
    for ours, theirs in zip(small.methods, whole.methods, strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)

    def stop() -> None:
        passes.pop()
        if len(passes) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(model, "it", ROWS["classify"], pace=Pace(1, stop))
    assert all(p.requires_grad for p in model.parameters())
