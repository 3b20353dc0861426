"""The optimisers, the norm of the gradient, what changes over a run, and the guard."""

from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from unmask.encoder import Encoder, EncoderConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.recipe import TrainOptions
from unmask.training import muon
from unmask.training.guard import Guard
from unmask.training.optimiser import Optimiser, gradient_norm, make_optimiser
from unmask.training.schedule import batch_tokens_at, longest_at, rate_at

KINDS = ["adamw", "stable_adamw", "muon"]
TINY = {"hidden_size": 16, "num_layers": 2, "intermediate_size": 24, "gated": True}


@pytest.fixture
def model(text: TextInput, make_encoder: Callable[..., Encoder]) -> Model:
    encoder = make_encoder("classic", gated=True)
    return Model(encoder, text, heads={"mood": nn.Linear(16, 2), "kind": nn.Linear(16, 5)})


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**({"learning_rate": 1e-2, "weight_decay": 0.1} | changes))


def give_gradient(model: nn.Module, seed: int, size: float = 1.0) -> None:
    """A random gradient; now and then one of the heads has none, as where its task is not drawn."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        gradient = size * torch.randn(p.shape, generator=generator)
        if isinstance(p, DTensor):
            gradient = distribute_tensor(gradient, p.device_mesh, p.placements)
        p.grad = None if "kind" in name and seed % 3 == 0 else gradient


def state_of(optimiser: Optimiser) -> dict[str, Tensor]:
    """A copy of the whole state."""
    return {
        name: (t.full_tensor() if isinstance(t, DTensor) else t).clone()
        for name, t in optimiser.tensors()
    }


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_vectors_do_not_decay_and_heads_learn_faster(model: Model) -> None:
    for kind in KINDS:
        groups = make_optimiser(
            model, options(optimiser=kind, learning_rate=1e-3, weight_decay=0.1)
        ).groups
        given = [p for group in groups for p in group["params"]]
        assert len(given) == len({id(p) for p in given}) == len(list(model.parameters()))
        for group in groups:
            assert group["weight_decay"] == (0.1 if group["params"][0].ndim >= 2 else 0)
            trunk = any(group["params"][0] is p for p in model.encoder.parameters())
            expected = 4e-3 if "blocks" in group else 1e-3 if trunk else 1e-2
            assert group["peak"] == pytest.approx(expected)
    own = make_optimiser(model, options(head_learning_rate=0.5))
    assert {group["peak"] for group in own.groups} == {1e-2, 0.5}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_is_a_share_of_the_peak(model: Model, kind: str) -> None:
    optimiser = make_optimiser(model, options(optimiser=kind))
    optimiser.set_rate(0.5)
    optimiser.set_rate(0.25)
    assert optimiser.rate == pytest.approx(0.25e-2)
    assert all(g["lr"] == pytest.approx(0.25 * g["peak"]) for g in optimiser.groups)
    before = weights(model)
    optimiser.set_rate(0)
    give_gradient(model, 1)
    optimiser.step()
    for name, weight in weights(model).items():
        assert torch.equal(weight, before[name])


def test_adamw_is_torchs_with_the_gradient_scaled(model: Model) -> None:
    twin = copy.deepcopy(model)
    optimiser = make_optimiser(model, options())
    plain = torch.optim.AdamW(
        [
            {
                "params": [p for p in module.parameters() if (p.ndim >= 2) == matrices],
                "lr": rate,
                "weight_decay": 0.1 if matrices else 0.0,
            }
            for module, rate in ((twin.encoder, 1e-2), (twin.heads, 1e-1))
            for matrices in (True, False)
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
        foreach=False,
        fused=False,
    )
    for step, scale in enumerate([1.0, torch.tensor(0.01), 0.5, torch.tensor(1.0), 0.002]):
        give_gradient(model, step)
        give_gradient(twin, step)
        for p in twin.parameters():
            if p.grad is not None:
                p.grad *= scale
        optimiser.step(scale)
        plain.step()
        optimiser.zero_grad()
        assert all(p.grad is None for p in model.parameters())
    found = weights(model)
    for name, weight in weights(twin).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6)


def stable_adamw(weight: Tensor, gradients: list[Tensor], rate: float, decay: float) -> Tensor:
    """Algorithm 2 of arXiv:2304.13013, line by line, in double precision."""
    theta = weight.double()
    v, u = torch.zeros_like(theta), torch.zeros_like(theta)
    b1, b2, eps = 0.9, 0.98, 1e-6
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        c1 = b1 * (1 - b1 ** (t - 1)) / (1 - b1**t)
        c2 = b2 * (1 - b2 ** (t - 1)) / (1 - b2**t)
        v = c1 * v + (1 - c1) * g
        u = c2 * u + (1 - c2) * g**2
        rms = (g**2 / u.clamp(min=eps**2)).mean().sqrt()
        eta = rate / max(1.0, float(rms))
        theta = theta - eta * decay * theta - eta * v / (u.sqrt() + eps)
    return theta


def test_stable_adamw_is_the_papers(model: Model) -> None:
    optimiser = make_optimiser(model, options(optimiser="stable_adamw"))
    before = weights(model)
    seen: dict[str, list[Tensor]] = {name: [] for name in before}
    sizes = [1.0, 1.0, 30.0, 1.0, 200.0, 1e-7]  # with changes so sudden that clipping matters
    for step, size in enumerate(sizes):
        give_gradient(model, step, size)
        for name, p in model.named_parameters():
            if p.grad is not None:
                seen[name].append(p.grad * 0.5)
        optimiser.step(torch.tensor(0.5))
    assert len({len(gradients) for gradients in seen.values()}) == 2
    for name, weight in weights(model).items():
        rate = 1e-2 if name.startswith("encoder") else 1e-1
        decay = 0.1 if weight.ndim >= 2 else 0.0
        expected = stable_adamw(before[name], seen[name], rate, decay)
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-5)


def test_stable_adamw_is_adamw_while_nothing_changes_suddenly(model: Model) -> None:
    twin = copy.deepcopy(model)
    stable = make_optimiser(model, options(optimiser="stable_adamw"))
    plain = make_optimiser(twin, options())
    for size in (1.0, 0.5, 0.2):  # the same direction, ever shorter: RMS(g / sqrt(v)) under 1
        for some, optimiser in ((model, stable), (twin, plain)):
            give_gradient(some, 1, size)
            optimiser.step()
    found = weights(model)
    for name, weight in weights(twin).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6)
    for some, optimiser in ((model, stable), (twin, plain)):
        give_gradient(some, 1, 100.0)
        optimiser.step()
    assert not torch.allclose(model.head("mood").weight, twin.head("mood").weight)


def test_muon_takes_the_matrices_inside_the_layers(model: Model) -> None:
    state = state_of(make_optimiser(model, options(optimiser="muon")))
    taken = {name.rpartition(".")[0] for name in state if name.endswith("momentum_buffer")}
    inside = ("attention.qkv", "attention.output", "feed_forward.inner", "feed_forward.outer")
    assert taken == {f"encoder.layers.{i}.{name}.weight" for i in range(3) for name in inside}
    others = {name.rpartition(".")[0] for name in state if name.endswith("exp_avg")}
    assert taken | others == set(weights(model))
    assert not taken & others


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (96, 32), (32, 96)])
def test_an_orthogonal_update_has_singular_values_near_one(
    shape: tuple[int, int], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # then each by itself
        monkeypatch.setattr(muon, "_LARGE", 0)
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -1.5, 32)
    update = u @ values.diag() @ vh
    turned, other = muon.orthogonal(torch.stack([update, torch.randn(shape)])).float()
    assert not torch.equal(turned, other)
    found = u.mT @ turned @ vh.mT  # in the same directions
    assert found.diagonal().min() > 0.6
    assert found.diagonal().max() < 1.3
    torch.testing.assert_close(found, found.diagonal().diag(), atol=0.05, rtol=0)


def test_muon_is_torchs_with_stacked_matrices_apart(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both iterate in fp32 here: in bf16 the order in which a processor adds up would show."""
    monkeypatch.setattr(muon, "_fast", lambda device: torch.float32)
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    pieces: dict[str, list[nn.Parameter]] = {}
    stacked = {"attention.qkv.weight": 3, "feed_forward.inner.weight": 2}
    for name, weight in weights(model.encoder.layers).items():
        if weight.ndim == 2:
            count = stacked.get(name.partition(".")[2], 1)
            pieces[name] = [nn.Parameter(piece.clone()) for piece in weight.chunk(count)]
    reference = torch.optim.Muon(
        [piece for own in pieces.values() for piece in own],
        lr=1e-2,
        weight_decay=0.1,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    optimiser = make_optimiser(model, options(optimiser="muon", muon_learning_rate=1e-2))
    for step in range(4):
        give_gradient(model, step)
        for name, p in model.encoder.layers.named_parameters():
            if name in pieces:
                assert p.grad is not None
                for piece, gradient in zip(
                    pieces[name], p.grad.chunk(len(pieces[name])), strict=True
                ):
                    piece.grad = gradient.clone()
        optimiser.step(0.001)
        reference.step()
    found = weights(model.encoder.layers)
    for name, own in pieces.items():
        torch.testing.assert_close(found[name], torch.cat(list(own)), rtol=1e-5, atol=1e-6)


def test_muon_leaves_the_rest_to_adamw(model: Model) -> None:
    twin = copy.deepcopy(model)
    both = make_optimiser(model, options(optimiser="muon"))
    adamw = make_optimiser(twin, options())
    for step in range(3):
        for some, optimiser in ((model, both), (twin, adamw)):
            give_gradient(some, step)
            optimiser.step(0.3)
    found = weights(model)
    for name, weight in weights(twin).items():
        inside = name.startswith("encoder.layers") and weight.ndim == 2
        assert torch.equal(found[name], weight) is not inside


def test_the_norm_is_of_the_whole_gradient_and_leaves_it(model: Model) -> None:
    give_gradient(model, 3)  # one of the heads has none
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    norm = gradient_norm(model)
    assert norm.shape == ()
    assert float(norm) == pytest.approx(float(torch.cat([g.flatten() for g in gradients]).norm()))
    left = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, left, strict=True))
    model.encoder.norm.register_parameter("odd", nn.Parameter(torch.zeros(1)))
    model.encoder.norm.odd.grad = torch.tensor([math.nan])
    assert math.isnan(float(gradient_norm(model)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_run_goes_on_from_saved_state_bit_for_bit(model: Model, kind: str, before: int) -> None:
    optimiser = make_optimiser(model, options(optimiser=kind))
    for step in range(before):
        give_gradient(model, step)
        optimiser.step(0.5)
    state = state_of(optimiser)
    saved = save(state)
    twin = copy.deepcopy(model)
    other = make_optimiser(twin, options(optimiser=kind))
    kept = load(saved)
    other.load(dict(reversed(kept.items())))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state_of(other).items())
    for step in range(before, before + 4):
        for some, own in ((model, optimiser), (twin, other)):
            give_gradient(some, step)
            own.set_rate(1 / (step + 1))
            own.step(0.5)
    found = weights(twin)
    assert all(torch.equal(weight, found[name]) for name, weight in weights(model).items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())  # a copy


def test_names_of_the_state_are_the_models_and_torchs(model: Model) -> None:
    state = state_of(make_optimiser(model, options()))
    keys = ("step", "exp_avg", "exp_avg_sq")
    assert set(state) == {f"{name}.{key}" for name in weights(model) for key in keys}
    give_gradient(model, 1)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    optimiser.step()
    assert {key for own in optimiser.state.values() for key in own} == set(keys)


def test_state_of_another_run_is_refused(model: Model) -> None:
    optimiser = make_optimiser(model, options())
    give_gradient(model, 1)
    optimiser.step()
    state = state_of(optimiser)
    first, last = "encoder.layers.0.attention.qkv.weight.exp_avg", "heads.mood_head.bias.exp_avg"
    lacking = {name: tensor for name, tensor in state.items() if name != first}
    with pytest.raises(UserError, match=f"{first} is missing"):
        optimiser.load(lacking)
    with pytest.raises(UserError, match=r"heads\.other\.bias\.exp_avg has no place here"):
        optimiser.load(state | {"heads.other.bias.exp_avg": torch.zeros(2)})
    wrong = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    with pytest.raises(UserError, match=rf"{last} has the shape \(3,\), not \(2,\)"):
        optimiser.load(wrong | {last: torch.zeros(3)})
    muon = make_optimiser(model, options(optimiser="muon"))
    with pytest.raises(UserError, match=r"another train\.optimiser"):
        muon.load(state)
    left = state_of(optimiser)  # what is refused changes nothing
    assert all(torch.equal(tensor, state[name]) for name, tensor in left.items())


class Sharded(nn.Module):
    """An encoder and a head, as a model holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(EncoderConfig(vocab_size=64, num_heads=2, num_segments=2, **TINY))
        self.heads = nn.ModuleDict({"mood": nn.Linear(16, 3)})


def test_shards_learn_as_the_whole_does() -> None:
    """Two processes, each with half of every weight: this file runs again as their program."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, __file__], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as the whole") == 2


def compare_shards_with_the_whole() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for kind in KINDS:
        torch.manual_seed(0)
        whole: Any = Sharded()
        parts: Any = copy.deepcopy(whole)
        for layer in parts.encoder.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(parts, mesh=mesh)
        pairs = [(some, make_optimiser(some, options(optimiser=kind))) for some in (whole, parts)]
        norms = []
        for step in range(3):
            for some, optimiser in pairs:
                give_gradient(some, step)
                norms.append(gradient_norm(some))
                optimiser.step(0.5 / norms[-1])
        assert isinstance(next(parts.parameters()), DTensor)
        torch.testing.assert_close(norms[0::2], norms[1::2])
        for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
            torch.testing.assert_close(q.full_tensor(), p, rtol=1e-5, atol=1e-6)
        one, other = (state_of(optimiser) for _, optimiser in pairs)
        torch.testing.assert_close(one, other)
        for some, state in ((whole, other), (parts, one)):  # and either goes on from the other's
            fresh = make_optimiser(some, options(optimiser=kind))
            fresh.load(state)
            torch.testing.assert_close(state_of(fresh), state, rtol=0, atol=0)
    print("as the whole", flush=True)
    dist.destroy_process_group()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_the_rate_warms_up_and_decays(schedule: Any) -> None:
    options = TrainOptions(warmup=0.2, schedule=schedule, decay=0.3)
    rates = [rate_at(x, options) for x in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.5)
    assert rates[20] == max(rates) == pytest.approx(1)
    assert rates[-1] == pytest.approx(1 if schedule == "constant" else 0, abs=1e-9)
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(rates[20:]))
    halfway = {"linear": 0.5, "cosine": 0.5, "constant": 1, "wsd": 1}[schedule]
    assert rates[60] == pytest.approx(halfway)
    without = TrainOptions(warmup=0, schedule=schedule)
    assert rate_at(0, without) == pytest.approx(1)


def test_wsd_is_stable_and_then_falls_as_one_minus_a_root() -> None:
    options = TrainOptions(warmup=0.1, schedule="wsd")  # falls over the last fifth
    assert {rate_at(x, options) for x in (0.1, 0.3, 0.5, 0.79)} == {1.0}
    assert rate_at(0.85, options) == pytest.approx(0.5)
    assert rate_at(0.9, options) == pytest.approx(1 - math.sqrt(0.5))
    short = TrainOptions(warmup=0.5, schedule="wsd", decay=0.5)
    assert rate_at(0.5, short) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"warmup 0\.6 and decay 0\.5 are shares of one run"):
        TrainOptions(warmup=0.6, schedule="wsd", decay=0.5)


def test_updates_and_windows_grow() -> None:
    options = TrainOptions(batch_tokens=4096, batch_warmup=0.4, length_warmup=0.2)
    sizes = [batch_tokens_at(x, options) for x in np.linspace(0, 1, 101)]
    assert sizes[0] == 512
    assert sizes[20] == 2304
    assert set(sizes[40:]) == {4096}
    assert all(b > a for a, b in itertools.pairwise(sizes[:41]))
    windows = [longest_at(x, 512, options) for x in np.linspace(0, 1, 101)]
    assert windows[0] == 64
    assert windows[10] == 288
    assert set(windows[20:]) == {None}
    growing = [window for window in windows if window is not None]
    assert all(b > a for a, b in itertools.pairwise([*growing, 513]))
    assert longest_at(0, 40, options) == 16
    assert longest_at(0, 10, options) == 10
    without = TrainOptions(batch_tokens=4096)
    assert batch_tokens_at(0, without) == 4096
    assert longest_at(0, 512, without) is None


def settled(clip: float = 1.0) -> Guard:
    guard = Guard(clip)
    assert all(guard.judge(step, {"words": 2.0}, 3.0) for step in range(1, 51))
    return guard


def test_what_is_not_finite_is_skipped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(1.0)
    assert not guard.judge(1, {"words": math.nan, "mood": 1.0}, 3.0)
    assert not guard.judge(2, {"words": 1.0}, math.inf)
    assert not guard.judge(3, {"words": -math.inf}, math.nan)
    assert guard.judge(4, {"words": 1.0}, 0.0)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "step 1 skipped: task words: the loss is not finite",
        "step 2 skipped: task words: the gradient is not finite",
        "step 3 skipped: task words: the loss is not finite",
    ]


def test_a_spike_is_skipped_once_the_usual_norm_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = Guard(1.0)
    for step in range(1, 50):
        assert guard.judge(step, {"words": 2.0}, 3.0)
    assert guard.judge(50, {"words": 2.0}, 3.0 * 50)  # too early to tell
    guard = settled()
    assert not guard.judge(51, {"words": 2.0}, 31.0)
    assert caplog.messages == [
        "step 51 skipped: the gradient's norm 31 is a spike over the usual 3"
    ]
    assert not guard.judge(52, {"words": 2.0}, 31.0)  # one in fifty does not become usual
    assert guard.judge(53, {"words": 2.0}, 29.0)


def test_what_comes_often_is_no_spike() -> None:
    guard = settled()
    judged = [
        guard.judge(step, {"words": 2.0}, 90.0 if step % 6 == 0 else 3.0) for step in range(51, 500)
    ]
    assert 0 < judged.count(False) <= 10  # until they are known to be usual
    assert all(judged[60:])


def test_what_clipping_tames_is_no_spike() -> None:
    guard = Guard(clip=1.0)
    for step in range(1, 400):
        assert guard.judge(step, {"mood": 0.0}, 1e-3)
    assert guard.judge(400, {"mood": 4.0}, 9.0)  # the one row that it has wrong
    assert not guard.judge(401, {"mood": 4.0}, 11.0)


def test_a_slow_drift_is_no_spike() -> None:
    for factor in (1.02, 1 / 1.02):
        guard = Guard(clip=1e-9)
        norm = 1.0
        for step in range(1, 1001):
            assert guard.judge(step, {"words": 2.0}, norm)
            norm *= factor
        assert not guard.judge(1001, {"words": 2.0}, norm * 40)


def test_too_many_skips_end_the_run() -> None:
    guard = settled()
    for step in range(51, 70):
        assert not guard.judge(step, {"words": math.nan}, math.nan)
    with pytest.raises(
        UserError, match=r"task words: .* not finite at step 70.*train\.learning_rate.*fp32.*stands"
    ):
        guard.judge(70, {"words": math.nan}, math.nan)
    guard = settled()  # a fifth of the updates is the bound: one in six goes on
    for step in range(51, 1000):
        assert guard.judge(step, {"words": 1.0}, math.nan if step % 6 == 0 else 3.0) is (
            step % 6 != 0
        )


def test_a_resumed_guard_judges_as_one_that_never_stopped() -> None:
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0, 4, 600)).tolist()
    norms[100::40] = [math.nan] * 13
    for stop in (0, 30, 55, 300, 590):
        never, verdicts = Guard(1e-9), []
        for step, norm in enumerate(norms):
            if step == stop:
                resumed = Guard(1e-9)
                resumed.load(json.loads(json.dumps(never.state())))
            verdicts.append(never.judge(step, {"words": 1.0}, norm))
            if step >= stop:
                assert resumed.judge(step, {"words": 1.0}, norm) is verdicts[-1]
        assert 13 + 10 < verdicts.count(False) < 100
        assert resumed.state() == never.state()


if __name__ == "__main__":
    compare_shards_with_the_whole()
